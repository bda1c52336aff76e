"""The transaction: all or nothing, whatever fails in the middle."""

from __future__ import annotations

import hashlib

import pytest

from agent import paths
from agent.apply import change
from agent.apply.execute import Stop
from agent.config.model import Dialect, Switch
from agent.console import exit_of
from agent.errors import (
    AgentError,
    ApplyError,
    ContainerdError,
    Exit,
    FileChangedError,
)
from agent.facts.node import Effective, FileFact
from agent.ports import Finished
from agent.records import generations
from agent.records.journal import PutBack
from agent.steps import (
    AwaitContainerd,
    CheckContainerdConfig,
    Plan,
    ReloadUnits,
    RemoveFile,
    UnitStep,
    UnitVerb,
)
from tests.fakes.node import FakeNode
from tests.unit.change_stage import (
    CONFIG,
    EFFECTIVE,
    NEW,
    NOTHING,
    OLD,
    OLD_STATE,
    a_node,
    apply,
    calls_of_an_apply,
    finish,
    of_the_operator,
    state,
    the_plan,
    write,
)


@pytest.fixture
def node() -> FakeNode:
    return a_node()


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
    result = apply(
        node, NOTHING, effective=Effective(Switch.FENCE, Dialect.PROXY, use_http=False, reasons=("other",))
    )
    assert (result.generation, result.changed) == (None, False)
    assert node.files.inodes() == inodes
    assert node.faults.calls[calls:] == []


def test_a_new_choice_without_a_changed_file_still_reaches_the_daemon(node: FakeNode) -> None:
    apply(node)
    apply(node, NOTHING, effective=Effective(Switch.NATIVE, Dialect.PROXY, use_http=False))
    assert b'"native"' in node.files.files[paths.EFFECTIVE].content
    assert generations.numbers(node.files) == (1,)


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), RecursionError("too deep"), KeyboardInterrupt(), SystemExit(3)]
)
def test_a_bug_or_an_interrupt_in_any_step_puts_the_node_back_and_is_named(error: BaseException) -> None:
    """An exception that is no error of ours, at each file, job and check in turn."""
    total = len(calls_of_an_apply())
    assert total > 20
    opened: list[int] = []
    for nth in range(1, total - 2):
        node = a_node()
        node.faults.at(nth, error)
        with pytest.raises((ApplyError, type(error))) as caught:
            apply(node)
        if isinstance(caught.value, ApplyError):
            assert caught.value.code == "NNA0402", nth
            assert type(error).__name__ in caught.value.cause, nth
        else:  # it ended before the journal was open: nothing had been done
            opened.append(nth)
        assert state(node) == OLD_STATE, (nth, node.faults.calls[nth - 1])
        assert not node.ledger.open, nth
    assert opened == [1]


def test_a_bug_in_the_proof_puts_the_node_back(node: FakeNode) -> None:
    def proof() -> AgentError | None:
        raise RuntimeError("a proof that fell over")

    with pytest.raises(ApplyError) as caught:
        apply(node, prove=proof)
    assert caught.value.code == "NNA0402"
    assert "a proof that fell over" in caught.value.cause
    assert state(node) == OLD_STATE
    assert not node.ledger.open


def test_a_bug_in_the_undo_keeps_no_other_part_from_being_put_back(node: FakeNode) -> None:
    """What could not be put back is named, the journal stays open, and the next run ends it."""
    node.units.fail_job(paths.CONTAINERD_UNIT, "restart")
    node.faults.at(2, RuntimeError("a bug in an undo"), method="reload")
    with pytest.raises(ApplyError) as caught:
        apply(node)
    assert caught.value.code == "NNA0403"
    assert "a bug in an undo" in caught.value.cause
    assert of_the_operator(node) == of_the_operator(a_node())
    assert node.ledger.open
    finish(node)
    assert state(node) == OLD_STATE
    assert not node.ledger.open


def test_a_terminal_that_is_gone_does_not_end_an_undo(node: FakeNode) -> None:
    def gone(_: object) -> None:
        raise BrokenPipeError

    intention = change.Intention("apply", the_plan(node), EFFECTIVE)
    around = change.Surroundings(gone, gone, Stop())
    with node.ledger.lock("apply"), pytest.raises(ApplyError) as caught:
        change.carry_out(node.ports, intention, lambda: None, around)
    assert caught.value.code == "NNA0402"
    assert state(node) == OLD_STATE
    assert not node.ledger.open


def test_containerd_that_stays_down_names_both_causes_and_keeps_the_journal(node: FakeNode) -> None:
    node.units.fail_job(paths.CONTAINERD_UNIT, "restart", times=2)
    with pytest.raises(ApplyError) as caught:
        apply(node)
    assert caught.value.code == "NNA0403"
    assert exit_of(caught.value) is Exit.UNKNOWN, "it is not as it was before"
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


