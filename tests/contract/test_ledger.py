"""The ledger and dpkg's lock: the contracts on the fakes and on the disk, and what only a disk can do."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from agent.errors import FileError, LockedError
from agent.ports import Ledger, PackageManager
from agent.system.ledger import DiskLedger, DpkgFrontend
from tests.fakes.dpkg import FakePackageManager
from tests.fakes.ledger import FakeLedger

JOURNAL = "journal/open.jsonl"
RESERVE = "journal/reserve"


@pytest.fixture(params=["fake", "disk"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return FakeLedger() if request.param == "fake" else DiskLedger(str(tmp_path / "state"))


def test_nothing_is_open_at_first(ledger: Ledger) -> None:
    assert ledger.lines() == ()
    ledger.close()
    assert ledger.lines() == ()


def test_lines_come_back_in_their_order_until_the_journal_is_closed(ledger: Ledger) -> None:
    ledger.begin(b"first", 100)
    ledger.append(b"second")
    ledger.spend()
    ledger.append(b"third")
    assert ledger.lines() == (b"first", b"second", b"third")
    ledger.close()
    assert ledger.lines() == ()


def test_a_new_journal_holds_nothing_of_the_one_before(ledger: Ledger) -> None:
    ledger.begin(b"old", 1)
    ledger.close()
    ledger.begin(b"new", 1)
    assert ledger.lines() == (b"new",)


def test_the_lock_is_for_one_and_free_again_afterwards(ledger: Ledger) -> None:
    with ledger.lock("apply"), pytest.raises(LockedError) as caught, ledger.lock("remove"):
        pass
    assert caught.value.code == "NNA0401"
    with ledger.lock("remove"):
        pass
    assert ledger.lines() == ()


def test_who_holds_the_lock_is_a_process_and_nobody_else_is_ended_in_its_place(ledger: Ledger) -> None:
    assert ledger.holder() == 0
    with ledger.lock("apply"):
        pid = ledger.holder()
        assert pid > 0
        assert not ledger.end_holder(pid + 1, kill=True)
    assert ledger.holder() == 0
    assert not ledger.end_holder(pid, kill=True)


@pytest.fixture
def disk(tmp_path: Path) -> DiskLedger:
    return DiskLedger(str(tmp_path))


def test_no_other_user_can_hold_the_lock_and_so_forbid_changes(disk: DiskLedger, tmp_path: Path) -> None:
    # flock(2) asks for no right beyond an open descriptor, so nobody else may open the file, not even to
    # read.
    (tmp_path / "lock").touch()
    (tmp_path / "lock").chmod(0o644)
    with disk.lock("apply"):
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_only_root_can_read_what_the_journal_can_put_back(disk: DiskLedger, tmp_path: Path) -> None:
    disk.begin(b"secret", 10)
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / JOURNAL).stat().st_mode) == 0o600


def test_the_reserve_holds_real_blocks_until_the_undo_needs_them(disk: DiskLedger, tmp_path: Path) -> None:
    disk.begin(b"first", 1 << 20)
    assert (tmp_path / RESERVE).stat().st_blocks * 512 >= 1 << 20
    disk.spend()
    assert not (tmp_path / RESERVE).exists()


def test_nothing_is_left_of_a_closed_journal_that_would_run_recovery_at_boot(
    disk: DiskLedger, tmp_path: Path
) -> None:
    disk.begin(b"first", 10)
    disk.close()
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_torn_last_line_is_left_out_and_the_next_one_stands_for_itself(
    disk: DiskLedger, tmp_path: Path
) -> None:
    disk.begin(b"first", 10)
    with open(tmp_path / JOURNAL, "ab") as file:
        file.write(b'{"half')
    assert disk.lines() == (b"first",)
    disk.append(b"next")
    assert disk.lines() == (b"first", b'{"half', b"next")


def test_a_full_disk_at_the_begin_leaves_no_journal(disk: DiskLedger, tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        disk.begin(b"first", 1 << 60)
    assert caught.value.code == "NNA0427"
    assert disk.lines() == ()
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_second_lock_in_the_state_directory_writes_nothing(disk: DiskLedger, tmp_path: Path) -> None:
    with disk.lock("apply"):
        pass
    before = (tmp_path / "lock").stat()
    with disk.lock("apply"):
        pass
    after = (tmp_path / "lock").stat()
    assert (before.st_mtime_ns, before.st_ino, before.st_size) == (after.st_mtime_ns, after.st_ino, 0)


def _hold(directory: str, ready: Connection) -> None:
    with DiskLedger(directory).lock("apply"):
        ready.send(os.getpid())
        signal.pause()


@contextmanager
def held_by_another(directory: Path) -> Iterator[ForkProcess]:
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_hold, args=(str(directory), there))
    child.start()
    try:
        assert here.poll(10)
        yield child
    finally:
        child.kill()
        child.join(10)


def test_who_holds_the_lock_is_named_and_a_killed_holder_holds_nothing(
    disk: DiskLedger, tmp_path: Path
) -> None:
    with held_by_another(tmp_path) as child:
        with pytest.raises(LockedError) as caught, disk.lock("remove"):
            pass
        assert f"process {child.pid}" in caught.value.cause
    with disk.lock("remove"):
        assert not child.is_alive()


def test_a_lock_of_another_file_system_is_not_taken_for_ours(disk: DiskLedger, tmp_path: Path) -> None:
    """A user's tmpfs has a file of the same number, and he locks it: nothing of his is named or ended."""
    with disk.lock("apply"):
        wanted = (tmp_path / "lock").stat().st_ino
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "theirs", theirs], check=True, timeout=60)
    try:
        for _ in range(wanted):  # a tmpfs numbers its files one after the other
            (theirs / "lock").unlink(missing_ok=True)
            (theirs / "lock").touch()
            if (theirs / "lock").stat().st_ino >= wanted:
                break
        assert (theirs / "lock").stat().st_ino == wanted
        with open(theirs / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert disk.holder() == 0
            assert not disk.end_holder(os.getpid(), kill=False)
        with disk.lock("apply"):
            assert disk.holder() == os.getpid()
    finally:
        subprocess.run(["umount", theirs], check=True, timeout=60)


@pytest.mark.parametrize("kill", [False, True])
def test_even_a_stopped_holder_can_be_ended(disk: DiskLedger, tmp_path: Path, kill: bool) -> None:
    with held_by_another(tmp_path) as child:
        pid = child.pid or 0
        os.kill(pid, signal.SIGSTOP)
        assert disk.holder() == pid
        assert disk.end_holder(pid, kill=kill)
        child.join(10)
        assert child.exitcode == (-signal.SIGKILL if kill else -signal.SIGTERM)
        assert disk.holder() == 0
        assert not disk.end_holder(pid, kill=kill)


Held = Callable[[], AbstractContextManager[tuple[PackageManager, int]]]

_HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); "
    "sys.stdin.read()"
)


