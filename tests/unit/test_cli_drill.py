"""A drill on a node whose agent is a script: refused where it could do harm, measured where it may, ended
always.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.catalogue import Message
from agent.commands import drill
from agent.commands.context import Context
from agent.console import Console, Format
from agent.daemon.http_client import Url
from agent.daemon.settings import Settings
from agent.errors import AgentError, Exit, FenceError, LockedError
from agent.health.policy import Policy
from agent.ports import DrillKind, DrillPorts
from tests.fakes.clock import FakeClock
from tests.fakes.daemon import FakeCgroups
from tests.fakes.drill import FakeDrill
from tests.fakes.ledger import FakeLedger
from tests.unit.published import PID, PublishedNode, Run
from tests.unit.test_schema import complaints

POLICY = Policy(return_delay_s=20.0, canary_window_s=1.2)


class BusyClock(FakeClock):
    """While somebody sleeps on it, the node's daemon does its work."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.work: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.work()


class Rehearsed:
    """A node whose daemon switches `reaction_s` after the mirror looks dead, and back `return_s` after it is
    back.
    """

    def __init__(self, root: Path, *, reaction_s: float | None = 0.38, return_s: float | None = 24.9) -> None:
        self.node = PublishedNode(root)
        self.clock = BusyClock(self.node.now)
        self.clock.work = self._work
        self.drill = FakeDrill(self.clock)
        self.ledger = FakeLedger()
        self.reaction_s, self.return_s = reaction_s, return_s
        self.force = False
        self.at_work: Callable[[], None] = lambda: None
        self.out, self.err = io.StringIO(), io.StringIO()
        self._dead_since: float | None = None
        self._well_since: float | None = None
        self.node.status["penalty"] = {"value": 0.0, "held": False, "reuse": 750.0}
        self.node.write()

    def _work(self) -> None:
        """One round of the daemon, at the clock's present."""
        now, status = self.clock.now(), self.node.status
        if self.drill.active:
            self._dead_since = self._dead_since if self._dead_since is not None else now
            if (
                self.reaction_s is not None
                and now - self._dead_since >= self.reaction_s
                and status["route"] == "mirror"
            ):
                entry = {"at": now, "from": "healthy", "to": "down", "route": "origin",
                         "reason": "ping refused", "evidence": "4003"}  # fmt: skip
                status |= {"route": "origin", "health_state": "down", "health_reason": "ping refused",
                           "route_since": now, "return": {"waits_for": ["its slot"], "seconds": 20.0},
                           "history": [entry]}  # fmt: skip
                status["fence"]["destroyed_connections"] = 1
        elif self._dead_since is not None and status["route"] == "origin":
            self._well_since = self._well_since if self._well_since is not None else now
            if self.return_s is not None and now - self._well_since >= self.return_s:
                status |= {
                    "route": "mirror",
                    "health_state": "healthy",
                    "health_reason": "well again",
                    "route_since": now,
                }
        status["at"] = now
        self.node.write_status()
        self.at_work()

    def run(self, kind: str = "mirror-down", seconds: int = 30, form: Format = Format.TEXT) -> Exit:
        args = argparse.Namespace(kind=kind, seconds=seconds, force=self.force)
        console = Console(self.out, self.err, form)
        context = Context(console, 0, {"SUDO_USER": "mo"}, root=str(self.node.root))
        ports = DrillPorts(self.drill, FakeCgroups(), self.ledger, self.clock)
        proxy, ping = Url("127.0.0.1", 4001, "/"), Url("127.0.0.1", 4003, "/healthy")
        settings = Settings("http://127.0.0.1:4001", proxy, ping, POLICY, frozenset({0}), ())
        return drill.carry_out(args, context, ports, settings)

    @property
    def told(self) -> list[str]:
        """The lines, without their times."""
        return [line.partition("] ")[2] or line for line in self.out.getvalue().splitlines()]

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out.getvalue())
        return document


