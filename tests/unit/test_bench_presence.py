"""A bench of images that are on the node already: what is not ours stays, and what may go for a while comes
back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.bench.cases import Case
from agent.bench.figures import ImagePair
from agent.ports import ImageRecord, ProgramEnd, Timed
from tests.unit.bench_node import BLOB, HEX, LAZY, PAIR, PLAIN, SOCKET, WANTED, BenchNode, counts, reasons


def present(node: BenchNode, *names: str) -> ImageRecord:
    """The nydus image is on the node, under these names, and has run: nydusd's cache of it is filled."""
    for name in names:
        record = node.containerd.put_image(name, layers=(b"bootstrap",), lazy=(BLOB,))
    node.containerd.unpack(record, "nydus")
    node.caches.names = {f"{HEX}.blob.data"}
    node.serve()
    return record


def had_by_its_registry() -> tuple[BenchNode, ImageRecord]:
    """A node on which the nydus image is as its registry has it, and what containerd knows of it."""
    node = BenchNode()
    record = present(node, LAZY)
    node.registries.digests[LAZY] = record.digest
    return node, record


def test_of_an_image_that_is_on_the_node_the_start_from_its_cache_is_measured_and_it_stays() -> None:
    node = BenchNode()
    record = present(node, LAZY)
    rounds = node.rounds()
    measured = rounds.measure(ImagePair(PLAIN, LAZY))
    assert counts(measured) == {Case.OCI: 2, Case.CACHE: 2}
    why = "it is on the node already, and not taken away: --take-away was not given"
    assert set(reasons(measured).values()) == {why}
    assert node.containerd.namespace_images["k8s.io"] == [record]
    assert (node.containerd.pulled, node.caches.names) == ([], {f"{HEX}.blob.data"})
    assert list(rounds.notes) == [f"{LAZY} was on the node: its cases leave the pull out"]


def test_a_start_that_still_fetches_beside_a_pods_container_is_not_counted_as_one_from_the_cache() -> None:
    node = BenchNode()
    present(node, LAZY)

    def reads_on(_argv: tuple[str, ...]) -> Timed:
        read = node.nydusd.metrics[SOCKET]["read_amount_total"]
        assert isinstance(read, int)
        node.nydusd.metrics[SOCKET] = {"read_amount_total": read + 1_000_000}
        return Timed(ProgramEnd.ITSELF, 0, 0.2, 0.5, ("hello",))

    node.programs.act("run", reads_on)
    assert reasons(node.measure(pair=ImagePair("", LAZY)))[Case.CACHE] == "nydusd fetched 1.0 MB again"


def test_of_a_plain_image_that_is_on_the_node_nothing_is_measured_and_it_stays() -> None:
    node = BenchNode()
    record = node.containerd.put_image(PLAIN, layers=(b"plain",))
    assert "on the node already" in reasons(node.measure(pair=ImagePair(PLAIN, "")))[Case.OCI]
    assert node.containerd.namespace_images["k8s.io"] == [record]


TAKING = replace(WANTED, take_away=True)


def test_an_unused_image_is_taken_away_where_that_was_said_and_comes_back_under_all_its_names() -> None:
    node = BenchNode()
    names = (LAZY, f"registry.test/app@{present(BenchNode(), LAZY).digest}")
    record = present(node, *names)
    node.containerd.registry |= set(names)
    node.registries.digests = dict.fromkeys(names, record.digest)
    rounds = node.rounds(TAKING)
    measured = rounds.measure(PAIR)
    assert counts(measured) == dict.fromkeys((Case.OCI, Case.NYDUS, Case.MIRROR, Case.LOCAL, Case.CACHE), 2)
    assert rounds.problems == []
    there = {one.name: one.digest for one in node.containerd.namespace_images["k8s.io"]}
    assert there == dict.fromkeys(names, record.digest)
    assert node.caches.names == set()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (
            lambda node, record: node.containerd.put_container("c" * 64, record, "nydus"),
            f"container {'c' * 13} uses",
        ),
        (lambda node, _: node.registries.digests.clear(), f"its registry has nothing as {LAZY} now"),
        (
            lambda node, _: node.registries.digests.update({LAZY: "sha256:other"}),
            f"has sha256:other as {LAZY} now",
        ),
        (lambda node, _: node.registries.down("registry.test"), "Connection refused"),
        (lambda node, _: node.mark("io.cri-containerd.pinned", "pinned"), "CRI has it pinned"),
        (lambda node, _: node.mark("team", "a"), "the label team, which no pull brings back"),
        (
            lambda node, _: node.containerd.put_image("registry.test/b:1", layers=(b"bootstrap",)),
            "registry.test/b:1 shares 1 of its parts",
        ),
        (
            lambda node, _: node.containerd.put_image("x/y:1", layers=(b"bootstrap",), namespace="moby"),
            "1 of its parts are in containerd's namespace moby too",
        ),
    ],
)
def test_an_image_that_somebody_needs_or_that_would_not_come_back_is_not_taken_away(
    spoil: Callable[[BenchNode, ImageRecord], None], why: str
) -> None:
    node, record = had_by_its_registry()
    spoil(node, record)
    measured = node.measure(TAKING, ImagePair("", LAZY))
    assert why in reasons(measured)[Case.MIRROR]
    assert Case.CACHE in counts(measured)
    assert (LAZY, record.digest) in [
        (one.name, one.digest) for one in node.containerd.namespace_images["k8s.io"]
    ]
    assert f"{HEX}.blob.data" in node.caches.names


def test_an_image_that_does_not_come_back_is_told_with_the_command_that_brings_it() -> None:
    node, _ = had_by_its_registry()
    rounds = node.rounds(TAKING)

    def gone(text: str) -> None:
        node.containerd.registry -= {LAZY} if "[2/2] Nydus cache" in text else set()

    rounds._tell = gone
    rounds.measure(ImagePair("", LAZY))
    assert rounds.problems == [
        f"{LAZY} was on the node before: it cannot be pulled again: failed to resolve {LAZY} (crictl pull)"
    ]


def test_a_signal_in_the_middle_brings_back_what_was_taken_away() -> None:
    node, _ = had_by_its_registry()
    rounds = node.rounds(TAKING)

    def interrupted(text: str) -> None:
        node.stopped = True

    rounds._tell = interrupted
    with pytest.raises(KeyboardInterrupt):
        rounds.measure(ImagePair("", LAZY))
    assert [one.name for one in node.containerd.namespace_images["k8s.io"]] == [LAZY]
    assert (rounds.problems, node.route.at_origin) == ([], False)
