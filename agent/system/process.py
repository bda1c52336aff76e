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
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from agent.errors import ProcessError
from agent.ports import Finished, RunningProgram
from agent.system import proc

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_CAP = 1 << 20
"""Bytes kept of each stream; the rest is read and dropped, so that the child never blocks on a full pipe."""

_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4  # linux/prctl.h
_NOTHING: Mapping[str, str] = MappingProxyType({})
_FEED_GRACE_S = 0.1
_LOG_END = 8192
_LINE, _LINES = 500, 6  # of a program that failed, for messages
_KILL_GRACE_S = 2.0  # a killed process ends at once unless it hangs in the kernel


class ChildProcesses:
    """Children of this process; each is the leader of its own session and process group."""

    def run(
        self, argv: Sequence[str], *, deadline_s: float, ok: Sequence[int] = (0,), stdin: bytes = b""
    ) -> Finished:
        """See ports.Processes. At the deadline the whole group is killed and reaped."""
        if not argv:
            raise ProcessError("NNA0221", "cannot run a program", cause="no program was named")
        deadline = time.monotonic() + deadline_s
        child = _spawn(argv, subprocess.PIPE if stdin else None)
        try:
            streams = _Streams(child, stdin)
            try:
                ended = streams.follow(deadline)
            finally:
                streams.close()
        finally:
            _end(child)
        finished = Finished(tuple(argv), child.returncode, streams.text("stdout"), streams.text("stderr"))
        if not ended:
            raise _no_end(finished, deadline_s)
        if finished.code not in ok:
            raise _failed(finished)
        return finished

    def program(self, pid: int) -> RunningProgram | None:
        """See ports.Processes."""
        return proc.seen(pid)

    def program_sha256(self, pid: int) -> str | None:
        """See ports.Processes."""
        return proc.sha256(pid)

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


class Feed:
    """A child that writes for as long as we want it to; what it writes is read without waiting.

    It has none of our rights. Where it should not outlive us, whatever kills us, systemd sees to it
    (KillMode= control-group): setpriv, which could, is killed by the daemon's system call filter. `stdin` is
    a descriptor for its standard input, which is empty without one; with `together` its standard error goes
    where its output goes. Raises ProcessError where it cannot be started.
    """

    def __init__(self, argv: Sequence[str], stdin: int | None = None, *, together: bool = False) -> None:
        _give_no_rights()
        self._child = _spawn(argv, stdin, subprocess.STDOUT if together else subprocess.PIPE)
        self.pid = self._child.pid
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
        try:
            return os.read(self.fileno(), count)
        except BlockingIOError:
            return None

    def complaint(self) -> str:
        """What it has written to its standard error, the first kilobytes of it."""
        if self._child.stderr is None:  # it went where the output goes
            return ""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._child.stderr.fileno(), 4096):
                self._complaint += piece[: 4096 - len(self._complaint)]
        return self._complaint.decode(errors="replace").strip()

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None where it has not ended after so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._child.wait(seconds)
        return None

    def end(self) -> int | None:
        """Kill it where it still runs; its exit code, None where it takes its time (it is reaped later)."""
        if self._child.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_FEED_GRACE_S)
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
    whole = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
    program = shutil.which(whole[0], path=PATH)
    if program is None or shutil.which(argv[0], path=PATH) is None:
        raise ProcessError(
            "NNA0221", f"cannot run {argv[0]}", cause="there is no such program", seen=(f"PATH={PATH}",)
        )
    try:
        with _empty() as empty:
            child = subprocess.Popen(
                whole, executable=program, start_new_session=True, close_fds=True, cwd="/",
                env={**environment, **_environment()}, stdin=empty if stdin is None else stdin, stdout=output,
                stderr=output,
            )  # fmt: skip
    except (OSError, ValueError) as error:
        raise ProcessError("NNA0221", f"cannot run {argv[0]}", cause=str(error)) from error
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
    """The last lines of what a program wrote, as messages show them."""
    lines = (line.strip()[:_LINE] for line in written.splitlines())
    return tuple(line for line in lines if line)[-_LINES:]


