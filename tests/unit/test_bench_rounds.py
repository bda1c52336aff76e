"""A bench on a node of fakes: what can be given is measured, what cannot says why, and nothing is left."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.bench.cases import Case
from agent.bench.figures import ImagePair
from agent.config.model import (
    Config,
    ContainerdConfig,
    ContainerdMode,
    RegistriesConfig,
    RegistryHost,
    Scheme,
)
from agent.errors import AgentError, CredentialError
from agent.ports import HttpAnswer, ProgramEnd, Timed
from tests.fakes.http import Request
from tests.unit.bench_node import (
    BLOB,
    HEX,
    LAZY,
    NEEDED,
    PAIR,
    PLAIN,
    WANTED,
    WHOLE,
    BenchNode,
    counts,
    reasons,
)
from tests.unit.small_registries import AUTH, SECRET, USER


def test_five_cases_are_measured_the_sixth_is_told_and_the_node_is_as_it_was() -> None:
    node = BenchNode()
    measured = node.measure()
    assert counts(measured) == dict.fromkeys((Case.OCI, Case.NYDUS, Case.MIRROR, Case.LOCAL, Case.CACHE), 2)
    assert reasons(measured) == {
        Case.REMOTE: "no other peer had the image's data: 0.0 MB of the 120.0 MB that dfdaemon brought in 2 "
        "cold starts came from other peers, the rest from the origin"
    }
    assert node.left() == []
    results = {result.case: result.runs[0].counted for result in measured.results if result.runs}
    assert (results[Case.NYDUS].fetched, results[Case.NYDUS].source) == (NEEDED, 0)
    assert (results[Case.MIRROR].source, results[Case.LOCAL].source, results[Case.LOCAL].local) == (
        WHOLE,
        0,
        NEEDED,
    )
    assert (results[Case.CACHE].fetched, results[Case.CACHE].pulled) == (0, 0)


def test_each_cold_start_drops_the_page_cache_and_one_that_cannot_be_dropped_is_noted() -> None:
    node = BenchNode()
    node.measure()
    assert node.caches.dropped == 1 + 2 * 5
    node = BenchNode()
    node.caches.locked = "Read-only file system"
    rounds = node.rounds()
    rounds.measure(PAIR)
    assert list(rounds.notes) == ["the page cache cannot be dropped: Read-only file system"]


def test_data_that_another_peer_had_counts_as_the_remote_peers_case() -> None:
    node = BenchNode()
    node.peer_has_it = True
    measured = node.measure()
    assert counts(measured)[Case.REMOTE] == 2
    assert reasons(measured) == {
        Case.MIRROR: "other peers had the image's data each time: 0.0 MB of the 120.0 MB that dfdaemon "
        "brought in 2 cold starts came from the origin, the rest from them"
    }


def test_without_a_mirror_its_cases_are_not_run_and_the_others_are() -> None:
    node = BenchNode()
    node.http = type(node.http)()
    node.route.stuck = "reads cannot be pinned on this node now: nothing was applied"
    measured = node.measure()
    why = reasons(measured)
    assert why[Case.NYDUS] == node.route.stuck
    assert {why[case] for case in (Case.MIRROR, Case.REMOTE, Case.LOCAL)} == {
        "no mirror tells what it brings: http://127.0.0.1:4002/metrics does not answer"
    }
    assert counts(measured) == {Case.OCI: 2, Case.CACHE: 2}


def test_a_dfdaemon_that_cannot_forget_gives_hits_and_no_cold_start() -> None:
    node = BenchNode()
    node.peer.down = "UNAVAILABLE no such file"
    measured = node.measure()
    assert Case.LOCAL in counts(measured)
    assert "cannot be removed" in reasons(measured)[Case.MIRROR]
    assert "no such file" in reasons(measured)[Case.REMOTE]


def test_a_dfdaemon_that_is_restarted_meanwhile_costs_that_start_alone_and_no_figure_is_made_up() -> None:
    node = BenchNode()
    rounds = node.rounds()

    def restarted(argv: tuple[str, ...]) -> Timed:
        last = "".join(node.told[-1:])
        if "[1/2] hit on the local peer" in last or "[1/2] Nydus cold" in last:
            node.traffic = dict.fromkeys(node.traffic, 0)
        return node.run(argv)

    node.traffic = dict.fromkeys(node.traffic, 5)
    node.programs.act("run", restarted)
    measured = rounds.measure(PAIR)
    assert counts(measured)[Case.OCI] == 2
    sizes = [run.counted.source for result in measured.results for run in result.runs]
    assert None in sizes
    assert min(size for size in sizes if size is not None) == 0


def test_a_dfdaemon_that_does_not_forget_once_costs_that_round_alone() -> None:
    node = BenchNode()
    rounds = node.rounds()

    def down_for_a_while(text: str) -> None:
        node.peer.down = "UNAVAILABLE" if "[1/2] Nydus cache" in text else ""

    rounds._tell = down_for_a_while
    measured = rounds.measure(PAIR)
    assert counts(measured) == {Case.OCI: 2, Case.NYDUS: 2, Case.MIRROR: 1, Case.LOCAL: 2, Case.CACHE: 2}
    assert list(rounds.notes) == [
        "a start that was meant as Nydus + Dragonfly cold is not counted: ListLocalTasks failed on "
        "/run/dfdaemon.sock: UNAVAILABLE"
    ]


def test_reads_that_go_around_the_mirror_are_counted_as_no_case() -> None:
    node = BenchNode()
    node.route.mirror = lambda seconds: ""  # type: ignore[method-assign]  # the fence stays up unseen
    node.route.at_origin = True
    rounds = node.rounds()
    measured = rounds.measure(PAIR)
    assert "only 0.0 MB of 10.0 MB came through the mirror" in reasons(measured)[Case.LOCAL]
    assert any("meant as hit on the local peer is not counted" in note for note in rounds.notes)


@pytest.mark.parametrize("name", [LAZY, "registry.test/app@sha256:" + "a" * 64])
def test_what_nydusd_fetched_is_known_of_an_image_with_a_tag_and_of_one_with_a_digest(name: str) -> None:
    node = BenchNode()
    node.containerd.registry = {name}
    node.lazy = name
    assert Case.MIRROR in counts(node.measure(pair=ImagePair("", name)))


def test_layers_of_other_images_stay_and_make_the_case_not_cold() -> None:
    node = BenchNode()
    other = node.containerd.put_image("registry.test/other:1", layers=(b"plain",))
    node.caches.names = {f"{HEX}.blob.data"}
    measured = node.measure()
    why = reasons(measured)
    assert set(why) == set(Case)
    assert {"of its parts were on the node before" in text for text in why.values()} == {True}
    assert node.containerd.namespace_images["k8s.io"] == [other]
    assert node.caches.names == {f"{HEX}.blob.data"}


def test_a_bench_ends_only_when_containerd_has_collected_its_images_so_that_the_next_start_is_cold() -> None:
    node = BenchNode()
    node.containerd.late_s = 5.0
    measured = node.measure()
    assert node.left() == []
    assert Case.MIRROR in counts(measured)
    assert node.clock.monotonic() - 1000 > 5.0 * 11, "each of eleven removals was waited for"


def test_what_is_still_there_of_an_image_that_others_need_by_now_is_told() -> None:
    node = BenchNode()
    rounds = node.rounds()

    def others_need_it(text: str) -> None:
        node.containerd.late_s = 3600.0 if "[2/2] Nydus cache" in text else 0.0

    rounds._tell = others_need_it
    rounds.measure(PAIR)
    assert rounds.problems == [
        f"{PLAIN} cannot be made cold: 1 of its snapshots stay: other images or containers need them",
        f"{LAZY} cannot be made cold: 2 of its snapshots stay: other images or containers need them",
    ]


@pytest.mark.parametrize(
    ("free", "kubelet", "why"),
    [
        (14 << 30, True, "from 85 % on the kubelet removes images and ends pods"),
        (14 << 30, False, ""),
        (
            1 << 29,
            False,
            "only 0.5 of 107.4 GB are free below /var/lib/containerd-nydus: images could fill them",
        ),
    ],
)
def test_a_disk_that_is_nearly_full_gets_no_images(free: int, kubelet: bool, why: str) -> None:
    node = BenchNode()
    node.caches.free = free
    if kubelet:
        node.files.put("/var/lib/kubelet/config.yaml", b"")
    told = reasons(node.measure(WANTED, PAIR))
    assert (why in told[Case.OCI]) if why else (Case.OCI not in told)
    assert bool(node.programs.ran) is not bool(why)


def test_an_image_that_leaves_too_little_room_is_removed_after_its_first_start() -> None:
    node = BenchNode()

    def fills(argv: tuple[str, ...]) -> Timed:
        node.caches.free = 1 << 29
        return node.run(argv)

    node.programs.act("run", fills)
    assert "images could fill them" in reasons(node.measure(WANTED, ImagePair("", LAZY)))[Case.CACHE]
    assert len(node.programs.ran) == 1
    assert node.left() == []


def test_another_name_of_the_same_image_stays() -> None:
    node = BenchNode()
    other = node.containerd.put_image("registry.test/app:old", layers=(b"bootstrap",), lazy=(BLOB,))
    measured = node.measure(pair=ImagePair("", LAZY))
    assert "cannot be made cold" in reasons(measured)[Case.NYDUS]
    assert [one.name for one in node.containerd.namespace_images["k8s.io"]] == [other.name]


def test_a_command_that_fails_ends_the_bench_with_its_last_lines_and_nothing_is_left() -> None:
    node = BenchNode()
    node.programs.act("run", lambda _argv: Timed(ProgramEnd.ITSELF, 1, 0.1, 0.2, ("no such file: python3",)))
    with pytest.raises(AgentError) as caught:
        node.measure()
    assert (caught.value.code, caught.value.cause) == ("NNA1701", "it ended with 1")
    assert caught.value.seen == ("no such file: python3",)
    assert node.left() == []


@pytest.mark.parametrize(
    ("timed", "cause"),
    [
        (Timed(ProgramEnd.DEADLINE, None, 0.1, 0.0, ()), "not done within 30 s"),
        (Timed(ProgramEnd.ITSELF, 0, 0.1, 0.2, ()), "it ended with 0, and never said what was waited for"),
    ],
)
def test_a_container_that_is_never_ready_is_told_and_removed(timed: Timed, cause: str) -> None:
    node = BenchNode()
    node.programs.act("run", lambda _argv: timed)
    with pytest.raises(AgentError) as caught:
        node.measure(replace(WANTED, ready="listening"))
    assert caught.value.cause == cause
    assert any(argv[-3:-1] == ("containers", "delete") or "containers" in argv for argv in node.processes.ran)
    assert node.left() == []


def test_a_server_that_never_ends_is_told_what_it_needs_to_be_measured() -> None:
    node = BenchNode()
    node.programs.act("run", lambda _argv: Timed(ProgramEnd.DEADLINE, None, 0.1, 0.0, ("listening",)))
    with pytest.raises(AgentError) as caught:
        node.measure()
    assert "a server, needs --ready" in caught.value.cause
    assert node.left() == []


def test_a_signal_in_the_middle_leaves_the_node_as_it_was() -> None:
    node = BenchNode()

    def interrupted(text: str) -> None:
        node.stopped = node.stopped or "[1/2] Nydus cold" in text

    rounds = node.rounds()
    rounds._tell = interrupted
    with pytest.raises(KeyboardInterrupt):
        rounds.measure(PAIR)
    assert node.left() == []
    assert rounds.problems == []


def test_a_signal_does_not_wait_for_a_dfdaemon_that_others_keep_busy() -> None:
    node = BenchNode()
    through: list[float] = []

    def busy(request: Request) -> HttpAnswer:
        node.traffic["LOCAL_PEER"] += 1
        if "Nydus cold" in node.told[-1] and not node.route.at_origin:
            through.append(node.clock.monotonic())
            node.stopped = len(through) >= 10  # the image has been started, and dfdaemon is waited for
        return node.metrics(request)

    node.http.on("http://127.0.0.1:4002/metrics", busy)
    with pytest.raises(KeyboardInterrupt):
        node.measure()
    assert node.clock.monotonic() - through[0] < 30
    assert node.left() == []


def test_what_cannot_be_cleared_up_is_told_and_the_rest_is_cleared_up() -> None:
    node = BenchNode()
    rounds = node.rounds()

    def fails(_text: str) -> None:
        node.stopped, node.stays = True, "device or resource busy"

    rounds._tell = fails
    with pytest.raises(KeyboardInterrupt):
        rounds.measure(PAIR)
    assert set(rounds.problems) == {"ctr failed: device or resource busy"}
    assert not node.route.at_origin


def test_one_image_alone_is_measured_and_the_missing_one_is_named() -> None:
    node = BenchNode()
    assert reasons(node.measure(pair=ImagePair(PLAIN, "")))[Case.CACHE] == "no nydus image was named"
    assert reasons(node.measure(pair=ImagePair("", LAZY)))[Case.OCI] == "no plain image was named"


def test_where_cri_does_not_use_the_snapshotter_nydus_is_not_run() -> None:
    node = BenchNode()
    config = Config(containerd=ContainerdConfig(mode=ContainerdMode.PLUGIN_ONLY))
    measured = node.rounds(config=config).measure(PAIR)
    assert counts(measured) == {Case.OCI: 2}
    assert "plugin-only" in reasons(measured)[Case.CACHE]


def test_private_images_are_pulled_with_the_nodes_credentials_and_no_secret_is_on_a_command_line() -> None:
    node = BenchNode()
    node.registries.private.add("registry.test")
    document = {"auths": {"registry.test": {"auth": AUTH}}}
    node.registries.files.put("/root/.docker/config.json", json.dumps(document).encode(), mode=0o600)
    measured = node.measure()
    assert counts(measured)[Case.OCI] == 2
    assert node.hosts.contents == [
        f'server = "https://registry.test"\n\n[host]\n\n[header]\n  Authorization = "Basic {AUTH}"\n'
    ] * 3  # fmt: skip
    asked_as = node.containerd.asked_as
    assert asked_as is not None
    assert (asked_as.username, asked_as.password.reveal()) == (USER, SECRET)
    command_lines = [word for argv in (*node.programs.ran, *node.processes.ran) for word in argv]
    assert [word for word in command_lines if SECRET in word or AUTH in word] == []
    assert node.left() == []


def test_a_public_image_is_pulled_with_no_credential_from_the_registry_itself_by_its_scheme_and_ca() -> None:
    node = BenchNode()
    host = RegistryHost("registry.test", Scheme.HTTPS, "/etc/ssl/site.pem")
    config = Config(registries=RegistriesConfig(hosts=(host,)))
    node.rounds(config=config).measure(ImagePair(PLAIN, ""))
    assert set(node.hosts.contents) == {
        'server = "https://registry.test"\nca = "/etc/ssl/site.pem"\n\n[host]\n'
    }
    assert node.containerd.asked_as is None


def test_a_registry_that_refuses_this_node_is_told_with_what_was_tried() -> None:
    node = BenchNode()
    node.registries.private.add("registry.test")
    with pytest.raises(CredentialError) as caught:
        node.measure()
    assert caught.value.code == "NNA1205"
    assert caught.value.seen == ("/root/.docker/config.json: there is no such file",)
    assert node.left() == []
