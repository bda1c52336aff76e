"""The only spawn point: argv (never a shell), a minimal environment, an empty stdin, output capped, a
deadline.

Nothing here needs fork(2) (no preexec_fn, no change of user), so Python spawns by vfork: fork hangs for ever
in a process where grpc-core 1.51 is winding a channel down.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from agent.errors import FileError, ProcessError, hide
from agent.ports import Finished, RunningProgram
from agent.system.walk import digest_of, opened

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_CAP = 1 << 20
"""Bytes kept of each stream; the rest is read and dropped, so that the child never blocks on a full pipe."""

_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4  # linux/prctl.h
_NOTHING: Mapping[str, str] = MappingProxyType({})
_FEED_GRACE_S = 0.1
_DELETED = " (deleted)"  # proc_pid_exe(5)
_LOG_END = 8192
_LINE, _LINES = 500, 6  # of a program that failed, for messages
_KILL_GRACE_S = 2.0  # a killed process ends at once unless it hangs in the kernel


class ChildProcesses:
    """Children of this process; each is the leader of its own session and process group."""

    def run(
        self, argv: Sequence[str], *, deadline_s: float, ok: Sequence[int] = (0,), stdin: bytes = b""
    ) -> Finished:
        """See ports.Processes. At the deadline the whole group is killed and reaped."""
        deadline = time.monotonic() + deadline_s
        with _input(stdin) as descriptor:
            child = _spawn(argv, descriptor)
        try:
            ended, stdout, stderr = _collected(child, deadline)
        finally:
            _end(child)
        finished = Finished(tuple(argv), child.returncode, stdout, stderr)
        if not ended:
            cause = f"it was killed after {deadline_s:g} s"
            raise _failed(f"{argv[0]} did not end in time", cause, finished)
        if finished.code not in ok:
            code = finished.code
            cause = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
            raise _failed(f"{argv[0]} failed", cause, finished)
        return finished

    def program(self, pid: int) -> RunningProgram | None:
        """See ports.Processes."""
        link = _look(pid, os.readlink)
        if link is None:
            return None
        path = link.removesuffix(_DELETED)
        return RunningProgram(path, replaced=path != link)

    def program_sha256(self, pid: int) -> str | None:
        """See ports.Processes."""
        return _look(pid, _digest)

    def which(self, name: str) -> str | None:
        """See ports.Processes. PATH is ours, not the caller's."""
        return shutil.which(name, path=PATH)


class Companion:
    """A child that runs beside us."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self.pid = child.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._child.poll()

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None where it has not ended after so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._child.wait(seconds)
        return None

    def kill(self) -> None:
        """End it and its group at once. May be called from any thread."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def killed_after(self, seconds: float) -> Iterator[None]:
        """For a block that may wait for it without end, as a read of a hung FUSE mount does for what serves
        it.
        """
        guard = threading.Timer(seconds, self.kill)
        guard.daemon = True  # a signal may come before the block that cancels it
        try:
            guard.start()
            yield
        finally:
            guard.cancel()


class Feed(Companion):
    """A child that writes for as long as we want it to; what it writes is read without waiting.

    It has none of our rights. Where it should not outlive us, whatever kills us, systemd sees to it
    (KillMode= control-group): setpriv, which could, is killed by the daemon's system call filter. `stdin` is
    a descriptor for its standard input, which is empty without one; with `together` its standard error goes
    where its output goes. Raises ProcessError where it cannot be started.
    """

    def __init__(self, argv: Sequence[str], stdin: int | None = None, *, together: bool = False) -> None:
        # From now on no program that this process starts gets capabilities (capabilities(7), ambient set).
        # What this process may do itself stays as it is.
        ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        with _input(b"") as empty:
            child = _spawn(
                argv, empty if stdin is None else stdin, subprocess.STDOUT if together else subprocess.PIPE
            )
        super().__init__(child)
        self._complaint = bytearray()
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)

    def fileno(self) -> int:
        """Readable when it has written something, and when it has ended."""
        assert self._child.stdout is not None
        return self._child.stdout.fileno()

    def read(self, count: int) -> bytes | None:
        """At most `count` bytes of what it wrote; None: nothing now; empty: it will write nothing more."""
        return _read(self.fileno(), count)

    def complaint(self) -> str:
        """What it has written to its standard error, the first kilobytes of it."""
        if self._child.stderr is not None:  # else it went where the output goes
            while piece := _read(self._child.stderr.fileno(), 4096):
                self._complaint += piece[: 4096 - len(self._complaint)]
        return self._complaint.decode(errors="replace").strip()

    def end(self) -> int | None:
        """Kill it where it still runs; its exit code, None where it takes its time (it is reaped later)."""
        if self.code is None:
            self.kill()
            self.wait(_FEED_GRACE_S)
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()
        return self._child.returncode


@contextlib.contextmanager
def companion(
    argv: Sequence[str], output: int, *, stdin: int | None = None, environment: Mapping[str, str] = _NOTHING
) -> Iterator[Companion]:
    """A child that lives as long as the block; `output` takes what it writes. Its standard input is empty
    where `stdin` is not given. It gets `environment` besides the usual. Raises ProcessError.

    It does not outlive us either, whatever kills us (setpriv's --pdeathsig; call this in the main thread,
    because the kernel means the thread: prctl(2), PR_SET_PDEATHSIG).
    """
    with _input(b"") as empty:
        child = _spawn(
            argv, empty if stdin is None else stdin, output, output=output, environment=environment,
            through=("setpriv", "--pdeathsig", "KILL", "--"),
        )  # fmt: skip
    try:
        yield Companion(child)
    finally:
        _end(child)


