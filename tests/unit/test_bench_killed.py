"""What a bench that was killed has left is told with the command that mends it, and the next one mends what
it can.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import paths
from agent.apply import leftovers
from agent.apply.leftovers import Away, Leftovers
from agent.bench.figures import ImagePair
from agent.errors import Exit
from tests.fakes.files import FakeFiles
from tests.unit.bench_node import LAZY, WANTED, BenchNode
from tests.unit.published import Answer, PublishedNode
from tests.unit.test_bench_presence import TAKING, present
from tests.unit.test_cli_bench import Cli

PROC = "/proc/no-such-directory"


class Killed(BaseException):
    """What no handler sees: the process is gone, and with it its memory."""


def killed(node: BenchNode, at: str, *, taking: bool) -> None:
    """A bench of the nydus image that was killed when it had told `at`: nothing was cleared up."""
    rounds = node.rounds(TAKING if taking else WANTED)
    rounds._put_back = lambda images: None  # type: ignore[method-assign]  # nobody does it

    def kill(text: str) -> None:
        if at in text:
            raise Killed

    rounds._tell = kill
    with node.ports.ledger.lock("bench"), pytest.raises(Killed):
        rounds.measure(ImagePair("", LAZY))


def told(node: BenchNode) -> list[str]:
    """What root's verbs say is left."""
    return [
        f"{one.what}: {one.try_}" for one in leftovers.settle(node.files, node.containerd, PROC).problems()
    ]


AWAY = f"{LAZY} was on the node, and a bench that was killed has taken it away: sudo crictl pull {LAZY}"
STILL = f"{LAZY} was pulled by a bench that was killed, and may be on the node still: sudo crictl rmi {LAZY}"


def test_an_image_that_a_killed_bench_took_away_is_named_until_somebody_has_pulled_it() -> None:
    node = BenchNode()
    record = present(node, LAZY)
    node.registries.digests[LAZY] = record.digest
    killed(node, "[1/2] Nydus cold", taking=True)
    node.containerd.namespace_images["k8s.io"].clear()
    assert told(node) == [AWAY]
    assert json.loads(node.files.files[paths.BENCH].content)["away"] == [
        {"name": LAZY, "digest": record.digest, "runtime": ""}
    ]
    node.containerd.put_image(LAZY)
    assert told(node) == []
    assert paths.BENCH not in node.files.files


def test_an_image_that_a_killed_bench_has_pulled_is_named_with_the_command_until_it_is_removed() -> None:
    node = BenchNode()
    killed(node, "[1/2] Nydus cold", taking=False)
    assert told(node) == [STILL]
    node.containerd.namespace_images["k8s.io"].clear()
    assert told(node) == []
    assert paths.BENCH not in node.files.files


def test_the_next_bench_brings_back_what_a_killed_one_took_away_whatever_it_measures(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    record = present(made.node, LAZY)
    made.node.registries.digests[LAZY] = record.digest
    killed(made.node, "[1/2] Nydus cold", taking=True)
    made.node.containerd.namespace_images["k8s.io"].clear()
    made.run("--oci", "registry.test/other:1", "-n", "1", "--yes")
    assert [one.name for one in made.node.containerd.namespace_images["k8s.io"]] == [LAZY]
    assert paths.BENCH not in made.node.files.files


def test_what_cannot_be_brought_back_is_told_by_the_next_bench_and_stays_recorded(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    made.node.containerd.registry.clear()
    leftovers.write(made.node.files, Leftovers(4711, (Away(LAZY, "sha256:one", ""),)))
    made.run("--oci", "registry.test/other:1", "-n", "1", "--yes")
    assert f"{LAZY} was on the node before: it cannot be pulled again" in made.err.getvalue()
    assert leftovers.read(made.node.files).away == (Away(LAZY, "sha256:one", ""),)


def test_a_bench_that_ends_well_leaves_no_record(tmp_path: Path) -> None:
    node = BenchNode()
    record = present(node, LAZY)
    node.registries.digests[LAZY] = record.digest
    seen: list[Leftovers] = []
    rounds = node.rounds(TAKING)
    rounds._tell = lambda _text: seen.append(leftovers.read(node.files))
    rounds.measure(ImagePair("", LAZY))
    assert seen[0].away == (Away(LAZY, record.digest, ""),)
    assert seen[0].pulled == (), "it is to stay"
    assert paths.BENCH not in node.files.files


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"away": [{}]}', b'{"away": 1}', b'{"pid": "x"}'])
def test_a_record_that_is_none_is_nothing_to_undo(content: bytes) -> None:
    assert leftovers.read(FakeFiles({paths.BENCH: content})) == Leftovers()


class TestStatus:
    """Everybody is told, without root."""

    @pytest.fixture
    def node(self, tmp_path: Path) -> PublishedNode:
        node = PublishedNode(tmp_path)
        record = {"kind": "BenchLeftovers", "pid": 99, "away": [], "pulled": [LAZY]}
        (tmp_path / paths.BENCH[1:]).write_text(json.dumps(record))
        return node

    def test_what_a_killed_bench_left_is_a_problem_with_its_command(self, node: PublishedNode) -> None:
        answer = Answer(node)
        assert answer.code == Exit.NOT_AS_WANTED
        assert f"sudo crictl rmi {LAZY}" in answer.text

    def test_one_that_still_runs_will_undo_it_itself(self, node: PublishedNode) -> None:
        (node.root / "proc/99").mkdir()
        (node.root / "proc/99/cmdline").write_bytes(b"/usr/bin/python3\0nydus-agent\0bench\0--yes\0")
        answer = Answer(node)
        assert answer.code == Exit.OK
        assert "crictl" not in answer.text
