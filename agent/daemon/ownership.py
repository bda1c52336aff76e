"""Looks whose the mirror's port is, and has the processes around its listener followed."""

from __future__ import annotations

from collections.abc import Callable

from agent.daemon.holder import Holder
from agent.daemon.settings import Settings
from agent.errors import PortError
from agent.health.evidence import OwnerSeen
from agent.health.owner import Listener, Owner, judge
from agent.ports_daemon import SocketTables


class Ownership:
    """The look, and what it saw last."""

    def __init__(
        self, tables: SocketTables, settings: Settings, holder: Holder, post: Callable[[OwnerSeen], None]
    ) -> None:
        self._tables = tables
        self._settings = settings
        self._holder = holder
        self._post = post
        self._rows: tuple[tuple[str, int, int], ...] | None = None
        self._seen = OwnerSeen(Owner.UNKNOWN, "")
        self.looked_at = float("-inf")

    def look(self, now: float) -> None:
        """Look, and tell."""
        proxy, self.looked_at = self._settings.proxy, now
        try:
            found = self._tables.listening(proxy.port)
        except PortError as error:
            self._rows = None
            self._post(OwnerSeen(Owner.UNKNOWN, f"{error.what}: {error.cause}"))
            return
        rows = [Listener(address, proxy.port, uid, inode) for address, uid, inode in found]
        self._holder.seen(rows, now)
        if found != self._rows:
            self._rows, self._seen = found, self._judged(rows)
        self._post(self._seen)

    def _judged(self, rows: list[Listener]) -> OwnerSeen:
        proxy, allowed = self._settings.proxy, self._settings.allowed_uids
        if not allowed:
            return OwnerSeen(Owner.UNKNOWN, "whose it must be is not known: the configuration is wrong")
        return OwnerSeen(*judge(rows, proxy.host, proxy.port, allowed))
