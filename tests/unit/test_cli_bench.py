"""`nydus-agent bench` on the command line: told before it is done, refused where it must be, and its answer
as a table, as JSON and as a chart.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import cli
from agent.cli import build_parser
from agent.commands import bench
from agent.commands.bench.mirror import Lever
from agent.commands.context import Context
from agent.config.model import Config
from agent.console import Console, Format
from agent.errors import Exit, LockedError, UsageError
from agent.ports import ProgramEnd, Timed
from tests.fakes.clock import FakeClock
from tests.unit.bench_node import LAZY, PLAIN, BenchNode
from tests.unit.published import PublishedNode
from tests.unit.test_cli_route import daemon, obedient
from tests.unit.test_schema import complaints


class Cli:
    """One command line on a node of fakes, below a directory whose agent publishes what it sees."""

    def __init__(self, root: Path) -> None:
        self.published = PublishedNode(root)
        self.published.status["mode"] = (
            "native"  # reads cannot be pinned: the route is not what is tested here
        )
        self.published.write()
        self.node = BenchNode()
        self.out, self.err = io.StringIO(), io.StringIO()

    def run(self, *words: str, form: Format = Format.TEXT) -> Exit:
        parser = build_parser([verb for verb in cli.VERBS if verb.name == "bench"])
        args: argparse.Namespace = parser.parse_args(["bench", *words])
        context = Context(
            Console(self.out, self.err, form), 0, {"SUDO_USER": "mo"}, root=str(self.published.root)
        )
        return bench.carry_out(args, context, self.node.ports, self.node.registries.ports, Config())


IMAGES = ("--oci", PLAIN, "--nydus", LAZY, "-n", "2")


def test_a_secret_that_a_killed_bench_has_left_goes_with_the_next_one_whatever_it_pulls(
    tmp_path: Path,
) -> None:
    made = Cli(tmp_path)
    made.node.hosts.held = "Authorization = 'Basic c2VjcmV0'"
    made.run("--nydus", LAZY, "-n", "1", "--yes")
    assert (made.node.hosts.held, made.node.hosts.contents) == ("", [])


def test_without_yes_what_would_be_done_is_told_and_nothing_is_touched(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    with pytest.raises(UsageError) as caught:
        made.run(*IMAGES)
    assert caught.value.code == "NNA1002"
    told = made.err.getvalue()
    for part in (
        "nydus-agent-bench",
        "k8s.io",
        "pinned to the origin",
        "dfdaemon forgets",
        "page cache",
        "No image that",
    ):
        assert part in told
    assert (made.node.programs.ran, made.node.processes.ran, made.node.caches.dropped) == ([], [], 0)


def test_the_table_the_order_and_where_bytes_were_counted_are_told(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    assert made.run(*IMAGES, "--yes") is Exit.OK
    told = made.out.getvalue()
    assert "hit on a remote peer    not run: no other peer had the image's data" in told
    assert "Nydus cold" in told
    assert "not run: reads cannot be pinned on this node now" in told
    assert "not as on the page: hit on the local peer slower than Nydus cache" in told
    assert "read_amount_total" in told
    assert made.node.left() == []


def test_the_answer_is_as_the_schema_describes_and_the_chart_is_drawn(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    assert (
        made.run(*IMAGES, "--yes", "--chart", "x.svg", "--command", "python3 -V", form=Format.JSON) is Exit.OK
    )
    document = json.loads(made.out.getvalue())
    assert complaints(document) == []
    assert document["pairs"][0]["cases"][0]["case"] == "oci-cold"
    assert made.node.drawing.drawn["x.svg"].title == "time to ready: python3 -V, median of 2 and range"


def test_where_nothing_could_be_measured_the_answer_is_that_it_could_not_be_told(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    made.node.containerd.put_image("registry.test/other:1", layers=(b"plain",))
    assert made.run("--oci", PLAIN, "--yes") is Exit.UNKNOWN
    assert "NNA1707" in made.err.getvalue()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), "NNA1002"),
        (("--oci", "a", "--oci", "b", "--nydus", "c"), "NNA1002"),
        (("--oci", "a", "--ready", "("), "NNA1002"),
        (("--oci", "a", "--command", "'"), "NNA1002"),
        (("--oci", "a", "--chart", "x.pdf"), "NNA1002"),
        (("--oci", "a", "--chart", "/no/x.svg"), "NNA1002"),
        (("--oci", "UPPER/Case:1"), "NNA1002"),
        (("--oci", "a", "-n", "0"), "NNA1002"),
        (("--oci", "a", "--deadline", "1s"), "NNA1002"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused_before_anything(
    tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    made = Cli(tmp_path)
    with pytest.raises(UsageError) as caught:
        made.run(*words, "--yes")
    assert caught.value.code == code
    assert made.node.programs.ran == []


def test_a_chart_that_cannot_be_drawn_is_told_before_minutes_are_spent(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    made.node.drawing.absent = "python3-matplotlib"
    with pytest.raises(UsageError) as caught:
        made.run(*IMAGES, "--yes", "--chart", "x.svg")
    (problem,) = caught.value.problems
    assert (caught.value.code, problem.action) == ("NNA1002", "apt install python3-matplotlib")
    assert made.node.programs.ran == []


def test_a_bench_waits_for_nobody_who_holds_the_lock(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    made.node.ledger.held = "apply, process 17"
    with pytest.raises(LockedError):
        made.run(*IMAGES, "--yes")
    assert made.node.programs.ran == []


def test_a_failure_to_clear_up_is_an_error_whatever_was_measured(tmp_path: Path) -> None:
    made = Cli(tmp_path)

    def last_removal_fails(text: str) -> None:
        if "[2/2] Nydus cache" in text:
            made.node.stays = "busy"

    class Err(io.StringIO):
        def write(self, text: str) -> int:
            last_removal_fails(text)
            return super().write(text)

    made.err = Err()
    assert made.run(*IMAGES, "--yes") is Exit.FAILED
    assert "error[NNA1701]" in made.err.getvalue()
    assert "not cleared up: ctr failed: busy" in made.err.getvalue()


def test_all_that_is_wrong_with_a_command_line_is_told_at_once(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    with pytest.raises(UsageError) as caught:
        made.run(
            "--oci", "A", "--oci", "b", "--nydus", "c@d", "--ready", "(", "--command", "'", "--chart", "x.pdf"
        )
    assert [problem.key for problem in caught.value.problems] == [
        "--oci, --nydus", "--oci", "--nydus", "--ready", "--command", "--chart",
    ]  # fmt: skip


def test_what_was_measured_is_not_lost_for_another_image_that_cannot_be_pulled(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    made.node.programs.act(
        "registry.test/other:1", lambda _argv: Timed(ProgramEnd.ITSELF, 1, 0.1, 0.2, ("not found",))
    )
    words = ("--oci", PLAIN, "--oci", "registry.test/other:1", "-n", "1", "--yes")
    assert made.run(*words, form=Format.JSON) is Exit.FAILED
    document = json.loads(made.out.getvalue())
    assert complaints(document) == []
    assert [pair["oci"] for pair in document["pairs"]] == [PLAIN]
    (error,) = document["errors"]
    assert (error["code"], error["seen"]) == ("NNA1701", ["not found"])


class Stopped(io.StringIO):
    """A terminal at which somebody ends the bench as soon as it has told `at`."""

    def __init__(self, at: str, number: signal.Signals) -> None:
        super().__init__()
        self._at, self._number = at, number

    def write(self, text: str) -> int:
        if self._at in text:
            signal.raise_signal(self._number)
        return super().write(text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_measured_before_a_signal_is_told_as_incomplete_and_nothing_is_left(
    tmp_path: Path, number: signal.Signals
) -> None:
    made = Cli(tmp_path)
    made.err = Stopped("[1/2] hit on the local peer", number)
    with pytest.raises(KeyboardInterrupt):
        made.run(*IMAGES, "--yes", "--chart", "x.svg")
    told = made.out.getvalue()
    assert "incomplete: somebody stopped it; n says how often each case was measured" in told
    assert "OCI cold                2  " in told
    assert "Nydus + Dragonfly cold  1  " in told
    assert "Nydus cache             not run: the bench was ended before it: somebody stopped it" in told
    assert made.node.drawing.drawn["x.svg"].title.endswith("median of 2 and range, incomplete")
    assert made.node.left() == []


def test_a_script_reads_what_was_measured_before_a_signal_and_that_it_is_not_all(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    made.err = Stopped("[1/2] OCI cold", signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        made.run(
            *IMAGES, "--oci", "registry.test/b:1", "--nydus", "registry.test/b:n", "--yes", form=Format.JSON
        )
    document = json.loads(made.out.getvalue())
    assert complaints(document) == []
    assert document["interrupted"] is True
    (pair,) = document["pairs"]
    assert pair["incomplete"] == "somebody stopped it"
    assert [case["case"] for case in pair["cases"] if case["runs"]] == ["oci-cold"]
    assert "b:1 was not begun: somebody stopped it" in document["notes"]


def test_a_signal_before_anything_was_measured_prints_no_empty_table(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    made.err = Stopped("a first start", signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        made.run(*IMAGES, "--yes")
    assert made.out.getvalue() == ""
    assert made.node.left() == []


def test_a_containerd_that_restarts_in_the_middle_costs_no_figure_and_nothing_is_left(tmp_path: Path) -> None:
    made = Cli(tmp_path)
    containerd, clock = made.node.containerd, made.node.clock

    class Err(io.StringIO):
        def write(self, text: str) -> int:
            if "[2/2] OCI cold" in text:
                containerd.down_for(8.0)
            return super().write(text)

    made.err = Err()
    began = clock.monotonic()
    assert made.run(*IMAGES, "--yes", form=Format.JSON) is Exit.FAILED
    document = json.loads(made.out.getvalue())
    (pair,), (error,) = document["pairs"], document["errors"]
    assert {case["case"]: len(case["runs"]) for case in pair["cases"] if case["runs"]} == {"oci-cold": 2}
    assert (error["code"], error["cause"]) == ("NNA0602", "connection refused")
    assert pair["incomplete"].endswith("connection refused")
    assert clock.monotonic() - began >= 8
    assert made.node.left() == []


class TestLever:
    """The route moves by the pin that `route pin` sets, and goes back."""

    @pytest.fixture
    def node(self, tmp_path: Path) -> PublishedNode:
        return PublishedNode(tmp_path)

    def lever(
        self, node: PublishedNode, clock: FakeClock | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> Lever:
        context = Context(Console(io.StringIO(), io.StringIO()), 0, {}, root=str(node.root))
        return Lever(context, clock or FakeClock(node.now), stopped)

    def test_reads_go_to_the_origin_and_come_back(self, node: PublishedNode) -> None:
        lever = self.lever(node)
        with daemon(node, obedient(node)):
            assert lever.origin(60) == ""
            assert node.status["route"] == "origin"
            assert lever.mirror(5) == ""
            assert node.status["route"] == "mirror"
            assert lever.release() == ""

    def test_a_signal_does_not_wait_for_a_fleets_window_to_go_by(self, node: PublishedNode) -> None:
        node.status |= {"route": "origin", "mode": "fence"}
        node.write()
        clock = FakeClock(node.now)
        began = clock.monotonic()
        lever = self.lever(node, clock, lambda: clock.monotonic() - began >= 1)
        assert lever.mirror(3600).startswith("reads go to the origin")
        assert clock.monotonic() - began < 2

    def test_a_pin_of_somebody_else_is_left_alone(self, node: PublishedNode) -> None:
        node.status["pin"] = {"route": "mirror", "until": node.now + 600, "reason": "", "by": "mo"}
        node.write()
        lever = self.lever(node)
        assert lever.origin(60) == "the route is pinned to the mirror"
        assert lever.release() == ""
        assert not (node.root / "var/lib/nydus-agent/pin.json").exists()

    def test_a_node_without_a_fence_says_why_reads_cannot_be_moved(self, node: PublishedNode) -> None:
        node.status["mode"] = "native"
        node.write()
        assert "only the fence can move reads" in self.lever(node).origin(60)
        assert self.lever(node).mirror(1) == ""
