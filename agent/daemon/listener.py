"""The mirror's listener: whose it is, and what becomes of the processes around it. Their end, and their being
frozen, is seen at once and for certain, where an end of the sentinel may be a mirror's habit and silence
takes a window.
"""

from __future__ import annotations

from agent.daemon.settings import Settings
from agent.errors import PortError
from agent.facts.node import Listener
from agent.health.evidence import MirrorEnded, OwnerSeen
from agent.health.owner import Owner, judge
from agent.ports import ListenerProcesses, SocketTables

_AGAIN_S = 60.0
"""Processes that cannot be followed are tried again this much later: their cgroup has to be looked for."""


class MirrorListener:
    """What is followed belongs to one listening socket; another one (a restarted mirror) is followed anew."""

    def __init__(self, tables: SocketTables, processes: ListenerProcesses, settings: Settings) -> None:
        self._tables = tables
        self._processes = processes
        self._proxy = settings.proxy
        self._allowed = settings.allowed_uids
        self._inode = 0
        self._followed_at = float("-inf")
        self._stopped = ""
        self.owner_at = float("-inf")
        """When the owner was looked for last (monotonic)."""
        self.problem = ""
        """Why the processes are not followed; "" = they are, or nobody listens here."""

    def fileno(self) -> int:
        """Becomes readable when `ended` has something to tell."""
        return self._processes.fileno()

    def owner(self, now: float) -> OwnerSeen:
        """Whose the mirror's port is. From now on the processes around its listener are followed."""
        self.owner_at = now
        try:
            listener = self._find()
        except PortError as error:
            return OwnerSeen(Owner.UNKNOWN, f"{error.what}: {error.cause}")
        self._follow(listener, now)
        if not self._allowed:
            return OwnerSeen(Owner.UNKNOWN, "whose it must be is not known: the configuration is wrong")
        return OwnerSeen(*judge(listener, self._proxy.host, self._proxy.port, self._allowed))

    def ended(self) -> MirrorEnded | None:
        """With each tick, and when the descriptor is readable: what has become of the processes since."""
        seen = self._processes.read()  # also where nobody asks: else the descriptor stays readable
        if not self._inode or self.problem:
            return None
        if seen.ended and not self._listens():
            self._inode = 0
            return MirrorEnded(f"it has ended: {', '.join(seen.ended)}")
        news, self._stopped = seen.stopped and not self._stopped, seen.stopped
        return MirrorEnded(f"it is stopped: {seen.stopped}") if news else None

    def _follow(self, listener: Listener | None, now: float) -> None:
        inode = listener.inode if listener is not None else 0
        if inode == self._inode and not (self.problem and now - self._followed_at >= _AGAIN_S):
            return
        self._inode, self._followed_at, self._stopped = inode, now, ""
        self.problem = self._processes.follow(listener) if listener is not None else ""

    def _listens(self) -> bool:
        """Whether the socket is still there: then another process of its cgroup has ended (a probe that
        kubelet runs in the mirror's container, say).
        """
        try:
            listener = self._find()
        except PortError:
            return False
        return listener is not None and listener.inode == self._inode

    def _find(self) -> Listener | None:
        return self._tables.find_listener(self._proxy.host, self._proxy.port)