def last_written(log: str) -> str:
    """The end of the file that a companion writes to, however long it is; "" where it cannot be read."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_END))
            return file.read(_LOG_END).decode(errors="replace")
    except OSError:
        return ""


def last_lines(written: str) -> tuple[str, ...]:
    """The last lines of what a program wrote, as messages show them: without secrets."""
    lines = (line.strip()[:_LINE] for line in hide(written[-_LOG_END:]).splitlines())
    return tuple(line for line in lines if line)[-_LINES:]


@contextlib.contextmanager
def _input(content: bytes) -> Iterator[int]:
    """A descriptor with a child's whole input: a file in memory, or a pipe with nothing in it.

    Not /dev/null: a sandbox may refuse to open it (ProtectKernelLogs= takes away what /dev/kmsg leads to,
    which is /dev/null in containers).
    """
    if content:
        reader = os.memfd_create("input")
        with open(reader, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(reader, 0, os.SEEK_SET)
    else:
        reader, writer = os.pipe()
        os.close(writer)
    try:
        yield reader
    finally:
        os.close(reader)


def _spawn(
    argv: Sequence[str],
    stdin: int,
    stderr: int = subprocess.PIPE,
    *,
    output: int = subprocess.PIPE,
    environment: Mapping[str, str] = _NOTHING,
    through: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """`through`: the program, with its options, that becomes ours."""
    whole = [*through, *argv]
    program = shutil.which(whole[0], path=PATH)
    if program is None or shutil.which(argv[0], path=PATH) is None:
        raise ProcessError(
            "NNA0221", f"cannot run {argv[0]}", cause="there is no such program", seen=(f"PATH={PATH}",)
        )
    try:
        return subprocess.Popen(
            whole, executable=program, start_new_session=True, close_fds=True, cwd="/",
            env={**environment, **_environment()}, stdin=stdin, stdout=output, stderr=stderr,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise ProcessError("NNA0221", f"cannot run {argv[0]}", cause=str(error)) from error


def _environment() -> dict[str, str]:
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = "/"
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": home}


def _collected(child: subprocess.Popen[bytes], deadline: float) -> tuple[bool, str, str]:
    """Whether it ended before the deadline, and what it wrote to its output and its standard error.

    Until the child itself has ended, not until its pipes are closed: a grandchild may hold them open for
    ever.
    """
    assert child.stdout is not None
    assert child.stderr is not None
    kept = {child.stdout: bytearray(), child.stderr: bytearray()}
    pidfd, ended = os.pidfd_open(child.pid), False
    with child.stdout, child.stderr, contextlib.closing(selectors.DefaultSelector()) as selector:
        try:
            selector.register(pidfd, selectors.EVENT_READ)
            for stream in kept:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            while not ended and (left := deadline - time.monotonic()) > 0:
                ready = [key.fileobj for key, _ in selector.select(left)]
                ended = pidfd in ready
                for stream in kept:
                    if stream in ready and _take(stream.fileno(), kept[stream]) == b"":
                        selector.unregister(stream)
            for stream in kept if ended else ():
                for _ in range(OUTPUT_CAP // 4096):  # a grandchild that writes without end must not hold us
                    if not _take(stream.fileno(), kept[stream]):
                        break
        finally:
            os.close(pidfd)
    stdout, stderr = (content.decode(errors="replace") for content in kept.values())
    return ended, stdout, stderr


def _take(descriptor: int, kept: bytearray) -> bytes | None:
    """Read once, as `_read` does, and keep what there is room for."""
    piece = _read(descriptor, 65536)
    kept += (piece or b"")[: OUTPUT_CAP - len(kept)]
    return piece


def _read(descriptor: int, count: int) -> bytes | None:
    """What is there now; None: nothing; empty: nothing more will come."""
    try:
        return os.read(descriptor, count)
    except BlockingIOError:
        return None


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group and reap the child."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_KILL_GRACE_S)
    if child.returncode is None:
        raise ProcessError(
            "NNA0221", f"process {child.pid} does not end", cause="it was killed and hangs in the kernel"
        )


def _failed(what: str, cause: str, finished: Finished) -> ProcessError:
    seen = (" ".join(finished.argv), *last_lines(finished.stderr or finished.stdout))
    return ProcessError("NNA0221", what, cause=cause, seen=seen)


def _look(pid: int, how: Callable[[str], str]) -> str | None:
    """None where the process has ended. Raises ProcessError where it lives and may not be looked at."""
    try:
        return how(f"/proc/{pid}/exe")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except (OSError, FileError) as error:
        cause = error.cause if isinstance(error, FileError) else error.strerror or str(error)
        raise ProcessError("NNA0221", f"cannot see what process {pid} runs", cause=cause) from error


def _digest(path: str) -> str:
    with opened(path, os.O_RDONLY | os.O_CLOEXEC) as descriptor:
        return digest_of(descriptor, path)
