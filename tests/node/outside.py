"""What is done to a node from outside, without a program on it: files are read, sockets are made.

A wait that asks often then costs next to nothing.

A path is resolved as the node would: an absolute link leads to the node's root, not to the machine's
(openat2(2), RESOLVE_IN_ROOT).
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path

_SYS_OPENAT2 = 437  # the same on every architecture
_RESOLVE_IN_ROOT = 0x10  # include/uapi/linux/openat2.h
_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def read(root: Path, path: str) -> bytes:
    """A file's content. Raises OSError."""
    with open(_open(root, path, os.O_RDONLY), "rb") as file:
        return file.read()


def exists(root: Path, path: str) -> bool:
    """Whether the path leads to something."""
    try:
        os.close(_open(root, path, os.O_PATH))
    except OSError:
        return False
    return True


def _open(root: Path, path: str, flags: int) -> int:
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _How(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
        libc = ctypes.CDLL(None, use_errno=True)
        found = libc.syscall(_SYS_OPENAT2, top, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if found < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)
        return int(found)
    finally:
        os.close(top)


def tcp_socket(leader: int) -> socket.socket:
    """A TCP socket in the network namespace of a process. Raises OSError.

    A socket belongs to the namespace of the thread that makes it: a short-lived thread goes there.
    """
    made: list[socket.socket | OSError] = []

    def make() -> None:
        with open(f"/proc/{leader}/ns/net") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                made.append(OSError(ctypes.get_errno(), "setns"))
            else:
                made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
