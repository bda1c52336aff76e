"""The transaction: all or nothing, whatever fails or dies in the middle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from agent import paths
from agent.apply import generations, journal, recover, transaction
from agent.apply.execute import Stop
from agent.config.model import Dialect, Switch
from agent.errors import AgentError, ApplyError, ContainerdError, FileChangedError, FileError, LockedError
from agent.node.facts import Effective, FileFact
from agent.plan.steps import (
    AwaitContainerd,
    AwaitSnapshotter,
    CheckContainerdConfig,
    Plan,
    ReloadUnits,
    RemoveFile,
    UnitStep,
    UnitVerb,
    WriteFile,
)
from tests.fakes.containerd import STOCK_PLUGINS, nydus_plugin
from tests.fakes.faults import Crash
from tests.fakes.files import FakeFile
from tests.fakes.node import FakeNode

CONFIG = "/etc/containerd/config.toml"
OLD, NEW = b"version = 2\n# the operator's own words\n", b"version = 2\nnydus = true\n"
ROOT = "/var/lib/containerd-nydus"
EFFECTIVE = Effective(Switch.FENCE, Dialect.PROXY, use_http=False, reasons=("because",))
NOTHING = Plan(())


def a_node() -> FakeNode:
    node = FakeNode()
    node.files.put(CONFIG, OLD, mode=0o640)
    node.processes.on("containerd", stdout="version = 2\nnydus = true\n")

    def plugins() -> tuple[object, ...]:
        named = b"nydus = true" in node.files.files[CONFIG].content
        node.containerd.mountpoints = (ROOT,) if named else ("/var/lib/containerd/overlayfs",)
        return (*STOCK_PLUGINS, nydus_plugin(paths.SNAPSHOTTER_SOCKET, ROOT)) if named else STOCK_PLUGINS

    node.load_plugins = plugins  # type: ignore[assignment]  # a narrower tuple
    node.containerd.mountpoints = ("/var/lib/containerd/overlayfs",)
    return node


def write(node: FakeNode, path: str, content: bytes, mode: int = 0o644) -> WriteFile:
    seen = node.files.read(path)
    return WriteFile(
        path, content, mode, "because", seen.sha256 if seen else "", seen.content if seen else None,
        seen.mode if seen else 0o644, owned=path != CONFIG,
    )  # fmt: skip


def the_plan(node: FakeNode) -> Plan:
    """What a first apply does, in miniature."""
    return Plan(
        (
            write(node, paths.NYDUSD_TEMPLATE, b"{}"),
            write(node, paths.SNAPSHOTTER_CONFIG, b"version = 1\n"),
            write(node, paths.SNAPSHOTTER_UNIT_FILE, b"[Service]\n"),
            ReloadUnits("new unit"),
            UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.ENABLE, "at boot"),
            UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.START, "first start"),
            AwaitSnapshotter(paths.SNAPSHOTTER_SOCKET),
            write(node, f"{paths.CERTS_D}/_default/hosts.toml", b"# hosts\n"),
            CheckContainerdConfig(CONFIG, NEW, (("nydus", "true"),)),
            write(node, CONFIG, NEW, mode=0o640),
            UnitStep(paths.CONTAINERD_UNIT, UnitVerb.RESTART, "reads its configuration at start"),
            AwaitContainerd("/run/containerd/containerd.sock"),
        )
    )


def apply(
    node: FakeNode,
    plan: Plan | None = None,
    *,
    prove: Callable[[], AgentError | None] = lambda: None,
    effective: Effective = EFFECTIVE,
    stop: Stop | None = None,
) -> transaction.Result:
    def quiet(_: object) -> None:
        pass

    intention = transaction.Intention("apply", the_plan(node) if plan is None else plan, effective)
    with node.ledger.lock("apply"):
        recover.finish(node.ports, jobs=True, say=quiet)
        around = transaction.Surroundings(quiet, quiet, stop or Stop())
        return transaction.carry_out(node.ports, intention, prove, around)


def finish(node: FakeNode, *, jobs: bool = True) -> recover.Recovered | None:
    return recover.finish(node.ports, jobs=jobs, say=lambda _: None)


def of_the_operator(node: FakeNode) -> dict[str, FakeFile | str | None]:
    """All files but our own state."""
    return {path: what for path, what in node.files.snapshot().items() if not path.startswith("/var/")}


def state(node: FakeNode) -> tuple[object, ...]:
    """What the operator sees: files, whether the snapshotter runs and starts at boot, which images containerd mounts."""
    unit = node.units.units.get(paths.SNAPSHOTTER_UNIT)
    return (
        of_the_operator(node),
        unit is not None and unit.active_state == "active",
        unit is not None and unit.unit_file_state,
        node.containerd.up,
        node.containerd.plugin_facts,
    )


@pytest.fixture
def node() -> FakeNode:
    return a_node()


OLD_STATE = state(a_node())


def new_state() -> tuple[object, ...]:
    changed = a_node()
    apply(changed)
    return state(changed)


NEW_STATE = new_state()


def test_a_change_is_accepted_with_a_record_of_what_it_did(node: FakeNode) -> None:
    result = apply(node)
    assert result.generation == 1
    assert len(result.steps) == 12
    last = generations.newest(node.files)
    assert last is not None
    assert last.files()[CONFIG] == hashlib.sha256(NEW).hexdigest()
    assert last.effective == EFFECTIVE
    assert node.files.files[f"{paths.GENERATIONS}/1.json"].mode == 0o600
    assert node.files.files[paths.EFFECTIVE].mode == 0o644
    assert not node.ledger.open
    assert not [path for path in node.files.files if "candidate" in path]


def test_a_second_apply_writes_and_restarts_nothing(node: FakeNode) -> None:
    apply(node)
    inodes, calls = node.files.inodes(), len(node.faults.calls)
    result = apply(node, NOTHING, effective=Effective(Switch.FENCE, Dialect.PROXY, use_http=False, reasons=("other",)))
    assert result == transaction.Result(None)
    assert node.files.inodes() == inodes
    assert node.faults.calls[calls:] == []


def test_a_new_choice_without_a_changed_file_still_reaches_the_daemon(node: FakeNode) -> None:
    apply(node)
    apply(node, NOTHING, effective=Effective(Switch.NATIVE, Dialect.PROXY, use_http=False))
    assert b'"native"' in node.files.files[paths.EFFECTIVE].content
    assert generations.numbers(node.files) == (1,)


@pytest.mark.parametrize("after", [False, True], ids=["before the act", "after the act"])
def test_a_killed_change_leaves_the_old_node_or_the_new_one(after: bool) -> None:
    """Kill the process at each act in turn (each journal record, each file, each job)."""
    total = len(_calls_of_an_apply())
    seen = set()
    for nth in range(1, total + 1):
        node = a_node()
        node.faults.at(nth, Crash(), after=after)
        with pytest.raises(Crash):
            apply(node)
        node.faults.clear()
        outcome = finish(node)
        assert state(node) in (OLD_STATE, NEW_STATE), f"mixed after a kill at call {nth}: {node.faults.calls[nth - 1]}"
        assert not node.ledger.open
        if outcome is not None and outcome.finished:
            assert state(node) == NEW_STATE
        seen.add(state(node) == NEW_STATE)
    assert seen == {True, False}


def test_an_undo_that_is_killed_too_is_finished_by_the_next_run() -> None:
    first = a_node()
    first.faults.at(len(_calls_of_an_apply()) - 5, Crash())
    with pytest.raises(Crash):
        apply(first)
    before = len(first.faults.calls)
    finish(first)
    for nth in range(1, len(first.faults.calls) - before + 1):
        node = a_node()
        node.faults.at(len(_calls_of_an_apply()) - 5, Crash())
        with pytest.raises(Crash):
            apply(node)
        node.faults.clear()
        node.faults.at(nth, Crash())
        with pytest.raises(Crash):
            finish(node)
        node.faults.clear()
        finish(node)
        assert state(node) == OLD_STATE, nth
        assert not node.ledger.open


def test_a_power_cut_is_undone_at_boot_with_files_alone() -> None:
    for nth in range(1, len(_calls_of_an_apply()) + 1):
        node = a_node()
        node.faults.at(nth, Crash())
        with pytest.raises(Crash):
            apply(node)
        node.faults.clear()
        done = len(node.faults.calls)
        outcome = finish(node, jobs=False)
        if outcome is None or not outcome.finished:
            assert of_the_operator(node) == OLD_STATE[0], nth
        assert not [call for call in node.faults.calls[done:] if call[0] in ("job", "reload", "disable")]


def test_boot_recovery_queues_no_job_of_systemd(node: FakeNode) -> None:
    node.faults.at(1, Crash(), method="reload", after=True)
    with pytest.raises(Crash):
        apply(node)
    node.units.systemd_running = False
    finish(node, jobs=False)
    assert of_the_operator(node) == OLD_STATE[0]


def test_boot_recovery_removes_the_links_that_enabled_the_snapshotter(node: FakeNode) -> None:
    node.faults.at(1, Crash(), method="enable", after=True)
    with pytest.raises(Crash):
        apply(node)
    link = f"/etc/systemd/system/multi-user.target.wants/{paths.SNAPSHOTTER_UNIT}"
    node.files.link(link, paths.SNAPSHOTTER_UNIT_FILE)
    finish(node, jobs=False)
    assert link not in node.files.links


def _calls_of_an_apply() -> list[tuple[str, ...]]:
    node = a_node()
    apply(node)
    return node.faults.calls


def test_each_failing_step_puts_the_node_back_and_names_its_cause() -> None:
    """An error (not a kill) at each file, job and check in turn."""
    total = len(_calls_of_an_apply())
    for nth in range(1, total - 2):  # the last: the generation's file, effective.json, the journal's end
        node = a_node()
        node.faults.at(nth, FileError("NNA0421", "cannot write", cause="No space left on device"))
        with pytest.raises(AgentError) as caught:
            apply(node)
        assert "No space left" in str(caught.value), nth
        assert state(node) == OLD_STATE, (nth, node.faults.calls[nth - 1])
        assert not node.ledger.open, nth


def test_containerd_that_does_not_come_back_gets_its_old_configuration_byte_for_byte(node: FakeNode) -> None:
    node.units.fail_job(paths.CONTAINERD_UNIT, "restart")
    node.units.journal[paths.CONTAINERD_UNIT] = ["containerd: invalid plugin config"]
    node.units.on_job.append(lambda _name, _verb: None)
    with pytest.raises(ApplyError) as caught:
        apply(node)
    error = caught.value
    assert error.code == "NNA0402"
    assert "restart of containerd.service failed" in error.cause
    assert any("invalid plugin config" in seen for seen in error.seen)
    assert any(CONFIG in seen and "byte for byte" in seen for seen in error.seen)
    assert state(node) == OLD_STATE
    assert node.files.files[CONFIG].mode == 0o640


def test_containerd_that_stays_down_names_both_causes_and_keeps_the_journal(node: FakeNode) -> None:
    node.units.fail_job(paths.CONTAINERD_UNIT, "restart", times=2)
    with pytest.raises(ApplyError) as caught:
        apply(node)
    assert caught.value.code == "NNA0403"
    assert "restart of containerd.service failed" in caught.value.cause
    assert node.files.files[CONFIG].content == OLD
    assert node.ledger.open
    assert any("NOT put back: containerd.service" in seen for seen in caught.value.seen)
    finish(node)  # the operator has mended it
    assert state(node) == OLD_STATE


def test_containerd_that_answers_with_the_old_process_does_not_count_as_restarted(node: FakeNode) -> None:
    node.units.on_job.remove(node._job_done)
    node.snapshotter.answering.add(paths.SNAPSHOTTER_SOCKET)
    with pytest.raises(ApplyError, match="process 500 still answers"):
        apply(node)


def test_a_snapshotter_that_dies_at_once_is_told_with_its_own_words(node: FakeNode) -> None:
    node.snapshotter.answering.clear()
    node.units.on_job.remove(node._job_done)
    node.units.journal[paths.SNAPSHOTTER_UNIT] = ["level=fatal msg=\"nydusd template: no such file\""]
    with pytest.raises(ApplyError) as caught:
        apply(node)
    assert "the snapshotter does not answer" in caught.value.cause
    assert any("nydusd template" in seen for seen in caught.value.seen)
    assert of_the_operator(node) == OLD_STATE[0]


def test_a_configuration_that_containerd_refuses_never_goes_live(node: FakeNode) -> None:
    node.processes.on("containerd", code=1, stderr="containerd: toml: cannot load TOML value\n")
    with pytest.raises(ApplyError) as caught:
        apply(node)
    assert "refuses the new configuration" in caught.value.cause
    assert ("replace", CONFIG) not in node.faults.calls
    assert state(node) == OLD_STATE


def test_a_configuration_that_containerd_reads_otherwise_never_goes_live(node: FakeNode) -> None:
    node.processes.on("containerd", stdout="nydus = false\n")
    with pytest.raises(ApplyError, match="nydus is false, wanted true"):
        apply(node)
    assert state(node) == OLD_STATE


def test_a_failed_proof_is_undone_like_a_failed_step(node: FakeNode) -> None:
    with pytest.raises(ApplyError) as caught:
        apply(node, prove=lambda: ContainerdError("NNA0651", "CRI does not answer"))
    assert "CRI does not answer" in caught.value.cause
    assert state(node) == OLD_STATE
    assert generations.numbers(node.files) == ()


def test_a_file_that_another_program_changed_meanwhile_is_left_alone(node: FakeNode) -> None:
    plan = the_plan(node)
    node.files.put(CONFIG, b"theirs")
    with pytest.raises(ApplyError) as caught:
        apply(node, plan)
    assert "is not what it was" in caught.value.cause
    assert node.files.files[CONFIG].content == b"theirs"
    assert paths.NYDUSD_TEMPLATE not in node.files.files


def test_an_undo_does_not_overwrite_what_another_program_wrote_after_us(node: FakeNode) -> None:
    def prove() -> AgentError | None:
        node.files.put(CONFIG, b"theirs")
        return ContainerdError("NNA0651", "CRI does not answer")

    with pytest.raises(ApplyError) as caught:
        apply(node, prove=prove)
    assert caught.value.code == "NNA0403"
    assert node.files.files[CONFIG].content == b"theirs"
    assert "another program changed it since" in caught.value.cause


def test_a_signal_unwinds_between_two_steps(node: FakeNode) -> None:
    stop = Stop()

    def on_job(name: str, verb: str) -> None:
        if (name, verb) == (paths.SNAPSHOTTER_UNIT, "start"):
            stop.signal = "SIGTERM"

    node.units.on_job.append(on_job)
    with pytest.raises(ApplyError, match="SIGTERM was received"):
        apply(node, stop=stop)
    assert state(node) == OLD_STATE


def test_what_a_running_snapshotter_used_is_running_again_after_an_undo(node: FakeNode) -> None:
    apply(node)
    before = state(node)
    plan = Plan(
        (
            write(node, paths.NYDUSD_TEMPLATE, b'{"changed": 1}'),
            UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.RESTART, "reads its template at start"),
            AwaitSnapshotter(paths.SNAPSHOTTER_SOCKET),
        )
    )
    with pytest.raises(ApplyError):
        apply(node, plan, prove=lambda: ContainerdError("NNA0651", "no"))
    assert state(node) == before
    jobs = [call for call in node.faults.calls if call[:2] == ("job", paths.SNAPSHOTTER_UNIT)]
    assert jobs[-1] == ("job", paths.SNAPSHOTTER_UNIT, "restart")


def test_a_removal_that_fails_brings_the_snapshotter_back_before_containerd(node: FakeNode) -> None:
    apply(node)
    before = state(node)
    unit = node.files.read(paths.SNAPSHOTTER_UNIT_FILE)
    assert isinstance(unit, FileFact)
    plan = Plan(
        (
            write(node, CONFIG, OLD, mode=0o640),
            UnitStep(paths.CONTAINERD_UNIT, UnitVerb.RESTART, "old configuration"),
            AwaitContainerd("/run/containerd/containerd.sock"),
            UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.STOP, "removed"),
            UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.DISABLE, "removed"),
            RemoveFile(paths.SNAPSHOTTER_UNIT_FILE, "ours", unit.sha256, unit.content, unit.mode),
            ReloadUnits("unit gone"),
        )
    )
    done = len(node.faults.calls)
    with pytest.raises(ApplyError):
        apply(node, plan, prove=lambda: ContainerdError("NNA0651", "no"))
    assert state(node) == before
    restarts = [call[1] for call in node.faults.calls[done:] if call[0] == "job" and call[2] == "restart"]
    assert restarts == [paths.CONTAINERD_UNIT, paths.SNAPSHOTTER_UNIT, paths.CONTAINERD_UNIT]


def test_two_runs_do_not_mix(node: FakeNode) -> None:
    with node.ledger.lock("recover"), pytest.raises(LockedError, match="recover"):
        apply(node)


def test_a_torn_journal_line_is_an_act_that_never_began(node: FakeNode) -> None:
    node.faults.at(1, Crash(), method="reload")
    with pytest.raises(Crash):
        apply(node)
    node.ledger.written.append(b'{"t":"intent","n":4,"wh')
    assert finish(node) is not None
    assert state(node) == OLD_STATE


def test_a_journal_of_another_program_is_not_guessed_at(node: FakeNode) -> None:
    node.ledger.begin(b'{"t":"intent","n":0}', 0)
    with pytest.raises(ApplyError) as caught:
        finish(node)
    assert caught.value.code == "NNA0410"
    assert node.ledger.open


def test_the_undo_has_room_on_a_full_disk(node: FakeNode) -> None:
    reserves = []
    node.files.before_write = lambda path: reserves.append((path, node.ledger.reserve)) if path == CONFIG else None
    with pytest.raises(ApplyError):
        apply(node, prove=lambda: ContainerdError("NNA0651", "no"))
    first, last = reserves[0][1], reserves[-1][1]
    assert first > 2 * len(OLD)
    assert last == 0


def test_a_damaged_generation_is_told_and_nothing_is_done(node: FakeNode) -> None:
    apply(node)
    node.files.put(f"{paths.GENERATIONS}/1.json", b"{")
    with pytest.raises(ApplyError) as caught:
        apply(node, NOTHING)
    assert caught.value.code == "NNA0413"


def test_the_first_pre_image_is_kept_over_many_generations(node: FakeNode) -> None:
    apply(node)
    apply(node, Plan((write(node, CONFIG, NEW + b"# more\n", mode=0o640),)))
    original = {one.path: one for one in generations.originals(generations.history(node.files))}[CONFIG]
    assert (original.content, original.mode, original.unbroken) == (OLD, 0o640, True)
    assert original.written_sha256 == hashlib.sha256(NEW + b"# more\n").hexdigest()


def test_an_edit_by_the_operator_between_two_generations_is_remembered(node: FakeNode) -> None:
    apply(node)
    node.files.put(CONFIG, NEW + b"# the operator's\n", mode=0o640)
    apply(node, Plan((write(node, CONFIG, NEW + b"# the operator's\n# ours\n", mode=0o640),)))
    original = {one.path: one for one in generations.originals(generations.history(node.files))}[CONFIG]
    assert not original.unbroken


def test_directories_that_a_change_made_go_with_it(node: FakeNode) -> None:
    with pytest.raises(ApplyError):
        apply(node, prove=lambda: ContainerdError("NNA0651", "no"))
    assert "/etc/nydus" not in node.files.directories
    assert paths.CERTS_D not in node.files.directories
    assert "/etc/containerd" in node.files.directories


def test_an_open_journal_is_undone_before_the_next_apply(node: FakeNode) -> None:
    node.faults.at(1, Crash(), method="job")
    with pytest.raises(Crash):
        apply(node)
    node.faults.clear()
    assert journal.read(node.ledger) is not None
    with node.ledger.lock("apply"):
        finish(node)
    apply(node)
    assert state(node) == NEW_STATE


def test_an_error_of_a_changed_file_is_not_retried_blindly(node: FakeNode) -> None:
    node.faults.at(1, FileChangedError("NNA0425", "changed"), method="replace")
    with pytest.raises(ApplyError):
        apply(node)
    assert sum(call == ("replace", paths.NYDUSD_TEMPLATE) for call in node.faults.calls) == 1
