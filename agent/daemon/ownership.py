"""Looks whose the mirror's port is, and has the processes around its listener followed."""

from __future__ import annotations

from collections.abc import Callable

from agent.daemon.holder import Holder
from agent.daemon.settings import Settings
from agent.errors import PortError
from agent.health.evidence import OwnerSeen
from agent.health.owner import Owner, judge
from agent.node.facts_daemon import Listener
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
        self.looked_at = float("-inf")

    def look(self, now: float) -> None:
        """Look, and tell."""
        proxy, self.looked_at = self._settings.proxy, now
        try:
            found = self._tables.find_listener(proxy.host, proxy.port)
        except PortError as error:
            self._post(OwnerSeen(Owner.UNKNOWN, f"{error.what}: {error.cause}"))
            return
        self._holder.seen(found, now)
        self._post(self._judged(found))

    def _judged(self, found: Listener | None) -> OwnerSeen:
        proxy, allowed = self._settings.proxy, self._settings.allowed_uids
        if not allowed:
            return OwnerSeen(Owner.UNKNOWN, "whose it must be is not known: the configuration is wrong")
        return OwnerSeen(*judge(found, proxy.host, proxy.port, allowed))
