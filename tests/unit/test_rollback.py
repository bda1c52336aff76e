"""Rollback: back to an earlier generation as one transaction, with history that only grows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent import paths
from agent.apply import recover, rollback
from agent.apply.change import Outcome
from agent.apply.gate import Urgency
from agent.config import accepted
from agent.config.model import Config, ContainerdMode, LogLevel, RestartPolicy, Switch
from agent.documents.status import CheckState
from agent.errors import ApplyError, FileError, PlanError
from agent.records import generations, journal
from agent.steps import UnitStep
from tests.fakes.faults import Crash
from tests.unit import plan_node
from tests.unit.proved_node import CONFIG, ProvedNode, quiet

CONFIG_TOML = CONFIG.containerd.config
LOUD = replace(CONFIG, snapshotter=replace(CONFIG.snapshotter, log_level=LogLevel.DEBUG))
OTHER_MODE = replace(LOUD, containerd=replace(LOUD.containerd, mode=ContainerdMode.RUNTIME_CLASS))
NATIVE = replace(
    OTHER_MODE, mirror=replace(OTHER_MODE.mirror, switch=Switch.NATIVE, url="http://127.0.0.1:4001")
)


class Node(ProvedNode):
    """A node that is changed once per configuration."""

    def __init__(self, *configs: Config) -> None:
        super().__init__()
        self.states: list[dict[str, object]] = [self.etc()]
        for config in configs:
            self.change(config)

    def change(self, config: Config) -> Outcome:
        self.config = config
        self.use_mirror(config)
        outcome = self.apply()
        self.states.append(self.etc())
        return outcome

    def use_mirror(self, config: Config) -> None:
        """The mode of containerd decides which image file system CRI names."""
        default = config.containerd.mode is ContainerdMode.DEFAULT
        root = config.snapshotter.root
        self.node.containerd.mountpoints = (root if default else "/var/lib/containerd/overlayfs",)

    def back(self, to: int | None = None) -> Outcome:
        return rollback.roll_back(self.config, self.node.ports, quiet(), to=to)

    def _containerd_restarted(self, name: str, verb: str) -> None:
        if (name, verb) == (paths.CONTAINERD_UNIT, "restart"):
            ours = (
                b'snapshotter = "nydus"'
                in self.node.files.files[CONFIG_TOML].content.split(b"runtimes.nydus")[0]
            )
            root = self.config.snapshotter.root
            self.node.containerd.mountpoints = (root if ours else "/var/lib/containerd/overlayfs",)

    @property
    def newest(self) -> generations.Generation:
        found = generations.newest(self.node.files)
        assert found is not None
        return found

    def edit(self, path: str, more: bytes) -> None:
        """Somebody else adds to a file."""
        file = self.node.files.files[path]
        self.node.files.put(path, file.content + more, mode=file.mode)


@pytest.fixture
def node() -> Node:
    return Node(CONFIG, LOUD, OTHER_MODE)


def jobs(outcome: Outcome) -> list[str]:
    return [f"{step.verb} {step.unit}" for step in outcome.plan.steps if isinstance(step, UnitStep)]


def test_a_rollback_brings_every_file_back_byte_for_byte(node: Node) -> None:
    outcome = node.back(1)
    assert node.etc() == node.states[1]
    assert outcome.generation == 4
    assert (node.newest.verb, node.newest.to) == ("rollback", 1)
    assert outcome.proof is not None
    assert all(check.state is CheckState.OK for check in outcome.proof.checks[:7])


def test_without_a_number_it_goes_one_state_back_and_a_second_time_one_further(node: Node) -> None:
    node.back()
    assert node.etc() == node.states[2]
    node.back()
    assert node.etc() == node.states[1]
    with pytest.raises(PlanError) as caught:
        node.back()
    assert caught.value.code == "NNA0333"
    assert caught.value.try_ == "nydus-agent remove"


def test_a_rollback_can_be_rolled_back(node: Node) -> None:
    node.back(1)
    node.back(3)
    assert node.etc() == node.states[3]
    node.back(4)
    assert node.etc() == node.states[1]
    assert (node.newest.number, node.newest.to) == (6, 1)


def test_a_rollback_restarts_only_what_read_the_changed_files(node: Node) -> None:
    node.back(2)
    assert jobs(node.back(1)) == [f"restart {paths.SNAPSHOTTER_UNIT}"]


def test_a_change_that_changed_no_file_is_no_state_to_go_back_to(node: Node) -> None:
    node.change(
        replace(OTHER_MODE, mirror=replace(OTHER_MODE.mirror, metrics_url="http://127.0.0.1:4002/other"))
    )
    assert node.newest.number == 4
    assert node.newest.steps == ()
    node.back()
    assert node.etc() == node.states[2]


@pytest.mark.parametrize("to", [0, 9])
def test_a_generation_that_there_is_not_is_refused_with_the_way_out(node: Node, to: int) -> None:
    calls = len(node.node.faults.calls)
    with pytest.raises(PlanError) as caught:
        node.back(to)
    assert caught.value.code == "NNA0333"
    assert caught.value.try_ == ("nydus-agent remove" if to == 0 else "nydus-agent generations")
    assert node.node.faults.calls[calls:] == []


def test_where_nothing_was_applied_there_is_nothing_to_go_back_from() -> None:
    with pytest.raises(PlanError, match="nothing is applied"):
        Node().back()


def test_going_back_to_what_is_in_force_writes_nothing(node: Node) -> None:
    inodes = node.node.files.inodes()
    assert not node.back(3).changed
    assert node.node.files.inodes() == inodes
    node.back(1)
    inodes = node.node.files.inodes()
    assert not node.back(1).changed
    assert node.node.files.inodes() == inodes


def test_after_a_rollback_apply_does_what_the_configuration_wants_again(node: Node) -> None:
    node.back(1)
    outcome = node.apply()
    assert outcome.generation == 5
    assert node.etc() == node.states[3]
    assert not node.apply().changed


def test_a_rollback_holds_until_somebody_says_apply(node: Node) -> None:
    node.back(1)
    assert "holds until nydus-agent apply" in generations.hold(node.node.files)
    node.config = CONFIG
    assert node.apply().plan.empty
    assert node.newest.verb == "apply"
    assert generations.hold(node.node.files) == ""


def test_what_the_configuration_still_wants_is_pending_and_no_drift(node: Node) -> None:
    outcome = node.back(1)
    assert outcome.proof is not None
    for proof in (outcome.proof, node.proof()):
        assert proof.drift == ()
        assert any(CONFIG_TOML in one for one in proof.pending)
        assert any(paths.SNAPSHOTTER_CONFIG in one for one in proof.pending)
    node.apply()
    assert node.proof().pending == ()


def test_the_daemon_is_told_of_the_mirror_that_is_in_force_again() -> None:
    moved = replace(CONFIG, mirror=replace(CONFIG.mirror, url="http://127.0.0.1:4101"))
    node = Node(CONFIG)
    node.change(moved)
    assert b"127.0.0.1:4101" in node.node.files.files[paths.EFFECTIVE].content
    node.back()
    effective = node.node.files.files[paths.EFFECTIVE].content
    assert b'"mirror_url": "http://127.0.0.1:4001"' in effective
    assert b'"rolled_back_to": 1' in effective


def test_what_others_wrote_between_two_generations_is_kept_too(node: Node) -> None:
    node.edit(CONFIG_TOML, b'\n[metrics]\n  address = "127.0.0.1:1338"\n')
    node.change(CONFIG)
    node.back(3)
    text = node.node.files.files[CONFIG_TOML].content
    assert b"127.0.0.1:1338" in text
    assert b"runtimes.nydus" in text


def test_a_key_of_ours_to_which_others_gave_a_value_is_theirs_and_named(node: Node) -> None:
    file = node.node.files.files[CONFIG_TOML]
    theirs = file.content.replace(
        b"disable_snapshot_annotations = false", b"disable_snapshot_annotations = true"
    )
    assert theirs != file.content
    node.change(plan_node.config(plan_node.PLAIN))
    node.node.files.put(CONFIG_TOML, theirs.replace(b"address = ", b"address  = "))
    outcome = node.back(1)
    assert b"disable_snapshot_annotations = true" in node.node.files.files[CONFIG_TOML].content
    assert any("others gave it another value" in one for one in outcome.plan.warnings)


def test_a_file_that_cannot_be_edited_around_others_is_refused_and_named(node: Node) -> None:
    node.edit(CONFIG_TOML, b"this is no TOML\n")
    before = node.etc()
    with pytest.raises(PlanError) as caught:
        node.back(1)
    assert caught.value.code == "NNA0313"
    assert CONFIG_TOML in caught.value.cause
    assert node.etc() == before


def test_a_hosts_file_that_somebody_took_over_stays_theirs(node: Node) -> None:
    hosts = f"{paths.CERTS_D}/docker.io/hosts.toml"
    node.node.files.put(hosts, b"# theirs\n")
    node.change(
        replace(OTHER_MODE, registries=replace(OTHER_MODE.registries, include=("plain.example:5000",)))
    )
    outcome = node.back(1)
    assert node.node.files.files[hosts].content == b"# theirs\n"
    assert any("left alone" in one for one in outcome.plan.warnings)


def test_an_edit_of_a_file_of_ours_is_replaced_and_kept_in_the_record(node: Node) -> None:
    node.edit(paths.SNAPSHOTTER_CONFIG, b"# edited\n")
    node.node.files.drop(paths.NYDUSD_TEMPLATE)
    outcome = node.back(1)
    assert node.etc() == node.states[1]
    assert len(outcome.plan.warnings) == 2
    found = [one.undo.before for one in node.newest.steps if isinstance(one.undo, journal.PutBack)]
    assert any(before is not None and before.endswith(b"# edited\n") for before in found)


def test_a_file_that_cannot_be_read_is_not_replaced(node: Node) -> None:
    node.node.files.unreadable[paths.SNAPSHOTTER_CONFIG] = FileError("NNA0422", "no", cause="no permission")
    with pytest.raises(PlanError) as caught:
        node.back(1)
    assert caught.value.code == "NNA0303"


def test_a_program_that_is_another_one_now_is_told(node: Node) -> None:
    node.node.processes.on("/usr/local/bin/nydusd", "--version", stdout="nydusd \rVersion: \tv2.2.1\n")
    assert "nydusd was 2.2.0 then and is 2.2.1 now" in node.back(1).plan.notes


def test_a_rollback_that_is_killed_anywhere_is_undone_or_finished(node: Node) -> None:
    total = counted()
    for nth in range(1, total + 1):
        node = Node(CONFIG, LOUD, OTHER_MODE)
        node.node.faults.at(nth, Crash(), after=nth % 2 == 0)
        with pytest.raises(Crash):
            node.back(1)
        node.node.ledger.held = ""
        node.use_mirror(OTHER_MODE)
        recover.finish(node.node.ports, jobs=True, say=lambda _: None)
        assert node.etc() in (node.states[1], node.states[3]), nth
        assert not node.node.ledger.open


def counted() -> int:
    node = Node(CONFIG, LOUD, OTHER_MODE)
    before = len(node.node.faults.calls)
    node.back(1)
    calls = node.node.faults.calls[before:]
    return max(number for number, call in enumerate(calls, 1) if call[0] == "close")


def test_what_a_record_keeps_of_a_configuration_comes_back_whole() -> None:
    for config in (CONFIG, LOUD, OTHER_MODE, NATIVE, plan_node.config(plan_node.SECURE)):
        assert accepted.restored(Config(), accepted.record(config)) == config
    here = replace(
        CONFIG,
        containerd=replace(CONFIG.containerd, restart=RestartPolicy.NEVER, address="/run/other.sock"),
        mirror=replace(CONFIG.mirror, health=replace(CONFIG.mirror.health, fall=7)),
    )
    assert accepted.restored(here, accepted.record(OTHER_MODE)).mirror.health.fall == 7
    assert accepted.restored(here, accepted.record(OTHER_MODE)).containerd.restart is RestartPolicy.NEVER
    assert accepted.restored(here, {"mirror": {"url": 7, "later": True}}).mirror.url == Config().mirror.url


def test_restarts_that_the_operator_keeps_to_himself_are_made_by_a_rollback_only_on_his_word(
    node: Node,
) -> None:
    node.config = replace(OTHER_MODE, containerd=replace(OTHER_MODE.containerd, restart=RestartPolicy.NEVER))
    with pytest.raises(ApplyError) as caught:
        node.back(1)
    assert (caught.value.code, caught.value.try_) == ("NNA0416", "nydus-agent rollback --now")
    assert node.etc() == node.states[3]
    _then, _facts, plan = rollback.look_back(
        node.config, node.node.ports, rollback.choose(node.node.files, 1)
    )
    assert any("left to you" in one for one in plan.warnings)
    rollback.roll_back(node.config, node.node.ports, quiet(), to=1, urgency=Urgency.NOW)
    assert node.etc() == node.states[1]
