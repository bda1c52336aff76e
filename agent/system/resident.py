"""What the resident daemon has of its system: service manager, memory, resolver, watched directories."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import os
import resource
import select
import socket
import threading
from collections.abc import Mapping
from typing import TypeAlias

from watchdog.observers.inotify_c import Inotify, InotifyConstants

from agent.errors import PortError


class SystemdNotify:
    """The manager named by the environment (NOTIFY_SOCKET, WATCHDOG_USEC); without one, nothing is sent. The
    socket stays open between the watchdog's signs of life; it is bound to no manager, so a new one is reached
    all the same.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of an abstract socket's name.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        usec = environment.get("WATCHDOG_USEC", "")
        self._socket: socket.socket | None = None
        self.watchdog_s = int(usec) / 1_000_000 if usec.isdigit() else 0.0

    def send(self, *assignments: str) -> None:
        """See ports.Notify."""
        if not self._address:
            return
        # A manager that restarts itself is away for a moment. Waiting for it would stop the daemon's only
        # thread. Nor is a lack of descriptors a reason to end.
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.settimeout(0)
            # A line is an assignment: what a mirror said, in the text of STATUS=, must not become one of its
            # own.
            lines = (" ".join(assignment.splitlines()) for assignment in assignments)
            self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)

    def close(self) -> None:
        """Give the socket up."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()


_CURRENT, _FUTURE, _ON_FAULT = 1, 2, 4  # include/uapi/asm-generic/mman.h
_MMAP_THRESHOLD, _MMAP_BYTES = -3, 128 << 10  # mallopt(3), and what it begins with


def lock_memory(limit: int | None = None) -> bool:
    """Lock every page that was or will be touched, and no others: that needs no more memory than without.

    False where there is a limit (RLIMIT_MEMLOCK, unless one is given), with which later allocations would
    fail: LimitMEMLOCK=infinity it takes, and no right.
    """
    if (resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] if limit is None else limit) != resource.RLIM_INFINITY:
        return False
    return bool(ctypes.CDLL(None).mlockall(_CURRENT | _FUTURE | _ON_FAULT) == 0)


def return_memory() -> None:
    """Have malloc give large pieces back to the system when they are freed. By default it keeps the more the
    larger they were: 1.2 MB after libnftables has made the table. To set the threshold, even to what it is,
    ends that.
    """
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)


_Answer: TypeAlias = tuple[str, ...] | PortError


class SystemNames:
    """getaddrinfo(3)."""

    async def addresses(self, host: str) -> tuple[str, ...]:
        """See ports.Names."""
        address = _address(host)
        if address:  # without a thread, of which a node may have none left
            return (address,)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Answer] = loop.create_future()
        try:
            threading.Thread(target=_resolve, args=(host, loop, answer), name="names", daemon=True).start()
        except RuntimeError as error:  # no more tasks
            raise _unresolved(host, str(error)) from error
        resolved = await answer
        if isinstance(resolved, PortError):
            raise resolved
        return resolved


def _address(host: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    return ""


def _resolve(host: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[_Answer]) -> None:
    """In the thread."""
    resolved = _resolved(host)
    with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
        loop.call_soon_threadsafe(_settle, answer, resolved)


def _settle(answer: asyncio.Future[_Answer], resolved: _Answer) -> None:
    if not answer.done():  # whoever asked may have given up
        answer.set_result(resolved)


def _resolved(host: str) -> _Answer:
    # As bytes: Python's codec for names of other scripts costs 0.7 MB, and a registry's name needs none.
    name = host.encode() if host.isascii() else host
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return _unresolved(host, error.strerror or str(error))
    except UnicodeError as error:  # no name at all: a part of it is empty, or too long
        return _unresolved(host, str(error))
    return tuple(dict.fromkeys(str(row[4][0]) for row in rows))


def _unresolved(host: str, cause: str) -> PortError:
    return PortError("NNA0804", f"{host} was not resolved", cause=cause)


_MASK = (
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
)


class InotifyWatch:
    """One inotify instance. `first` must exist; the others are added later."""

    def __init__(self, first: str) -> None:
        self._inotify = Inotify(os.fsencode(first), event_mask=_MASK)
        self._watched = {first}

    def fileno(self) -> int:
        """See ports.Watch."""
        return int(self._inotify.fd)

    def add(self, directory: str) -> bool:
        """See ports.Watch."""
        if directory in self._watched:
            return True
        try:
            self._inotify.add_watch(os.fsencode(directory))
        except OSError:
            return False
        self._watched.add(directory)
        return True

    def changed(self) -> tuple[str, ...]:
        """See ports.Watch."""
        found: dict[str, None] = {}
        while select.select([self.fileno()], [], [], 0)[0]:
            for event in self._inotify.read_events():
                found[os.fsdecode(event.src_path)] = None
                if event.mask & InotifyConstants.IN_IGNORED:  # the directory itself went away
                    self._watched.discard(os.fsdecode(event.src_path))
        return tuple(found)

    def close(self) -> None:
        """End the watch; its descriptor is not valid afterwards."""
        self._inotify.close()
        self._inotify.read_events()  # the binding frees its descriptors on the next read
