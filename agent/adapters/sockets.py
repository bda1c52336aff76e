"""The kernel's socket tables as text (Documentation/networking/proc_net_tcp.rst), which every user may read."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

from agent.errors import PortError

_TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
_LISTEN = b"0A"
_STATE = 3  # column of a row, split at blanks
_CHUNK = 1 << 16


class ProcNet:
    """The tables of the process's own network namespace."""

    def listening(self) -> tuple[str, ...]:
        """See ports.SocketTables."""
        found = []
        for table in _TABLES:
            try:
                found.append(_head(table))
            except FileNotFoundError:
                continue  # a kernel without IPv6
            except OSError as error:
                raise PortError("NNA0805", f"cannot read {table}", cause=error.strerror or str(error)) from error
        return tuple(found)

    def holder(self, uid: int, inode: int) -> str:
        """See ports.SocketTables."""
        wanted = f"socket:[{inode}]"
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):  # another user's process, or one that ended
                if os.readlink(link) == wanted:
                    process = link.parent.parent
                    return f"{(process / 'comm').read_text().strip()} (pid {process.name}), {_user(uid)}"
        return _user(uid)


def _head(table: str) -> str:
    """The table up to its first row that does not listen: the kernel prints the listening sockets first, and on a busy
    node there may be 50,000 others.
    """
    with open(table, "rb", buffering=0) as file:
        text = b""
        while chunk := file.read(_CHUNK):
            text += chunk
            rows = text.splitlines()[1:-1]  # the last one may be cut
            if any(row.split()[_STATE : _STATE + 1] != [_LISTEN] for row in rows):
                break
    return text.decode("ascii", "replace")


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
