"""Faults that a server puts on itself, switched while it runs over a unix socket.

One JSON object a line in, one a line out: `{"fault": {…}}` sets the fault, `{"ping": "ok"}` the health
answer, `{"stats": true}` asks only. Each answer holds the state after it: `{"fault": …, "ping": …, "stats":
…}`; `hits` among the stats counts the requests that a fault was put on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

KINDS = ("none", "refuse", "hang", "hang_body", "status", "trickle", "cut", "zeros")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong, and with which requests.

    none       nothing
    refuse     connections are refused and open ones reset, as if the process had died
    hang       the request is read, nothing is answered
    hang_body  the headers and `share` of the body, then nothing
    status     `status` with an empty body, as dfdaemon's own errors are (`error_type`)
    trickle    the body comes at `rate` bytes a second
    cut        `share` of the body, then the connection is closed
    zeros      right status and length, zeros instead of the content
    """

    kind: str = "none"
    status: int = 500
    share: float = 0.5
    rate: int = 2048
    match: str = ""
    """A regular expression: only requests whose URL it is found in are hit."""
    times: int = 0
    """Only so many requests are hit; 0 for all until the fault is changed."""
    each: int = 1
    """Of the requests that match, the first of so many is hit; 10: a tenth of them."""
    error_type: str = "proxy"
    """The header X-Dragonfly-Error-Type of a `status`; "": without it, as what is no dfdaemon answers."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault: {self.kind}")
        if self.each < 1:
            raise ValueError(f"of how many requests one is hit: {self.each}")


NO_FAULT = Fault()


class Switchboard:
    """The fault that is on now. Threads ask `take`; a change wakes all that wait in `wait_for_change`."""

    def __init__(self, stats: Callable[[], dict[str, Any]]) -> None:
        self.fault = NO_FAULT
        self.ping = "ok"
        self.on_change: list[Callable[[Fault], None]] = []
        self._stats = stats
        self._left = 0
        self._matched = 0
        self._hits = 0
        self._changed = threading.Condition()

    def set(self, fault: Fault) -> None:
        with self._changed:
            self.fault = fault
            self._left = fault.times
            self._matched = 0
            self._changed.notify_all()
        for act in self.on_change:
            act(fault)

    def take(self, url: str) -> Fault:
        """The fault that this request gets."""
        with self._changed:
            fault = self.fault
            if fault.kind == "none" or (fault.match and not re.search(fault.match, url)):
                return NO_FAULT
            self._matched += 1
            if (self._matched - 1) % fault.each:
                return NO_FAULT
            if fault.times:
                if self._left == 0:
                    return NO_FAULT
                self._left -= 1
            self._hits += 1
            return fault

    def wait_for_change(self, fault: Fault, client: socket.socket, at_most_s: float | None = None) -> bool:
        """Wait until `fault` is not on any more, or the client has gone; False in the second case."""
        waited = 0.0
        while at_most_s is None or waited < at_most_s:
            step = 0.05 if at_most_s is None else min(0.05, at_most_s - waited)
            with self._changed:
                if self.fault is not fault or self._changed.wait_for(lambda: self.fault is not fault, step):
                    return True
            waited += step
            if _has_gone(client):
                return False
        return True

    def serve(self, path: str) -> None:
        """Answer on the control socket at `path`, in a thread of its own."""
        if os.path.exists(path):
            os.unlink(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(8)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            with client, client.makefile("rwb") as stream:
                for line in stream:
                    stream.write(json.dumps(self._answer(json.loads(line))).encode() + b"\n")
                    stream.flush()

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            if "fault" in asked:
                self.set(Fault(**asked["fault"]))
            self.ping = asked.get("ping", self.ping)
        except (TypeError, ValueError) as error:
            return {"error": str(error)}
        stats = {**self._stats(), "hits": self._hits}
        return {"fault": dataclasses.asdict(self.fault), "ping": self.ping, "stats": stats}


def _has_gone(client: socket.socket) -> bool:
    try:
        poll = select.poll()
        poll.register(client, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
