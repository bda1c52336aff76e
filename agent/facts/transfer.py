"""What one of containerd's connections to the mirror is doing, told from the kernel's own figures (tcp_info).

containerd speaks HTTP/1.1 to the mirror (its URL is plain http): one request, its answer, the next request.
So whoever spoke last says where it stands. Pure, because it decides whether a pull is cut.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

_ACK_DELAY_MS = 300
"""An acknowledgement without data comes at most this long after the data (Linux: TCP_DELACK_MAX, 200 ms)."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One TCP connection as its client's kernel sees it. Ages are milliseconds since; the kernel counts them
    in ticks (1 to 10 ms), so two things that happened together have the same age.
    """

    connecting: bool = False
    established: bool = True
    answered: bool = True
    """Data was received on it."""
    unacknowledged: bool = False
    """Data of ours has not been sent yet, or has not reached the other end."""
    unread: bool = False
    """Data lies in the receive queue: its owner has not taken what it was given."""
    sent_ms: int = 0
    received_ms: int = 0
    acknowledged_ms: int = 0
    """Since the last segment that acknowledged something, with data or without."""


class Standing(enum.StrEnum):
    """What becomes of a connection when its mirror is fenced."""

    WAITING = "waiting"
    """No byte of the answer has come. Destroyed at once: its owner asks the next host, the origin."""
    STALLED = "stalled"
    """The last byte came too long ago.

    Destroyed: the pull fails and is tried again, instead of in minutes.
    """
    FLOWING = "flowing"
    """Within an answer, or idle after one (the kernel cannot tell). Spared: it may end well."""
    ENDING = "ending"
    """One side has closed it; nothing is to be gained."""


def standing(transfer: Transfer, patience_s: float) -> Standing:
    """Where the connection stands; `patience_s` is how long an answer may bring nothing.

    An idle connection that is spared does no harm: the next request on it makes it WAITING, which the next
    look finds.
    """
    if transfer.connecting:
        return Standing.WAITING
    if not transfer.established:
        return Standing.ENDING
    if transfer.unread:
        return Standing.FLOWING  # its owner is slow, not the mirror
    if not transfer.answered or transfer.unacknowledged or _asked_last(transfer):
        return Standing.WAITING
    return Standing.STALLED if transfer.received_ms >= patience_s * 1000 else Standing.FLOWING


def _asked_last(transfer: Transfer) -> bool:
    """Whether the last data on the connection was a request."""
    if transfer.sent_ms != transfer.received_ms:
        return transfer.sent_ms < transfer.received_ms
    # In the same tick: an answer and at once the next request, or a request and at once the first of its
    # answer. An answer acknowledges its request by the way; a request that gets none is acknowledged alone, a
    # little later.
    alone_ms = transfer.received_ms - transfer.acknowledged_ms
    return 0 < alone_ms <= _ACK_DELAY_MS