def test_containerd_is_not_restarted_on_files_that_it_reads_otherwise_than_their_candidates(
    node: FakeNode,
) -> None:
    """A glob of an import may find by the file's own name what it did not find by the candidate's."""

    def dump(argv: tuple[str, ...], _stdin: bytes) -> Finished:
        return Finished(argv, 0, "nydus = false\n" if argv[2] == CONFIG else "nydus = true\n", "")

    node.processes.act("containerd", by=dump)
    with pytest.raises(ApplyError, match="nydus is false, wanted true"):
        apply(node)
    assert ("replace", CONFIG) in node.faults.calls
    assert ("job", paths.CONTAINERD_UNIT, "restart") not in node.faults.calls
    assert state(node) == OLD_STATE


def test_an_undo_does_not_overwrite_what_another_program_wrote_after_us(node: FakeNode) -> None:
    def prove() -> AgentError | None:
        node.files.put(CONFIG, b"theirs")
        return ContainerdError("NNA0405", "CRI does not answer")

    with pytest.raises(ApplyError) as caught:
        apply(node, prove=prove)
    assert caught.value.code == "NNA0403"
    assert node.files.files[CONFIG].content == b"theirs"
    assert "another program changed it since" in caught.value.cause


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
        apply(node, plan, prove=lambda: ContainerdError("NNA0405", "no"))
    assert state(node) == before
    restarts = [call[1] for call in node.faults.calls[done:] if call[0] == "job" and call[2] == "restart"]
    assert restarts == [paths.CONTAINERD_UNIT, paths.SNAPSHOTTER_UNIT, paths.CONTAINERD_UNIT]


def test_the_undo_has_room_on_a_full_disk(node: FakeNode) -> None:
    reserves = []
    node.files.before_write = (
        lambda path: reserves.append((path, node.ledger.reserve)) if path == CONFIG else None
    )
    with pytest.raises(ApplyError):
        apply(node, prove=lambda: ContainerdError("NNA0405", "no"))
    first, last = reserves[0][1], reserves[-1][1]
    assert first > 2 * len(OLD)
    assert last == 0


def test_the_first_pre_image_is_kept_over_many_generations(node: FakeNode) -> None:
    apply(node)
    apply(node, Plan((write(node, CONFIG, NEW + b"# more\n", mode=0o640),)))
    (record,) = [one for one in generations.records(generations.history(node.files)) if one.path == CONFIG]
    assert (record.content_before, record.mode) == (OLD, 0o640)
    assert record.content == NEW + b"# more\n"


def test_an_edit_by_the_operator_between_two_generations_is_remembered(node: FakeNode) -> None:
    apply(node)
    node.files.put(CONFIG, NEW + b"# the operator's\n", mode=0o640)
    apply(node, Plan((write(node, CONFIG, NEW + b"# the operator's\n# ours\n", mode=0o640),)))
    (record,) = [one for one in generations.records(generations.history(node.files)) if one.path == CONFIG]
    assert record.content == NEW


def test_directories_that_a_change_made_go_with_it(node: FakeNode) -> None:
    with pytest.raises(ApplyError):
        apply(node, prove=lambda: ContainerdError("NNA0405", "no"))
    assert "/etc/nydus" not in node.files.directories
    assert paths.CERTS_D not in node.files.directories
    assert "/etc/containerd" in node.files.directories


def test_a_directory_that_was_first_made_for_containerds_check_goes_with_the_change_too(
    node: FakeNode,
) -> None:
    check = CheckContainerdConfig("/etc/other/config.toml", NEW, (("nydus", "true"),))
    steps = (check, write(node, "/etc/other/config.toml", NEW))
    apply(node, Plan(steps))
    (done,) = generations.history(node.files)[0].steps
    assert isinstance(done.undo, PutBack)
    assert done.undo.missing == ("/etc/other",)


def test_nothing_is_left_of_a_directory_that_only_the_check_needed() -> None:
    for refused in (False, True):
        node = a_node()
        if refused:
            node.processes.on("containerd", code=1)
        try:
            apply(node, Plan((CheckContainerdConfig("/etc/other/config.toml", NEW, (("nydus", "true"),)),)))
        except ApplyError:
            assert refused
        assert "/etc/other" not in node.files.directories


def test_an_error_of_a_changed_file_is_not_retried_blindly(node: FakeNode) -> None:
    node.faults.at(1, FileChangedError("NNA0412", "changed"), method="replace")
    with pytest.raises(ApplyError):
        apply(node)
    assert sum(call == ("replace", paths.NYDUSD_TEMPLATE) for call in node.faults.calls) == 1


def test_an_edit_just_before_our_write_is_kept_and_leaves_nothing_open(node: FakeNode) -> None:
    node.files.before_write = lambda path: node.files.put(path, b"by hand\n") if path == CONFIG else None
    with pytest.raises(ApplyError) as caught:
        apply(node)
    assert caught.value.code == "NNA0402"
    assert "another program changed it" in caught.value.cause
    assert any("ours was not written" in seen for seen in caught.value.seen)
    assert node.files.files[CONFIG].content == b"by hand\n"
    assert not node.ledger.open
    node.files.before_write = lambda _path: None
    node.files.put(CONFIG, OLD, mode=0o640)
    assert state(node) == OLD_STATE