def test_a_switch_is_measured_there_and_back(tmp_path: Path) -> None:
    made = Rehearsed(tmp_path)
    with capture_logs() as logs:
        assert made.run() is Exit.OK
    assert made.told == [
        "connections to 127.0.0.1:4001 are refused for 30 s; this counts as an outage; reads should be back "
        "within 26 s after it, of which 20 s are this node's slot in the fleet's return",
        "the drill begins: ended are 2 connections of nydusd and 3 of the agent",
        "reads go to the origin, after 450 ms: ping refused (4003)",
        "the agent has ended 1 connection of nydusd meanwhile",
        "the drill ends: the mirror is back",
        "reads go to the mirror again, after 25.0 s: well again",
        "reads switched in 450 ms and were back 25.0 s after the mirror",
    ]
    assert made.err.getvalue() == ""
    ((kind, scope, seconds),) = made.drill.begun
    assert (kind, seconds) == (DrillKind.DOWN, 30)
    assert (scope.proxy, scope.ping) == (("127.0.0.1", 4001), ("127.0.0.1", 4003))
    assert scope.agent_uid == (made.node.root / f"proc/{PID}").stat().st_uid
    assert scope.nydusd == ("/system.slice/nydus-snapshotter.service",)
    assert not made.drill.active
    assert {entry["message_id"] for entry in logs} == {Message.DRILL}
    assert [entry["event"] for entry in logs] == [
        "drill mirror-down for 30 s, asked for by mo: begins",
        "drill mirror-down for 30 s, asked for by mo: reads switched in 450 ms and were back 25.0 s after "
        "the mirror",
    ]


@pytest.mark.parametrize(
    ("reaction_s", "return_s", "exit_", "result", "problem"),
    [
        (0.38, 24.9, Exit.OK, "switched", ""),
        (1.4, 24.9, Exit.NOT_AS_WANTED, "slow", "NNA1022"),
        (None, 24.9, Exit.FAILED, "not-switched", "NNA1021"),
        (0.38, None, Exit.NOT_AS_WANTED, "not-back", "NNA1022"),
    ],
)
def test_a_machine_gets_one_document_with_the_result_and_what_is_wrong(
    tmp_path: Path, reaction_s: float | None, return_s: float | None, exit_: Exit, result: str, problem: str
) -> None:
    made = Rehearsed(tmp_path, reaction_s=reaction_s, return_s=return_s)
    began = made.clock.monotonic()
    assert made.run("mirror-hang", 60, Format.JSON) is exit_
    document = made.json
    assert complaints(document) == []
    assert (document["drill"], document["result"], document["exit"]) == ("mirror-hang", result, exit_)
    assert (document["by"], document["struck"]) == ("mo", {"nydusd": 2, "agent": 3})
    assert (document["problem"] or {"code": ""})["code"] == problem
    assert "silenced are 2 connections" in made.err.getvalue()
    assert not made.drill.active
    if result == "not-switched":
        assert made.clock.monotonic() - began == pytest.approx(drill.SWITCH_S, abs=0.1), "ended at once"
    if result == "not-back":
        assert document["problem"]["cause"] == "the agent still waits for: its slot"


def test_a_drill_is_given_up_where_reads_leave_the_origin(tmp_path: Path) -> None:
    made = Rehearsed(tmp_path)

    def flips() -> None:
        if made.clock.now() - made.node.now > 10 and made.drill.active:
            made.node.status |= {"route": "mirror", "route_reason": "the origin is bad"}
            made.reaction_s = None
            made.node.write_status()

    made.at_work = flips
    assert made.run() is Exit.FAILED
    assert not made.drill.active
    assert made.clock.now() - made.node.now < 11
    why = "reads went to the mirror before its end: the origin is bad"
    assert f"the drill ends early, because {why}: the mirror is back" in made.told
    assert f"error[NNA1021]: the drill was given up\ncause: {why}\n" in made.err.getvalue()


