"""Who listens: the kernel's TCP sockets, which every user may see."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

from agent.adapters.sockdiag import SockDiag
from agent.node.facts_daemon import Listener


class KernelSockets:
    """The sockets of the process's own network namespace, by sock_diag: /proc/net/tcp walks through the table of all
    connections, which takes the kernel milliseconds even where there are none. The socket for that stays open.
    """

    def __init__(self) -> None:
        self._diag = SockDiag()

    def __enter__(self) -> KernelSockets:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the kernel's socket up."""
        self._diag.close()

    def find_listener(self, address: str, port: int) -> Listener | None:
        """See ports.SocketTables."""
        return self._diag.find_listener(address, port)

    def listening(self, port: int) -> tuple[tuple[str, int, int], ...]:
        """See ports.SocketTables."""
        return tuple((row.address, row.uid, row.inode) for row in self._diag.listening(port))

    def holder(self, uid: int, inode: int) -> str:
        """See ports.SocketTables."""
        wanted = f"socket:[{inode}]"
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):  # another user's process, or one that ended
                if os.readlink(link) == wanted:
                    process = link.parent.parent
                    return f"{(process / 'comm').read_text().strip()} (pid {process.name}), {_user(uid)}"
        return _user(uid)


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
