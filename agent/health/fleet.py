"""This node's slot among many: a fleet must not return to the mirror at one moment."""

from __future__ import annotations

import zlib


def return_delay_s(node_id: str, window_s: int) -> float:
    """Seconds in [0, window) that this node waits before it returns: always the same for one identity.

    Drawn from the identity and not at random, so that a node that returns twice keeps its place and a fleet's
    return is spread evenly (crc32 is uniform enough and, unlike `hash`, the same in each process).
    """
    if window_s <= 0:
        return 0.0
    return zlib.crc32(node_id.encode()) / 2**32 * window_s
