"""What is told of the way back: compared with what then happens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.health.evidence import (
    Adopted,
    CanaryFailed,
    CanaryOk,
    ClockJump,
    Mode,
    ModeChanged,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    Pinned,
    Route,
    SentinelClosed,
    Tick,
)
from agent.health.route import Prospect, prospect, route
from tests.unit.health_run import BAD, FENCE, GOOD, POLICY, REFUSED, STATUS, Run, healthy

DEATH = (SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))


def told(run: Run, now: float) -> Prospect:
    return prospect(run.state, now, run.policy)


def returned(run: Run, now: float, *kinds: str) -> float:
    """Seconds from `now` until reads were at the mirror again."""
    run.every(0.25, now + 0.25, now + 1000, *kinds)
    return next(at for at, _, where in run.told if where == "mirror" and at > now) - now


def test_reads_at_the_mirror_wait_for_nothing() -> None:
    assert told(healthy(), 1.0) == Prospect((), 0.0)
    assert told(healthy().at(9.0, BAD).at(10.0, *DEATH), 11.0) == Prospect((), 0.0)


def test_after_an_outage_everything_that_is_missing_is_named_with_the_time_that_it_takes() -> None:
    run = healthy().at(10.0, *DEATH)
    assert told(run, 10.0) == Prospect(
        (
            "10 more successes in succession", "a clean canary",
            "the time for which a mirror stays down at least",
            "then this node's turn to return",
        ),
        25.0,
    )  # fmt: skip
    assert returned(run, 10.0, "ping", "canary") == 25.0


def test_what_has_come_is_no_longer_named() -> None:
    run = healthy().at(10.0, *DEATH).every(0.25, 10.25, 12.25, "ping", "canary")
    assert told(run, 12.25).waits_for[0] == "1 more success"
    run.at(12.5, PingOk(12.5, 0.001))
    assert told(run, 12.5) == Prospect(
        ("the time for which a mirror stays down at least", "then this node's turn to return"), 22.5
    )
    run.every(0.25, 12.75, 20, "ping", "canary")
    assert told(run, 20.0) == Prospect(("this node's turn to return",), 15.0)


def test_a_machine_that_slept_on_probation_needs_one_success_more() -> None:
    run = healthy().at(10.0, *DEATH).every(0.25, 10.25, 34.0, "ping", "canary").at(34.1, ClockJump(60.0))
    found = told(run, 34.5)
    assert found.waits_for == ("1 more success", "this node's turn to return")
    assert found.seconds == pytest.approx(0.5)


def test_the_penalty_is_named_with_its_time() -> None:
    run = healthy(replace(POLICY, return_delay_s=0.0))
    for now in (10.0, 30.0, 50.0):
        run.at(now, SentinelClosed("eof"), CanaryFailed(now, REFUSED, ""))
        run.every(0.25, now + 0.25, now + 19, "ping", "canary")
    found = told(run, 69.0)
    assert found.waits_for == ("the flap penalty of 2743 to fall below 750",)
    assert found.seconds == pytest.approx(561, abs=1)
    assert found.seconds == pytest.approx(returned(run, 69.0, "ping", "canary"), abs=0.5)


def test_the_beat_of_the_successes_is_the_canaries_where_pings_fail() -> None:
    run = healthy().at(9.0, PingFailed(9.0, REFUSED, "")).at(9.1, CanaryOk(9.05, 0.001)).at(10.0, *DEATH)
    assert told(run, 10.0).seconds == 10 * POLICY.canary_interval_s + POLICY.return_delay_s


def test_a_mirror_that_was_never_well_needs_one_success_and_one_canary() -> None:
    run = Run(POLICY, FENCE, GOOD).at(10.0, PingFailed(9.9, REFUSED, ""), CanaryFailed(9.9, REFUSED, ""))
    assert told(run, 11.0) == Prospect(("1 more success", "a clean canary"), POLICY.interval_s)


def test_a_suspicion_waits_for_a_canary() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"))
    assert told(run, 11.0) == Prospect(("a clean canary",), 0.0)


def test_a_suspicion_by_reads_waits_for_its_end_too() -> None:
    run = healthy().symptom(10.0, STATUS)
    assert told(run, 11.0) == Prospect(
        ("a clean canary", "the end of the time for which a suspicion by reads lasts"), 2.0
    )
    run.at(11.0, CanaryOk(10.9, 0.1))
    assert told(run, 11.0).waits_for == ("the end of the time for which a suspicion by reads lasts",)


def test_without_canaries_a_suspicion_waits_for_pings() -> None:
    run = Run(replace(POLICY, canary=False), FENCE, GOOD, PingOk(0.0, 0.001)).at(10.0, SentinelClosed("eof"))
    assert told(run, 10.0) == Prospect(("3 more successes in succession",), 0.75)
    run = Run(replace(POLICY, canary=False), FENCE, GOOD, PingOk(0.0, 0.001)).symptom(10.0, STATUS)
    run.every(0.25, 10.25, 11.0, "ping")
    assert told(run, 11.0) == Prospect(("the end of the time for which a suspicion by reads lasts",), 2.0)


def test_a_pin_is_waited_for_until_it_ends_and_what_else_is_missing_may_take_longer() -> None:
    run = healthy().at(10.0, Pinned(Route.ORIGIN, "maintenance", until=70.0))
    assert told(run, 20.0) == Prospect(("the end of the pin: maintenance",), 50.0)
    run.at(65.0, SentinelClosed("eof"), CanaryFailed(65.0, REFUSED, ""))
    assert told(run, 65.0).seconds == 25.0
    assert told(run, 65.0).waits_for[-1] == "the end of the pin: maintenance"
    run.at(66.0, Pinned(Route.ORIGIN, "maintenance", until=126.0))
    assert told(run, 66.0).seconds == 60.0  # this node's turn to return passes meanwhile


def test_a_pin_whose_end_nobody_said_can_last_for_ever() -> None:
    assert told(healthy().at(10.0, Pinned(Route.ORIGIN, "maintenance")), 20.0).seconds is None


def test_a_foreign_process_can_stay_for_ever() -> None:
    run = healthy().at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    assert told(run, 20.0).waits_for[0] == "the foreign process to leave the mirror's port"
    assert told(run, 20.0).seconds is None


def test_without_the_fence_it_is_up_to_others() -> None:
    run = Run(POLICY, ModeChanged(Mode.UNKNOWN, "nothing was applied"))
    assert told(run, 1.0) == Prospect(("nothing was applied",), None)
    run = Run(POLICY, ModeChanged(Mode.NATIVE, "asked for"), *[PingFailed(0.0, REFUSED, "")] * 2)
    assert told(run, 1.0) == Prospect(("a ping that the mirror answers; nydusd looks for itself",), None)


def test_an_adopted_fence_goes_the_whole_way_back_and_no_waiting_time_is_negative() -> None:
    run = Run(POLICY, FENCE).at(0.0, Adopted(6.5)).at(0.1, Tick())
    assert told(run, 0.1).seconds == pytest.approx(24.9)
    run.every(0.25, 0.25, 30, "ping", "canary")
    assert route(run.state) is Route.MIRROR
    run = healthy().at(10.0, *DEATH).every(0.25, 10.25, 34.75, "ping", "canary").at(34.8, Tick())
    assert told(run, 36.0) == Prospect(("this node's turn to return",), 0.0)
