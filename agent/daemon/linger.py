"""Right after asking, stay for a moment and take the answers that come at once.

A mirror on this node answers within a millisecond. To go to sleep until then in the loop costs a turn of it for
each answer, and on a node that is quiet otherwise a turn costs about 190 µs more than a bare poll(2), because all the
code that it takes has left the caches meanwhile. So the daemon waits in poll(2) itself, on just the sockets that matter
and for hardly longer than such answers take. Nothing is lost by that: what has not come by then is the loop's as ever
(its selector tells what a descriptor is, not what has become of it), and no other event waits longer than the moment.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from agent.daemon.http import Connection

MOMENT_S = 0.002
"""At most, and up to a millisecond more (poll's own unit): a twentieth of the lateness at which the daemon doubts
itself. A mirror that needs longer is not waited for at all, see Probing."""


class Readable(Protocol):
    """A socket and what is to be done when there is something to read."""

    def fileno(self) -> int:
        """Its descriptor, -1 where it is closed."""

    def readable(self) -> None:
        """Take what has come; harmless where nothing has."""


def linger(asked: Sequence[Connection], served: Callable[[], Iterable[Readable]]) -> None:
    """Wait until all that was asked is answered, or the moment is over; serve by the way."""
    end = time.monotonic() + MOMENT_S
    while (waiting := [one for one in asked if one.awaits]) and (left_s := end - time.monotonic()) > 0:
        readables: dict[int, Readable] = {one.fileno(): one for one in (*waiting, *served())}
        poll = select.poll()
        for descriptor in readables:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(math.ceil(left_s * 1000)):
            found = readables[descriptor]
            if found.fileno() == descriptor:  # not closed by what another one has brought
                found.readable()
