"""Follows the processes around the mirror's listener: their end, and their being frozen, is told at once and for
certain, where an end of the sentinel may be a mirror's habit and silence takes a window to be seen.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.errors import PortError
from agent.health.evidence import MirrorEnded
from agent.node.facts_daemon import Listener
from agent.ports_daemon import ListenerProcesses, SocketTables

_AGAIN_S = 60.0
"""Processes that cannot be followed are tried again this much later: their cgroup has to be looked for."""


class Holder:
    """What is followed belongs to one listening socket; another one (a restarted mirror) is followed anew."""

    def __init__(
        self, processes: ListenerProcesses, tables: SocketTables, mirror: tuple[str, int],
        post: Callable[[MirrorEnded], None],
    ) -> None:  # fmt: skip
        self._processes = processes
        self._tables = tables
        self._address, self._port = mirror
        self._post = post
        self._inode = 0
        self._tried_at = float("-inf")
        self._stopped = ""
        self.problem = ""
        """Why they are not followed; "" = they are, or nobody listens here."""

    def seen(self, listener: Listener | None, now: float) -> None:
        """After each look at who would get a connection to the mirror."""
        inode = listener.inode if listener is not None else 0
        if inode == self._inode and not (self.problem and now - self._tried_at >= _AGAIN_S):
            return
        self._inode, self._tried_at, self._stopped = inode, now, ""
        self.problem = self._processes.follow(listener) if listener is not None else ""

    def look(self) -> None:
        """With each tick, and when their descriptor is readable."""
        if not self._inode or self.problem:
            return
        found = self._processes.look()
        if found.ended and not self._listens():
            self._inode = 0
            self._post(MirrorEnded(f"it has ended: {', '.join(found.ended)}"))
            return
        if found.stopped and not self._stopped:
            self._post(MirrorEnded(f"it is stopped: {found.stopped}"))
        self._stopped = found.stopped

    def _listens(self) -> bool:
        """Whether the socket is still there: then another process of its cgroup has ended (a probe that kubelet runs
        in the mirror's container, say).
        """
        try:
            found = self._tables.find_listener(self._address, self._port)
        except PortError:
            return False
        return found is not None and found.inode == self._inode
