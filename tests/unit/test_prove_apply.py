"""What `apply` and the agent make of a proof: what is undone, what is due, what is published."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent import paths
from agent.config.model import ContainerdConfig, LogLevel, RestartPolicy
from agent.documents.status import CheckState
from agent.errors import ApplyError, Exit
from agent.ports import HttpAnswer
from agent.proof import inspection
from agent.proof.inspection import CHECKS
from agent.steps import UnitStep
from tests.fakes.http import Request, answer
from tests.unit.plan_node import carry_out
from tests.unit.proved_node import CONFIG, ProvedNode, proved


@pytest.fixture
def node() -> ProvedNode:
    return proved()


def test_a_restart_that_is_left_to_the_operator_is_due_and_not_a_failure() -> None:
    made = ProvedNode(replace(CONFIG, containerd=ContainerdConfig(restart=RestartPolicy.NEVER)))
    carry_out(made.node, [step for step in made.plan().steps if not isinstance(step, UnitStep)])
    checks = {check.number: check for check in made.proof().checks}
    assert checks[5].state is CheckState.NOT_PROVED
    assert checks[5].try_ == "systemctl restart containerd.service"


def test_a_dead_mirror_does_not_keep_a_node_from_being_set_up() -> None:
    made = ProvedNode()
    made.node.http.on(made.config.mirror.ping_url, answer(503))
    outcome = made.apply()
    assert outcome.generation == 1
    assert outcome.proof is not None
    assert outcome.proof.exit is Exit.NOT_AS_WANTED


def test_an_apply_publishes_its_proof_for_everyone() -> None:
    made = ProvedNode()
    made.apply()
    file = made.node.files.files[paths.PROOF]
    assert file.mode == 0o644
    document = json.loads(file.content)
    assert [check["number"] for check in document["checks"]] == list(range(1, len(CHECKS) + 1))
    assert document["ok"] is True


def test_what_was_proved_before_a_reboot_is_proved_again_after_it(node: ProvedNode) -> None:
    node.node.files.put("/proc/sys/kernel/random/boot_id", b"another\n")
    node.node.clock.advance(100)
    node.say()
    node.apply()
    proof = json.loads(node.node.files.files[paths.PROOF].content)
    assert (proof["at"], proof["boot_id"]) == (node.node.clock.now(), "another")


def test_registries_that_came_into_use_are_told_to_the_agent_once_and_survive_the_next_apply(
    node: ProvedNode,
) -> None:
    inspection.note_origins(node.config, node.node.ports)
    assert json.loads(node.node.files.files[paths.EFFECTIVE].content)["origins"] == ["plain.example:5000"]
    inodes = node.node.files.inodes()
    inspection.note_origins(node.config, node.node.ports)
    node.apply()
    assert node.node.files.inodes() == inodes


def test_the_agent_is_not_disturbed_with_new_registries_while_the_mirror_is_fenced(node: ProvedNode) -> None:
    node.say(route="origin")
    inodes = node.node.files.inodes()
    inspection.note_origins(node.config, node.node.ports)
    assert node.node.files.inodes() == inodes


def test_the_upper_checks_wait_until_the_agent_has_read_what_was_applied() -> None:
    made = ProvedNode()
    made.say(route="origin", route_reason="nothing was applied")
    start = made.node.clock.monotonic()

    def read(seconds: float) -> None:
        made.node.clock.advance(seconds)
        if made.node.clock.monotonic() - start > 1:
            made.say()

    made.node.clock.sleep = read  # type: ignore[method-assign]  # the daemon lives while we wait
    outcome = made.apply()
    assert outcome.proof is not None
    assert outcome.proof.checks[8].state is CheckState.OK


def test_what_was_put_back_is_told_though_the_look_at_the_node_after_that_falls_over(
    node: ProvedNode,
) -> None:
    changed: list[str] = []

    def ping(_: Request) -> HttpAnswer:
        if changed and not node.node.ledger.open:
            raise RuntimeError("a bug in the look")
        return answer(200)

    node.node.units.on_job.append(lambda name, _: changed.append(name))
    node.node.http.on(node.config.mirror.ping_url, ping)
    node.node.containerd.backend_alive = lambda name: name != paths.PROXY_PLUGIN
    node.config = replace(node.config, snapshotter=replace(node.config.snapshotter, log_level=LogLevel.DEBUG))
    with pytest.raises(ApplyError) as caught:
        node.apply()
    assert caught.value.code == "NNA0402"
    assert "Prepare failed" in caught.value.cause
    with pytest.raises(RuntimeError, match="a bug in the look"):
        node.proof()