@contextlib.contextmanager
def _empty() -> Iterator[int]:
    """An input with nothing in it. Not /dev/null: a sandbox may refuse to open it (ProtectKernelLogs= takes
    away what /dev/kmsg leads to, which is /dev/null in containers), and then no child could be started.
    """
    reader, writer = os.pipe()
    os.close(writer)
    try:
        yield reader
    finally:
        os.close(reader)


def _spawn(argv: Sequence[str], stdin: int | None, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    program = shutil.which(argv[0], path=PATH)
    if program is None:
        raise ProcessError(
            "NNA0221", f"cannot run {argv[0]}", cause="there is no such program", seen=(f"PATH={PATH}",)
        )
    try:
        with _empty() as empty:
            return subprocess.Popen(
                list(argv), executable=program, start_new_session=True, close_fds=True, cwd="/",
                env=_environment(),
                stdin=empty if stdin is None else stdin, stdout=subprocess.PIPE, stderr=stderr,
            )  # fmt: skip
    except (OSError, ValueError) as error:
        raise ProcessError("NNA0221", f"cannot run {argv[0]}", cause=str(error)) from error


def _give_no_rights() -> None:
    """From now on no program that this process starts gets capabilities (capabilities(7), ambient set). What
    this process may do itself stays as it is.
    """
    ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def _environment() -> dict[str, str]:
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = "/"
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": home}


class _Streams:
    """Feeds stdin and collects the output, until the child itself has ended (not until its pipes are closed:
    a grandchild may hold them open for ever).
    """

    def __init__(self, child: subprocess.Popen[bytes], stdin: bytes) -> None:
        self._child = child
        self._stdin = memoryview(stdin)
        self._kept = {"stdout": bytearray(), "stderr": bytearray()}
        self._selector = selectors.DefaultSelector()
        self._pidfd = os.pidfd_open(child.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, "ended")
        for name, stream in (("stdout", child.stdout), ("stderr", child.stderr)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, name)
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
            self._selector.register(child.stdin, selectors.EVENT_WRITE, "stdin")

    def follow(self, deadline: float) -> bool:
        """Until the child ends (True) or the deadline (False)."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ready = {key.data for key, _ in self._selector.select(left)}
            for name in ready - {"ended"}:
                self._move(name)
            if "ended" in ready:
                for name in self._kept:
                    self._drain(name)
                return True

    def text(self, name: str) -> str:
        return self._kept[name].decode(errors="replace")

    def close(self) -> None:
        self._selector.close()
        os.close(self._pidfd)
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _move(self, name: str) -> None:
        if name == "stdin":
            self._feed()
        else:
            self._take(name)

    def _feed(self) -> None:
        assert self._child.stdin is not None
        try:
            self._stdin = self._stdin[os.write(self._child.stdin.fileno(), self._stdin) :]
        except BrokenPipeError:  # the child wants no more
            self._stdin = self._stdin[:0]
        if not self._stdin:
            self._selector.unregister(self._child.stdin)
            self._child.stdin.close()

    def _take(self, name: str) -> bool:
        """Read once; False at the end of the stream or where there is nothing now."""
        stream = self._child.stdout if name == "stdout" else self._child.stderr
        assert stream is not None
        try:
            piece = os.read(stream.fileno(), 65536)
        except BlockingIOError:
            return False
        if not piece:
            with contextlib.suppress(KeyError):
                self._selector.unregister(stream)
            return False
        kept = self._kept[name]
        kept += piece[: OUTPUT_CAP - len(kept)]
        return True

    def _drain(self, name: str) -> None:
        for _ in range(OUTPUT_CAP // 4096):  # a grandchild that writes without end must not hold us
            if not self._take(name):
                return


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


def _no_end(finished: Finished, deadline_s: float) -> ProcessError:
    return ProcessError(
        "NNA0221", f"{finished.argv[0]} did not end in time", cause=f"it was killed after {deadline_s:g} s",
        seen=(" ".join(finished.argv), *last_lines(finished.stderr or finished.stdout)),
    )  # fmt: skip


def _failed(finished: Finished) -> ProcessError:
    code = finished.code
    how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
    return ProcessError(
        "NNA0221",
        f"{finished.argv[0]} failed",
        cause=how,
        seen=(" ".join(finished.argv), *last_lines(finished.stderr or finished.stdout)),
    )
