"""dpkg's lock and its fake: who holds it, and nobody."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agent.ports import PackageManager
from agent.system.ledger import DpkgFrontend
from tests.fakes.dpkg import FakePackageManager

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
