"""Processes: the contract on the fake and on real children, and what only real children can do."""

from __future__ import annotations

import gc
import hashlib
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.errors import ProcessError
from agent.ports import Finished, Processes, RunningProgram
from agent.system.process import OUTPUT_CAP, ChildProcesses
from tests.contract.waiting import ENDS_S
from tests.fakes.processes import FakeProcesses

_TALK = ("sh", "-c", "echo out; echo why >&2; exit 3")
_DIGEST = hashlib.sha256(Path(sys.executable).read_bytes()).hexdigest()
_NOBODY = (1 << 22) + 1  # above the kernel's own limit of process numbers (proc_sys_kernel(5), pid_max)


def _fake() -> Processes:
    fake = FakeProcesses({"sh": "/usr/bin/sh"})
    fake.on("true")
    fake.running[os.getpid()] = RunningProgram(os.path.realpath(sys.executable), replaced=False), _DIGEST
    fake.on(*_TALK, code=3, stdout="out\n", stderr="why\n")
    fake.act("cat", by=lambda argv, stdin: Finished(argv, 0, stdin.decode(), ""))
    return fake


class ProcessesContract:
    """Run by a class that has a fixture `port`."""

    def test_output_and_exit_code_come_back(self, port: Processes) -> None:
        assert port.run(["true"], deadline_s=5) == Finished(("true",), 0, "", "")
        assert port.run(_TALK, deadline_s=5, ok=(0, 3)) == Finished(_TALK, 3, "out\n", "why\n")

    def test_another_exit_code_is_an_error_with_the_last_lines(self, port: Processes) -> None:
        with pytest.raises(ProcessError) as caught:
            port.run(_TALK, deadline_s=5)
        assert caught.value.code == "NNA0221"
        assert "3" in caught.value.cause
        assert "why" in caught.value.seen

    def test_a_missing_program_is_named(self, port: Processes) -> None:
        with pytest.raises(ProcessError) as caught:
            port.run(["no-such-program", "-v"], deadline_s=5)
        assert caught.value.code == "NNA0221"
        assert "no-such-program" in caught.value.what
        assert port.which("no-such-program") is None

    def test_stdin_reaches_the_child(self, port: Processes) -> None:
        assert port.run(["cat"], deadline_s=5, stdin=b"candidate").stdout == "candidate"

    def test_what_a_process_runs_is_seen_and_that_there_is_none(self, port: Processes) -> None:
        runs = port.program(os.getpid())
        assert runs is not None
        assert runs == RunningProgram(os.path.realpath(sys.executable), replaced=False)
        assert port.program_sha256(os.getpid()) == _DIGEST
        assert port.program(_NOBODY) is None
        assert port.program_sha256(_NOBODY) is None

    def test_a_program_is_found_by_its_absolute_path(self, port: Processes) -> None:
        found = port.which("sh")
        assert found is not None
        assert found.startswith("/")
        assert port.which(found) == found


class TestFake(ProcessesContract):
    @pytest.fixture
    def port(self) -> Processes:
        return _fake()


class TestChildren(ProcessesContract):
    @pytest.fixture
    def port(self) -> Processes:
        return ChildProcesses()


@pytest.fixture
def children() -> ChildProcesses:
    return ChildProcesses()


def _ends(pid: int, deadline_s: float) -> bool:
    """Whether a process that was killed is gone in time (a kill is carried out a moment later)."""
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([ended], [], [], deadline_s)[0])
    finally:
        os.close(ended)


def test_at_the_deadline_the_child_and_all_that_it_started_are_gone(
    children: ChildProcesses, tmp_path: Path
) -> None:
    script = f"trap '' TERM; sleep 60 & echo $! >{tmp_path}/pid; echo started; sleep 60"
    for deadline_s in (0.5, 5, 30):  # until the shell has begun within it
        started = time.monotonic()
        with pytest.raises(ProcessError) as caught:
            children.run(["sh", "-c", script], deadline_s=deadline_s)
        assert time.monotonic() - started < deadline_s + ENDS_S / 2
        if "started" in caught.value.seen:
            break
    assert caught.value.code == "NNA0221"
    assert "started" in caught.value.seen
    assert _ends(int((tmp_path / "pid").read_text()), deadline_s=ENDS_S)
    with pytest.raises(ChildProcessError):  # reaped: this process has no children left
        os.waitpid(-1, os.WNOHANG)


