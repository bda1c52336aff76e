"""Registries' certificates and mirrors that speak TLS, or not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from agent.errors import HttpError
from agent.ports import TlsSight


class FakeTls:
    """`certificates` maps (host, ca) to "" or the reason why not; a host that is not there does not answer.

    `sight_of` is called after each fetch and says what the listener saw; `asked` logs the calls.
    """

    ADDRESS = "127.0.0.1:40404"

    def __init__(self) -> None:
        self.certificates: dict[tuple[str, str], str] = {}
        self.sight_of: Callable[[], TlsSight] = lambda: TlsSight.NOBODY
        self.asked: list[tuple[str, ...]] = []

    def verify(self, host: str, ca: str, *, deadline_s: float) -> str:
        self.asked.append(("verify", host, ca))
        if (host, ca) not in self.certificates:
            raise HttpError("NNA0821", f"no answer from {host}", cause="connection refused")
        return self.certificates[host, ca]

    def sight(self, fetch: Callable[[str], None], *, user: str, deadline_s: float) -> TlsSight:
        self.asked.append(("sight", user))
        with contextlib.suppress(HttpError):
            fetch(self.ADDRESS)
        return self.sight_of()
