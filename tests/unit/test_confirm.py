"""A change that must be confirmed is taken back unless somebody says in time that it may stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent import paths
from agent.apply import confirm, remove, rollback
from agent.apply.gate import Urgency
from agent.cli import VERBS, build_parser
from agent.config.model import Config, ContainerdConfig, ContainerdMode
from agent.console import exit_of
from agent.errors import ApplyError, Exit, FileError, LockedError, SystemdError, UsageError
from agent.facts.node import Moment
from agent.records import generations
from agent.records.generations import Pending
from tests.unit.proved_node import CONFIG, ROOT, quiet
from tests.unit.unconfirmed import LOUD, SECONDS, Waiting


@pytest.fixture
def first() -> Waiting:
    """A node on which nothing was applied yet."""
    return Waiting()


@pytest.fixture
def second() -> Waiting:
    """A node with an accepted generation."""
    return Waiting.with_generation()


def test_a_first_change_that_nobody_confirms_leaves_the_node_without_the_agent(first: Waiting) -> None:
    first.apply()
    assert first.made.etc() != first.made.before
    assert first.pass_time(SECONDS - 1) == []
    assert generations.applied(first.node.files) is not None
    (taken,) = first.pass_time(1)
    assert taken is not None
    assert taken.why == "generation 1 was not confirmed: the node is as it was without the agent"
    assert first.made.etc() == first.made.before
    assert generations.applied(first.node.files) is None
    assert first.node.containerd.mountpoints != (ROOT,)
    assert first.healthy()
    assert not first.node.ledger.open


def test_a_later_change_that_nobody_confirms_leaves_the_generation_before(second: Waiting) -> None:
    before = second.made.etc()
    second.apply(LOUD)
    assert second.made.etc() != before
    (taken,) = second.pass_time()
    assert taken is not None
    assert taken.why == "generation 2 was not confirmed: the node is as it was after generation 1"
    assert second.made.etc() == before
    newest = generations.newest(second.node.files)
    assert newest is not None
    assert (newest.number, newest.verb, newest.to) == (3, "rollback", 1)
    assert second.healthy()


@pytest.mark.parametrize("made", ["first", "second"])
def test_a_change_that_is_confirmed_in_time_stays(made: str, request: pytest.FixtureRequest) -> None:
    waiting: Waiting = request.getfixturevalue(made)
    waiting.apply(LOUD)
    changed = waiting.made.etc()
    waiting.node.clock.advance(37)
    kept = waiting.confirm()
    assert kept is not None
    assert kept[1] == pytest.approx(SECONDS - 37)
    assert not waiting.node.alarms.waits(confirm.TIMER)
    assert waiting.pass_time() == []
    assert waiting.made.etc() == changed
    assert waiting.reboot() is None
    assert waiting.made.etc() == changed
    assert waiting.confirm() is None, "a second time says so and changes nothing"


def test_who_confirms_too_late_is_told_what_became_of_it(first: Waiting) -> None:
    first.apply()
    first.pass_time()
    first.node.clock.advance(65)
    with pytest.raises(ApplyError) as caught:
        first.confirm()
    assert (caught.value.code, exit_of(caught.value)) == ("NNA0418", Exit.FAILED)
    assert "the node is as it was without the agent, 1 min 5 s ago" in caught.value.cause
    first.made.apply()
    assert first.confirm() is None, "after a new change that is no news any more"


def test_while_a_change_waits_no_other_is_begun_and_both_ways_out_are_named(first: Waiting) -> None:
    first.apply()
    before = first.node.files.inodes()
    first.node.clock.advance(20)
    for urgency in Urgency:
        with pytest.raises(ApplyError) as caught:
            first.made.apply(urgency)
        assert (caught.value.code, exit_of(caught.value)) == ("NNA0417", Exit.LOCKED)
        assert "it is taken back in 1 min 40 s" in caught.value.cause
        assert caught.value.seen == ("nydus-agent confirm keeps it", "nydus-agent rollback takes it back now")
    with pytest.raises(ApplyError, match="waits for its confirmation"):
        first.apply(LOUD)
    assert first.node.files.inodes() == before
    first.confirm()
    assert first.made.apply().generation is None


def test_a_change_can_be_taken_back_at_once(second: Waiting) -> None:
    before = second.made.etc()
    second.apply(LOUD)
    with second.ports.ledger.lock("rollback"):
        taken = rollback.take_back(LOUD, second.ports, quiet())
    assert taken is not None
    assert second.made.etc() == before
    assert not second.node.alarms.waits(confirm.TIMER)
    with second.ports.ledger.lock("rollback"):
        assert rollback.take_back(LOUD, second.ports, quiet()) is None


def test_a_timer_that_ends_in_the_middle_of_a_rollback_by_hand_finds_nothing_to_do(second: Waiting) -> None:
    before = second.made.etc()
    second.apply(LOUD)
    second.node.clock.advance(SECONDS)
    (alarm,) = second.node.alarms.due()
    rollback.roll_back(LOUD, second.ports, quiet(), to=1)
    files = second.node.files.inodes()
    assert second.goes_off(alarm) is None
    assert second.node.files.inodes() == files
    assert second.made.etc() == before


def test_a_change_that_had_nothing_to_do_waits_for_nothing(second: Waiting) -> None:
    assert not second.apply().changed
    assert confirm.pending(second.node.files) is None
    assert second.confirm() is None


def test_a_change_that_fails_by_itself_waits_for_nothing(first: Waiting) -> None:
    first.node.load_plugins = lambda: first.node.containerd.plugin_facts
    with pytest.raises(ApplyError, match="NNA0653"):
        first.apply()
    assert first.made.etc() == first.made.before
    assert confirm.pending(first.node.files) is None
    assert first.pass_time() == []


def test_without_an_alarm_nothing_is_begun(first: Waiting) -> None:
    first.node.alarms.systemd_running = False
    with pytest.raises(SystemdError):
        first.apply()
    assert first.made.etc() == first.made.before
    assert confirm.pending(first.node.files) is None
    assert not first.node.ledger.open


def test_without_room_for_the_journal_nothing_waits(first: Waiting) -> None:
    first.node.faults.at(1, FileError("NNA0427", "disk is full"), method="begin")
    with pytest.raises(FileError):
        first.apply()
    assert confirm.pending(first.node.files) is None
    assert not first.node.alarms.waits(confirm.TIMER)


def test_what_was_taken_back_begins_by_order_only(first: Waiting) -> None:
    first.apply()
    first.pass_time()
    assert "holds until nydus-agent apply" in confirm.hold(first.node.files)
    first.made.apply()
    assert confirm.hold(first.node.files) == ""


def test_containers_that_were_started_meanwhile_keep_their_snapshotter(first: Waiting) -> None:
    first.apply()
    first.use_containers(2)
    (taken,) = first.pass_time()
    assert taken is not None
    assert "the snapshotter stays for 2 that run on it, until nydus-agent remove" in taken.why
    files = first.node.files.files
    config = files[CONFIG.containerd.config].content
    assert b"proxy_plugins.nydus" in config, "containerd can clean up after them"
    assert b'snapshotter = "nydus"' not in config, "new containers start as before"
    assert not [path for path in files if path.startswith("/etc/containerd/certs.d")], "nor do pulls change"
    assert first.healthy()
    newest = generations.newest(first.node.files)
    assert newest is not None
    assert (newest.verb, newest.to) == ("rollback", 0)
    assert confirm.hold(first.node.files)
    assert generations.in_force(first.node.files, CONFIG).containerd.mode is ContainerdMode.PLUGIN_ONLY
    first.use_containers(0)
    remove.remove_setup(CONFIG, first.ports, quiet(), force=False)
    assert first.made.etc() == first.made.before


def test_a_broken_configuration_does_not_keep_a_change_from_being_taken_back(second: Waiting) -> None:
    before = second.made.etc()
    second.apply(replace(LOUD, containerd=ContainerdConfig(mode=ContainerdMode.PLUGIN_ONLY)))
    second.made.config = Config()  # what `rollback` takes in place of one that is wrong
    second.pass_time()
    assert second.made.etc() == before


def test_a_confirmation_while_the_change_is_under_way_is_told_to_wait(first: Waiting) -> None:
    with first.ports.ledger.lock("apply"), pytest.raises(LockedError):
        first.confirm()


PENDING = Pending("id", 3, 120, at=1000.0, boot="b", boottime=500.0, pid=7)


@pytest.mark.parametrize("step", [-1e6, 0.0, 1e6])
def test_the_time_that_is_left_does_not_move_with_the_wall_clock(step: float) -> None:
    assert PENDING.left_s(Moment(1037.0 + step, 537.0, "b", 537.0)) == pytest.approx(83)
    assert PENDING.left_s(Moment(5000.0 + step, 4500.0, "b", 4500.0)) == 0


def test_another_boot_is_known_by_its_id_or_by_its_length() -> None:
    assert PENDING.same_boot(Moment(0.0, 537.0, "b", 537.0))
    assert not PENDING.same_boot(Moment(0.0, 20.0, "c", 20.0))
    # A container keeps the host's boot id and boot clock: its PID 1 is younger than the change.
    assert not PENDING.same_boot(Moment(0.0, 600.0, "b", 30.0))
    assert PENDING.same_boot(Moment(0.0, 600.0, "b", None))


def test_a_record_that_is_no_record_is_no_change_that_waits(first: Waiting) -> None:
    for content in (b"", b"[]", b'{"id": "x"}', b"\xff"):
        first.node.files.put(paths.UNCONFIRMED, content)
        assert confirm.pending(first.node.files) is None
        first.node.files.put(paths.TAKEN_BACK, content)
        assert confirm.taken(first.node.files) is None
    assert first.made.apply().generation == 1


def test_everyone_may_read_that_a_change_waits_and_nobody_else_may_say_so(first: Waiting) -> None:
    first.apply()
    file = first.node.files.files[paths.UNCONFIRMED]
    assert (file.mode, file.uid) == (0o644, 0)


@pytest.mark.parametrize("text", ["29s", "2d", "1", "soon", ""])
def test_a_time_that_is_no_sensible_one_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        build_parser([verb for verb in VERBS if verb.name == "apply"]).parse_args(
            ["apply", "--confirm", text]
        )


def test_the_alarm_starts_us_with_the_same_configuration_files(first: Waiting) -> None:
    first.context = replace(first.context, config_file="/srv/a b.toml", conf_d="/srv/conf.d")
    first.apply()
    first.node.clock.advance(SECONDS)
    (alarm,) = first.node.alarms.due()
    change = confirm.pending(first.node.files)
    assert change is not None
    options = ("--config=/srv/a b.toml", "--conf-d=/srv/conf.d")
    assert alarm.argv == ("/usr/bin/nydus-agent", "rollback", *options, f"--unconfirmed={change.id}")
    args = build_parser([verb for verb in VERBS if verb.name == "rollback"]).parse_args(list(alarm.argv[1:]))
    assert (args.unconfirmed, args.config) == (change.id, "/srv/a b.toml")
    assert alarm.tries > 1