def test_a_grandchild_that_keeps_the_pipes_open_does_not_hold_us(
    children: ChildProcesses, tmp_path: Path
) -> None:
    script = f"sleep 60 & echo $! >{tmp_path}/pid; echo done"
    started = time.monotonic()
    finished = children.run(["sh", "-c", script], deadline_s=50)
    assert finished.stdout == "done\n"
    assert time.monotonic() - started < ENDS_S
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_endless_output_is_capped_and_the_child_is_not_blocked(children: ChildProcesses) -> None:
    finished = children.run(["head", "-c", str(OUTPUT_CAP * 3), "/dev/zero"], deadline_s=20)
    assert len(finished.stdout) == OUTPUT_CAP


def test_a_child_gets_a_minimal_environment_and_no_stdin(children: ChildProcesses) -> None:
    os.environ["NYDUS_AGENT_SECRET"] = "x"
    try:
        shown = children.run(["env"], deadline_s=5).stdout.splitlines()
    finally:
        del os.environ["NYDUS_AGENT_SECRET"]
    assert sorted(line.partition("=")[0] for line in shown) == ["HOME", "LANG", "PATH"]
    assert children.run(["cat"], deadline_s=5).stdout == ""
    assert children.run(["pwd"], deadline_s=5).stdout == "/\n"


def test_arguments_are_never_seen_by_a_shell(children: ChildProcesses) -> None:
    assert (
        children.run(["printf", "%s", "$(id); `id` ; rm -rf"], deadline_s=5).stdout == "$(id); `id` ; rm -rf"
    )


def test_a_large_input_comes_back_whole(children: ChildProcesses) -> None:
    finished = children.run(["cat"], deadline_s=20, stdin=b"abcd" * 200_000)
    assert finished.stdout == "abcd" * 200_000


def test_death_by_a_signal_is_told(children: ChildProcesses) -> None:
    with pytest.raises(ProcessError) as caught:
        children.run(["sh", "-c", "kill -SEGV $$"], deadline_s=5)
    assert caught.value.cause == "killed by signal 11"


def test_a_file_that_is_no_program_is_an_error(children: ChildProcesses, tmp_path: Path) -> None:
    (tmp_path / "rubbish").write_bytes(b"\x7fELF rubbish")
    (tmp_path / "rubbish").chmod(0o755)
    with pytest.raises(ProcessError) as caught:
        children.run([str(tmp_path / "rubbish")], deadline_s=5)
    assert caught.value.code == "NNA0221"


def test_no_descriptor_is_left_open(children: ChildProcesses) -> None:
    gc.collect()  # what tests before have left to be collected must not be collected between the two counts
    before = len(os.listdir("/proc/self/fd"))
    children.run(["cat"], deadline_s=5, stdin=b"x")
    with pytest.raises(ProcessError):
        children.run(["sleep", "5"], deadline_s=0.1)
    with pytest.raises(ProcessError):
        children.run(["false"], deadline_s=5)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_program_of_a_process_is_known_after_another_was_laid_in_its_place(
    children: ChildProcesses, tmp_path: Path
) -> None:
    program = tmp_path / "sleep"
    shutil.copy(shutil.which("sleep") or "", program)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    with subprocess.Popen([program, "60"]) as child:
        try:
            (tmp_path / "new").write_bytes(b"another")
            (tmp_path / "new").rename(program)
            assert children.program(child.pid) == RunningProgram(str(program), replaced=True)
            assert children.program_sha256(child.pid) == digest
        finally:
            child.kill()


def test_a_child_is_started_where_dev_null_cannot_be_opened() -> None:
    """A sandbox may refuse it (ProtectKernelLogs= with /dev/kmsg a link to it)."""
    script = (
        "import os\n"
        "from agent.system.process import ChildProcesses, Feed\n"
        "opened = os.open\n"
        "def refuse(path, *rest, **named):\n"
        "    if path == os.devnull:\n"
        "        raise PermissionError(13, 'Permission denied', path)\n"
        "    return opened(path, *rest, **named)\n"
        "os.open = refuse\n"
        "print(ChildProcesses().run(['echo', 'started'], deadline_s=10).stdout, end='')\n"
        "feed = Feed(['cat'])\n"
        "print(feed.wait(10))\n"
        "feed.end()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("started\n0\n", "")
