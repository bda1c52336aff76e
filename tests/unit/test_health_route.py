"""The fence: when it is raised, how it is held, and what the operator, the origin and the mode have to
say.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.health.evidence import (
    Adopted,
    CanaryFailed,
    CanaryOk,
    FenceFailed,
    Mode,
    ModeChanged,
    OriginSeen,
    Owner,
    OwnerSeen,
    PingFailed,
    PingOk,
    Pinned,
    Route,
    SentinelClosed,
    Tick,
)
from agent.health.machine import step, transition
from agent.health.route import route, route_reason
from agent.health.state import AskOrigin, ExtendFence, HealthState, LiftFence, RaiseFence
from tests.unit.health_run import BAD, FENCE, GOOD, POLICY, REFUSED, Run, healthy

DEATH = (SentinelClosed("eof"), CanaryFailed(10.0, REFUSED, ""))


# The origin


def test_an_origin_that_is_bad_keeps_the_mirror_in_use() -> None:
    run = healthy().at(9.0, BAD).at(10.0, *DEATH)
    assert run.health_state() is HealthState.DOWN
    assert run.fence_log() == []
    assert (
        route_reason(run.state) == "both bad, and a bad mirror is better than none: canary refused; refused"
    )


def test_an_origin_that_turns_bad_lifts_the_fence_and_a_good_one_raises_it() -> None:
    run = healthy().at(10.0, *DEATH).at(20.0, BAD).at(30.0, GOOD)
    assert run.fences() == [
        (10.0, RaiseFence(3.0, tentative=True)),
        (20.0, LiftFence()),
        (30.0, RaiseFence(10.0, tentative=False)),
    ]
    assert run.causes[-2:] == ["origin", "origin"]


def test_an_origin_that_never_answered_is_asked_before_the_fence_goes_up() -> None:
    run = Run(POLICY, FENCE).at(10.0, PingFailed(9.9, REFUSED, ""))
    assert run.fence_log() == []
    assert (10.0, AskOrigin()) in run.done
    assert route_reason(run.state).endswith("no fence before an origin has answered")
    run.at(10.5, GOOD)
    assert run.fences() == [(10.5, RaiseFence(2.5, tentative=True))]


def test_an_origin_that_gives_no_answer_either_way_is_not_fenced_into() -> None:
    assert healthy().at(9.0, OriginSeen(None, "asked")).at(10.0, *DEATH).fence_log() == []


def test_a_foreign_listener_is_fenced_even_where_the_origin_is_bad() -> None:
    run = healthy().at(9.0, BAD).at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    assert run.told == [(10.0, "healthy -> down", "origin")]
    assert run.done == [(10.0, RaiseFence(10.0, tentative=False)), (10.0, AskOrigin())]


@pytest.mark.parametrize("origin", [(), (BAD,)])
def test_a_foreign_process_that_was_first_on_the_loopback_port_is_fenced_before_any_origin_answers(
    origin: tuple[OriginSeen, ...],
) -> None:
    run = Run(POLICY, FENCE, *origin).at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    assert run.fences() == [(10.0, RaiseFence(10.0, tentative=False))]


def test_a_restarted_agent_keeps_the_fence_around_a_foreign_process_while_the_origin_is_bad() -> None:
    run = Run(POLICY, FENCE, Adopted(5.0), OwnerSeen(Owner.FOREIGN, "uid 1000")).at(10.0, BAD)
    run.every(0.25, 10.25, 30, "tick")
    assert run.fences() == []


def test_a_foreign_listener_that_leaves_while_the_origin_is_bad_uncovers_the_dead_mirror() -> None:
    run = healthy().at(9.0, BAD)
    run.at(10.0, OwnerSeen(Owner.FOREIGN, "uid 1000"))
    run.at(11.0, OwnerSeen(Owner.NONE, ""))
    assert run.told[-1] == (11.0, "down -> down", "mirror")
    assert run.causes[-1] == "owner"


# Lease and renewal


def test_a_fence_is_renewed_every_second_and_never_for_longer_than_the_lease() -> None:
    run = healthy().at(10.0, *DEATH).every(0.25, 10.25, 20, "tick")
    times = [at for at, effect in run.fence_log()]
    assert times == [10.0, 10.0, *(float(at) for at in range(11, 21))]
    leases = [effect.lease_s for _, effect in run.fence_log() if isinstance(effect, RaiseFence | ExtendFence)]
    assert max(leases) <= POLICY.lease_s
    assert run.state.fence is not None
    assert (run.state.fence.since, run.state.fence.renewed) == (10.0, 20.0)


def test_a_renewal_comes_in_the_time_that_was_configured() -> None:
    run = healthy(replace(POLICY, renew_s=2.0)).at(10.0, *DEATH).every(0.25, 10.25, 16, "tick")
    assert [at for at, _ in run.fence_log()] == [10.0, 10.0, 12.0, 14.0, 16.0]


def test_a_tentative_fence_is_asserted_but_not_prolonged() -> None:
    run = healthy().at(10.0, SentinelClosed("eof")).every(0.5, 10.5, 14, "tick")
    assert run.fence_log() == [
        (10.0, RaiseFence(3.0, tentative=True)),
        (11.0, ExtendFence(2.0, tentative=True)),
        (12.0, ExtendFence(1.0, tentative=True)),
        (13.0, LiftFence()),
    ]
    assert run.health_state() is HealthState.HEALTHY


def test_a_restart_adopts_the_running_fence_and_nothing_flips() -> None:
    run = Run(POLICY, FENCE)
    run.told.clear()
    run.at(0.0, Adopted(6.5))
    assert run.told == [(0.0, "unknown -> down", "origin")]
    assert run.causes[-1] == "adopted"
    told = transition(Run(POLICY, FENCE).state, run.state)
    assert told is not None
    assert told.route_before is told.route, "reads went to the origin all the time"
    assert run.fence_log() == [(0.0, ExtendFence(10.0, tentative=False))]
    run.every(0.25, 0.25, 60, "ping", "canary", "tick")
    assert run.changes() == ["unknown -> down", "down -> probation", "probation -> healthy"]


def test_a_fence_found_where_the_mode_is_native_is_lifted() -> None:
    run = Run(POLICY, ModeChanged(Mode.NATIVE, "")).at(0.0, Adopted(6.5))
    assert run.fence_log() == [(0.0, LiftFence())]


def test_a_fence_that_cannot_be_raised_is_tried_again_each_second_and_never_claimed() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), FenceFailed("no permission"))
    assert route(run.state) is Route.MIRROR
    assert run.causes[-1] == "fence"
    assert "no permission" in route_reason(run.state)
    run.at(10.5, CanaryFailed(10.4, REFUSED, ""))
    assert [at for at, _ in run.fences()] == [10.0]
    run.at(11.0, Tick())
    assert [at for at, _ in run.fences()] == [10.0, 11.0]
    assert (run.causes[-1], run.state.fence_error) == ("fence", "")


def test_a_failure_to_fence_is_not_the_reason_for_a_route_that_needs_no_fence() -> None:
    run = healthy().at(10.0, SentinelClosed("eof"), FenceFailed("no permission"))
    run.at(10.1, CanaryOk(10.05, 0.001))
    assert route_reason(run.state) == "a canary came back clean"


# Mode and pin


@pytest.mark.parametrize(("mode", "where"), [(Mode.NATIVE, Route.MIRROR), (Mode.UNKNOWN, Route.ORIGIN)])
def test_without_the_fence_mode_nothing_is_ever_fenced(mode: Mode, where: Route) -> None:
    run = Run(POLICY, ModeChanged(mode, ""), GOOD, PingOk(0.0, 0.001), CanaryOk(0.0, 0.002))
    assert route(run.state) is where
    run.at(10.0, *DEATH, OwnerSeen(Owner.FOREIGN, ""), *[PingFailed(1.0, REFUSED, "")] * 2)
    assert run.fence_log() == []
    assert run.health_state() is HealthState.DOWN
    assert route(run.state) is Route.ORIGIN
    assert route_reason(run.state)


def test_what_happens_before_anything_was_applied_matters_to_nobody() -> None:
    unused = Run(POLICY, ModeChanged(Mode.UNKNOWN, "")).state
    for state, matters in ((unused, False), (healthy().state, True)):
        after, _ = step(state, SentinelClosed("eof"), 10.0, POLICY)
        change = transition(state, after)
        assert change is not None
        assert change.matters is matters


def test_a_change_of_mode_lifts_the_fence() -> None:
    run = healthy().at(10.0, *DEATH).at(11.0, ModeChanged(Mode.NATIVE, "asked for"), PingOk(11.0, 0.001))
    assert run.fences()[-1] == (11.0, LiftFence())
    assert run.causes[-1] == "mode"


def test_a_pin_to_the_origin_holds_the_fence_on_a_healthy_mirror_until_it_ends() -> None:
    run = healthy().at(10.0, Pinned(Route.ORIGIN, "maintenance")).at(70.0, Pinned(None))
    assert run.told == [(10.0, "healthy -> healthy", "origin"), (70.0, "healthy -> healthy", "mirror")]
    assert run.causes == ["pin", "pin"]


def test_a_pin_to_the_origin_is_the_reason_of_the_route() -> None:
    run = healthy().at(10.0, Pinned(Route.ORIGIN, "maintenance"))
    assert route_reason(run.state) == "pinned to the origin: maintenance"


def test_a_pin_to_the_mirror_keeps_a_dead_mirror_unfenced() -> None:
    run = healthy().at(9.0, Pinned(Route.MIRROR, "I know better")).at(10.0, *DEATH)
    assert run.health_state() is HealthState.DOWN
    assert run.fence_log() == []
