"""A warden of system calls: it is asked before each call that changes files, and may fail it or kill its
process.

The calls are the real ones of a real process: a seccomp filter hands them to the parent (seccomp_unotify(2)),
which lets them go on, answers with an error in the kernel's place, or ends the process where it stands. It
costs a tenth of a millisecond a call, where tracing would cost more than the whole change; and it needs no
program besides Python.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.survival import run
from tests.bench.survival.run import Act, Child, Process

_NUMBERS = {  # arch/x86/entry/syscalls/syscall_64.tbl
    "write": 1, "pwrite64": 18, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "rename": 82, "mkdir": 83,
    "rmdir": 84,
    "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93,
    "fsetxattr": 190,
    "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
    "fchmodat": 268,
    "fallocate": 285, "renameat2": 316,
}  # fmt: skip
_NAMES = {number: name for name, number in _NUMBERS.items()}
_SECCOMP = 317
_SET_MODE_FILTER, _NEW_LISTENER, _NO_NEW_PRIVS = 1, 8, 38
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_AT_FDCWD, _AT_REMOVEDIR = -100, 0x200
_DEADLINE_S = 60.0

KILL = -1
"""What a decision says to end the process right before the call; 0 lets the call go on, others are an
errno.
"""


@dataclass(frozen=True)
class Call:
    """One call that changes files (or makes a change last), before it is carried out."""

    name: str
    path: str
    """The file or directory, absolute."""
    second: str = ""
    """The new name, where there are two; the target of a symbolic link."""
    number: int = 0
    """Flags of openat and unlinkat, the length of ftruncate and fallocate, the mode of chmod and mkdir, the
    owner.
    """
    data: bytes = b""
    position: int = -1
    """Where `data` goes in the file; -1: at its end."""
    inode: int = 0
    """Of an open file."""

    @property
    def makes(self) -> bool:
        """Whether an openat makes or empties a file."""
        return self.name != "openat" or bool(
            self.number & (os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR)
        )


Decide = Callable[[Call], int]


def watch(root: Path, act: Act, decide: Decide) -> int:
    """Run a verb under a warden that asks `decide` for each call on files below `root` or on its machine's
    file.

    Returns the exit status of the child. Raises TimeoutError where it does not end.
    """
    return watch_process(root, lambda first: Child(root, act, first=first), decide)


def watch_process(root: Path, start: Callable[[Callable[[], None]], Process], decide: Decide) -> int:
    """The same for any process: `start` starts it, and lets it call first what it is given."""
    mine, theirs = socket.socketpair()
    child = start(lambda: _submit(theirs))
    theirs.close()
    with mine:
        _, (listener, *_others), _, _ = socket.recv_fds(mine, 1, 1)
    try:
        _serve(listener, child, root, decide)
    finally:
        os.close(listener)
    return child.wait()


def calls_of(root: Path, start: Callable[[Callable[[], None]], Process]) -> list[Call]:
    """All calls of a process that nobody disturbs, in order."""
    found: list[Call] = []

    def note(call: Call) -> int:
        found.append(call)
        return 0

    ended = watch_process(root, start, note)
    assert ended == run.OK, run.said(root)
    return found


def _submit(parent: socket.socket) -> None:
    """In the child: from now on its calls are the warden's."""
    if platform.machine() != "x86_64":
        raise NotImplementedError(f"the numbers of system calls on {platform.machine()} are not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    program = [_instruction(0x20, 0, 0, 0)]  # load the call's number
    for index, number in enumerate(sorted(_NAMES)):
        # Equal: jump to the last instruction.
        program.append(_instruction(0x15, len(_NAMES) - index, 0, number))
    program += [_instruction(0x06, 0, 0, _ALLOW), _instruction(0x06, 0, 0, _NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, header)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    socket.send_fds(parent, [b"x"], [listener])
    os.close(listener)


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _serve(listener: int, child: Process, root: Path, decide: Decide) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    end = time.monotonic() + _DEADLINE_S
    while time.monotonic() < end:
        events = poll.poll(1000)
        if not events:
            continue
        if events[0][1] & select.POLLHUP:
            return
        asked = bytearray(80)
        try:
            fcntl.ioctl(listener, _RECEIVE, asked)
        except OSError as error:
            if error.errno == errno.ENOENT:  # it was killed while it asked
                continue
            raise
        number, pid, _flags, call, _arch, _ip, *arguments = struct.unpack("QIIiIQ6Q", asked)
        seen = _understand(pid, _NAMES[call], arguments)
        concerns = seen is not None and (
            seen.path.startswith(f"{root}/") or seen.path.startswith(f"{root}.machine")
        )
        answer = decide(seen) if seen is not None and concerns else 0
        if answer == KILL:
            os.kill(child.pid, signal.SIGKILL)
            return  # other threads of it may wait for an answer, and will not live to get one
        reply = struct.pack("QqiI", number, 0, -answer, 0 if answer else _CONTINUE)
        fcntl.ioctl(listener, _SEND, reply)
    os.kill(child.pid, signal.SIGKILL)
    raise TimeoutError(f"a verb under the warden did not end within {_DEADLINE_S:.0f} s")


def _understand(pid: int, name: str, arguments: list[int]) -> Call | None:
    a, b, c, d, *_ = arguments
    match name:
        case "write" | "pwrite64":
            return Call(
                name,
                _opened(pid, a),
                data=_memory(pid, b, c),
                position=_position(pid, a),
                inode=_inode(pid, a),
            )
        case "fsync" | "fdatasync" | "fsetxattr":
            return Call(name, _opened(pid, a), inode=_inode(pid, a))
        case "ftruncate" | "fchmod":
            return Call(name, _opened(pid, a), number=b, inode=_inode(pid, a))
        case "fchown":
            return Call(name, _opened(pid, a), number=b, position=c, inode=_inode(pid, a))
        case "fallocate":
            return Call(name, _opened(pid, a), number=c + d, inode=_inode(pid, a))
        case "rename" | "link":
            return Call(name, _named(pid, _AT_FDCWD, a), _named(pid, _AT_FDCWD, b))
        case "renameat" | "renameat2" | "linkat":
            return Call(name, _named(pid, a, b), _named(pid, c, d))
        case "symlink" | "symlinkat":
            place = _named(pid, _AT_FDCWD, b) if name == "symlink" else _named(pid, b, c)
            return Call(name, place, _text(pid, a))
        case "mkdir" | "chmod" | "chown" | "rmdir" | "unlink":
            return Call(name, _named(pid, _AT_FDCWD, a), number=b)
        case "openat" | "mkdirat" | "unlinkat" | "fchmodat":
            return Call(name, _named(pid, a, b), number=c)
    return None


def _opened(pid: int, descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{descriptor}")
    except OSError:
        return ""


def _inode(pid: int, descriptor: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/fd/{descriptor}").st_ino
    except OSError:
        return 0


def _position(pid: int, descriptor: int) -> int:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().splitlines()
    )
    return -1 if int(fields["flags"], 8) & os.O_APPEND else int(fields["pos"])


def _named(pid: int, directory: int, address: int) -> str:
    path = _text(pid, address)
    if path.startswith("/"):
        return path
    signed = ctypes.c_int(directory & 0xFFFFFFFF).value
    start = os.readlink(f"/proc/{pid}/cwd") if signed == _AT_FDCWD else _opened(pid, signed)
    return os.path.normpath(f"{start}/{path}")


def _text(pid: int, address: int) -> str:
    found = b""
    while b"\0" not in found and len(found) < 4096:
        page = 4096 - (address + len(found)) % 4096  # the next one may not be there
        found += _memory(pid, address + len(found), page)
    return os.fsdecode(found.partition(b"\0")[0])


def _memory(pid: int, address: int, length: int) -> bytes:
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(descriptor, length, address)
    finally:
        os.close(descriptor)
