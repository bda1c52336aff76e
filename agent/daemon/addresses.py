"""The addresses of hosts, so that they are known where no name server can be asked."""

from __future__ import annotations

from collections.abc import Callable

from agent.daemon.turning import Loop
from agent.errors import PortError
from agent.ports_daemon import Names


class Addresses:
    """Addresses that answered once are kept: a decision must not wait for a name server, and where the node cannot ask
    one any more (no task left) the former ones may still be right.
    """

    def __init__(self, loop: Loop, names: Names) -> None:
        self._loop = loop
        self._names = names
        self._known: dict[str, tuple[str, ...]] = {}
        self._stale: set[str] = set()
        """Hosts whose addresses did not answer the last time: a name server is asked again."""

    def of(self, host: str, told: Callable[[tuple[str, ...] | PortError], None]) -> None:
        """`told` hears the host's addresses or why there are none, perhaps before this returns."""
        if host in self._known and host not in self._stale:
            told(self._known[host])
            return

        def found(answer: tuple[str, ...] | PortError) -> None:
            if isinstance(answer, tuple):
                self._known[host] = answer
                self._stale.discard(host)
            told(self._known.get(host, answer))

        self._names.addresses(host, lambda answer: self._loop.call_soon_threadsafe(lambda: found(answer)))

    def failed(self, host: str) -> None:
        """They did not answer."""
        self._stale.add(host)
