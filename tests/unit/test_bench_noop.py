"""The bench of an apply with nothing to do counts what changes a file system, and nothing else."""

from __future__ import annotations

import pytest

from tests.bench.noop import joined, writes

ENTERED = '7  execve("/usr/bin/nydus-agent", ["nydus-agent", "apply"], 0x7ff /* 9 vars */) = 0'


def counted(*lines: str) -> list[str]:
    return list(writes([ENTERED, *lines]))


@pytest.mark.parametrize(
    "line",
    [
        '7  write(5</etc/x>, "a", 1) = 1',
        '7  openat(AT_FDCWD</>, "/etc/x", O_WRONLY|O_CREAT|O_TRUNC, 0600) = 5</etc/x>',
        '7  openat(5</etc>, ".x.tmp", O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW, 0600) = 6</etc/.x.tmp>',
        '7  renameat(5</etc>, ".x.tmp", 5</etc>, "x") = 0',
        '7  unlink("/var/lib/nydus-agent/journal/open.jsonl") = 0',
        '7  mkdir("/etc/nydus", 0755) = 0',
        "7  fchmod(5</etc/x>, 0644) = 0",
    ],
)  # fmt: skip
def test_what_changes_a_file_or_a_name_is_a_write(line: str) -> None:
    assert len(counted(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        '7  write(1<pipe:[123]>, "a", 1) = 1',
        '7  write(5<socket:[123]>, "a", 1) = 1',
        '7  write(5<anon_inode:[eventfd]>, "a", 1) = 1',
        '7  write(2</dev/null>, "a", 1) = 1',
        '7  openat(AT_FDCWD</>, "/var/lib/nydus-agent/lock", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = '
        '5</var/lib/lock>',
        '7  openat(AT_FDCWD</>, "/etc/x", O_RDONLY|O_CLOEXEC) = 5</etc/x>',
        '7  mkdir("/var/lib/nydus-agent", 0755) = -1 EEXIST (File exists)',
        '7  execve("/usr/bin/uname", ["uname", "-m"], 0x7ff /* 9 vars */) = 0',
    ],
)  # fmt: skip
def test_pipes_sockets_devices_and_what_failed_are_none(line: str) -> None:
    assert counted(line) == []


def test_our_own_way_into_the_node_does_not_count() -> None:
    assert list(writes(['7  write(1</sys/fs/cgroup/x/cgroup.procs>, "7\\n", 2) = 2', ENTERED])) == []


def test_a_call_that_another_process_interrupted_in_the_log_counts_once() -> None:
    halves = [
        '7  write(5</etc/x>, "a", 1 <unfinished ...>',
        '8  execve("/bin/true", ["true"], 0x7ff) = 0',
        "7  <... write resumed>) = 1",
    ]
    assert len(list(joined(halves))) == 2
    assert len(counted(*halves)) == 1