def test_a_drill_is_given_up_where_the_agent_is_gone_but_not_for_a_restart(tmp_path: Path) -> None:
    made = Rehearsed(tmp_path)

    def dies() -> None:
        since = made.clock.now() - made.node.now
        if (10 < since < 13 or since > 20) and (made.node.root / f"proc/{PID}").exists():
            made.node.kill()
        elif 13 < since < 20 and not (made.node.root / f"proc/{PID}").exists():
            (made.node.root / f"proc/{PID}").mkdir()
            made.node.process("0::/system.slice/nydus-agent.service\n")

    made.at_work = dies
    assert made.run(form=Format.JSON) is Exit.FAILED
    assert 23 < made.clock.now() - made.node.now < 25
    assert (made.json["result"], made.json["given_up"]) == ("given-up", "the agent is gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_drill_and_the_mirror_is_back(tmp_path: Path, number: signal.Signals) -> None:
    made = Rehearsed(tmp_path)

    def interrupt() -> None:
        if made.clock.now() - made.node.now > 7 and made.drill.active:
            os.kill(os.getpid(), number)

    made.at_work = interrupt
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        made.run(form=Format.JSON)
    assert not made.drill.active
    assert (made.json["result"], made.json["stopped"], made.json["exit"]) == (
        "interrupted",
        number.name,
        None,
    )
    assert made.clock.now() - made.node.now < 8
    assert signal.getsignal(number) == before


def test_a_drill_that_cannot_begin_is_an_error_and_over(tmp_path: Path) -> None:
    made = Rehearsed(tmp_path)
    made.drill.faults.at(1, FenceError("NNA0801", "nft refused a command", cause="x"))
    with pytest.raises(FenceError):
        made.run()
    assert (made.drill.active, made.ledger.held) == (False, "")


def test_no_change_and_no_other_drill_is_under_way_meanwhile(tmp_path: Path) -> None:
    made = Rehearsed(tmp_path)
    held: set[str] = set()
    made.at_work = lambda: held.add(made.ledger.held)
    made.run()
    assert held == {"drill mirror-down"}
    made.ledger.held = "process 7 (nydus-agent apply)"
    with pytest.raises(LockedError):
        made.run()


def gone(node: PublishedNode) -> None:
    node.kill()


def pinned(node: PublishedNode) -> None:
    node.change({"pin": {"route": "mirror", "until": 600.0, "reason": "", "by": "jo"}})


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (gone, "the agent is gone"),
        (pinned, "pinned to the mirror"),
        ({"mode": "native", "mode_reason": "no nft"}, "the mode is native: no nft"),
        ({"health_state": "suspect", "health_reason": "a read was cut"}, "suspect: a read was cut"),
        ({"health_state": "down", "route": "origin"}, "reads go to the origin, the mirror is down"),
        ({"origins": [{"host": "a", "ok": True}, {"host": "b", "ok": False}]}, "does not answer: b"),
        ({"origins": [{"host": "a", "ok": None}]}, "no origin has answered yet"),
        ({"penalty": {"value": 1900, "held": False, "reuse": 750}}, "the flap penalty is 1900"),
    ],
)
def test_where_it_could_do_harm_it_is_refused(
    tmp_path: Path, change: Callable[[PublishedNode], None] | dict[str, object], cause: str
) -> None:
    made = Rehearsed(tmp_path)
    if callable(change):
        change(made.node)
    else:
        made.node.change(change)
    with pytest.raises(AgentError) as refused:
        made.run()
    assert refused.value.code == "NNA1020"
    assert cause in refused.value.cause
    assert made.drill.begun == []
    assert made.out.getvalue() == ""


def test_a_third_outage_within_the_penalty_needs_force_and_its_price_is_told(tmp_path: Path) -> None:
    made = Rehearsed(tmp_path, return_s=500.0)
    made.node.status["penalty"]["value"] = 1900.0
    made.node.write()
    made.force = True
    assert made.run() is Exit.OK
    assert "the flap penalty holds it back" in made.told[0]


def test_origins_that_nobody_knows_by_name_pass_for_good_as_they_do_for_the_agent(tmp_path: Path) -> None:
    made = Rehearsed(tmp_path)
    made.node.status["origins"] = []
    made.node.write()
    assert made.run() is Exit.OK


def test_the_expected_return_is_what_the_policy_says() -> None:
    policy = replace(POLICY, return_delay_s=0.0, canary_interval_s=2.0, canary_window_s=1.0)
    canary_s = 2.2 + 2.0
    assert drill.return_s(policy, 0, 30) == pytest.approx(canary_s + 1.1 * 10 * 0.25)
    assert drill.return_s(replace(policy, dwell_s=40.0), 0, 30) == pytest.approx(canary_s + 10)
    assert drill.return_s(replace(policy, return_delay_s=60.0), 0, 30) > 60
    held = drill.return_s(policy, 2000, 30)  # 3000 falls to 750 in two half lives
    assert held == pytest.approx(2 * 300 - 30)
    assert not drill.is_held(policy, 1000.0)
    assert drill.is_held(policy, 1000.1)


@pytest.mark.parametrize(
    ("time_", "uid", "code"),
    [("4s", 0, "NNA1002"), ("11m", 0, "NNA1002"), ("soon", 0, "NNA1002"), ("30s", 1000, "NNA1001")],
)
def test_only_root_may_and_with_an_end_in_sight(tmp_path: Path, time_: str, uid: int, code: str) -> None:
    run = Run(tmp_path, "drill", "mirror-down", "--for", time_, uid=uid)
    assert (run.code, code in run.err) == (2, True)
