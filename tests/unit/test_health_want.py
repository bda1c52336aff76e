"""What the agent itself lacks says nothing of the mirror: neither for it nor against it."""

from __future__ import annotations

import pytest

from agent.health.evidence import AgentInWant, CanaryFailed, CanaryOk, Failure, PingFailed, PingOk, Tick
from agent.health.state import HealthState
from tests.unit.health_run import POLICY, REFUSED, SILENT, healthy

WANT = Failure.WANT


def test_probes_that_could_not_be_made_move_nothing_however_long_it_lasts() -> None:
    run = healthy()
    for at in range(10, 700):
        run.at(
            float(at), PingFailed(float(at), WANT, "no descriptor"), CanaryFailed(float(at), WANT, ""), Tick()
        )
    assert run.changes() == []
    assert run.fences() == []


def test_it_is_told_for_a_minute_after_the_last_time() -> None:
    run = healthy().at(10.0, PingFailed(10.0, WANT, "no descriptor"))
    assert run.state.want == "no descriptor"
    run.at(10.2, PingOk(10.2, 0.001)).at(10.0 + POLICY.want_told_s, Tick())
    assert run.state.want == "no descriptor"
    run.at(10.1 + POLICY.want_told_s, Tick())
    assert run.state.want == ""


def test_a_canary_whose_way_back_the_agent_could_not_take_does_not_count() -> None:
    run = healthy().at(10.0, AgentInWant("accept: too many open files"))
    run.at(11.2, CanaryFailed(9.99, SILENT, ""))
    run.at(12.5, CanaryFailed(11.3, SILENT, ""))
    assert run.changes() == []
    run.at(13.0, CanaryFailed(11.5, SILENT, ""))
    assert run.health_state() is HealthState.SUSPECT


def test_a_mirror_that_refuses_canaries_meanwhile_is_accused() -> None:
    run = healthy().at(10.0, AgentInWant("")).at(10.1, CanaryFailed(10.0, REFUSED, ""))
    assert run.health_state() is HealthState.SUSPECT


def test_pings_that_fail_meanwhile_count_as_ever() -> None:
    run = healthy().at(10.0, AgentInWant("")).at(10.1, PingFailed(10.0, REFUSED, ""))
    assert run.health_state() is HealthState.SUSPECT


def test_a_mirror_on_its_way_back_is_not_set_back() -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, "")).at(10.1, CanaryFailed(10.0, REFUSED, ""))
    assert run.health_state() is HealthState.DOWN
    run.every(0.25, 20.0, 21.0, "ping").at(21.1, PingFailed(21.0, WANT, ""), CanaryFailed(21.0, WANT, ""))
    run.every(0.25, 21.25, 22.25, "ping").at(22.3, CanaryOk(22.29, 0.001))
    assert run.changes()[-1] == "down -> probation"


def test_a_data_path_that_fails_is_left_however_often_the_agent_lacks_room() -> None:
    run = healthy()
    for at in range(10, 16):
        run.at(float(at), AgentInWant("no room")).at(at + 0.5, CanaryFailed(at + 0.4, Failure.STATUS, ""))
    assert run.health_state() is HealthState.DOWN


@pytest.mark.parametrize("wanting", [12.5, 20.0])
def test_reads_return_by_what_the_probes_tell_after_the_agent_was_in_want(wanting: float) -> None:
    run = healthy().at(10.0, PingFailed(10.0, REFUSED, ""), CanaryFailed(10.0, REFUSED, ""))
    run.every(0.25, 10.25, wanting, "ping", "canary")
    run.at(wanting + 0.1, PingFailed(wanting, WANT, ""), CanaryFailed(wanting, WANT, ""))
    run.every(0.25, 21.0, 90.0, "tick")
    before = run.health_state()
    assert before is (HealthState.DOWN if wanting < 15.0 else HealthState.PROBATION)
    run.every(0.25, 90.0, 90.25, "ping", "canary")
    assert run.health_state() is not before