@contextlib.contextmanager
def _really_held(root: Path) -> Iterator[tuple[PackageManager, int]]:
    """As apt does it: another process has a POSIX lock on the frontend's file."""
    lock = root / "var/lib/dpkg/lock-frontend"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as apt:
        assert apt.stdout is not None
        apt.stdout.readline()
        yield DpkgFrontend(str(root)), apt.pid


@contextlib.contextmanager
def _fake_held() -> Iterator[tuple[PackageManager, int]]:
    yield FakePackageManager(pid=7), 7


@pytest.fixture(params=["fake", "real"])
def free(request: pytest.FixtureRequest, tmp_path: Path) -> PackageManager:
    if request.param == "fake":
        return FakePackageManager()
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/lock-frontend").touch()
    return DpkgFrontend(str(tmp_path))


@pytest.fixture(params=["fake", "real"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Held:
    if request.param == "fake":
        return _fake_held
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    return lambda: _really_held(tmp_path)


def test_a_lock_that_nobody_holds_lets_a_change_begin(free: PackageManager) -> None:
    assert free.holder() is None


def test_the_holder_is_named_by_its_pid(held: Held) -> None:
    with held() as (manager, pid):
        assert manager.holder() == pid


def test_a_node_without_dpkgs_lock_is_free(tmp_path: Path) -> None:
    assert DpkgFrontend(str(tmp_path)).holder() is None


def test_looking_does_not_take_the_lock(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/lock-frontend").touch()
    watcher = DpkgFrontend(str(tmp_path))
    watcher.holder()
    with _really_held(tmp_path) as (_, pid):
        assert watcher.holder() == pid
