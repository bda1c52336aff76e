"""Who is at the other end of a loopback connection: others must not be taken for root's programs or the
mirror.
"""

from __future__ import annotations

import pwd


def uid_of_peer(peer: tuple[str, int], ours: tuple[str, int]) -> int | None:
    """The user of the other end of an IPv4 loopback connection; None where that cannot be told.

    The row of exactly this connection, because a local port may have several; and with an inode, because the
    kernel tells uid 0 of every socket that its process has closed (net/ipv4/tcp_ipv4.c, get_tcp4_sock).
    """
    try:
        with open("/proc/net/tcp") as table:
            rows = [line.split() for line in table]
    except OSError:
        return None
    ends = [f"0100007F:{end[1]:04X}" for end in (peer, ours)]
    return next((int(row[7]) for row in rows if len(row) > 9 and row[1:3] == ends and row[9] != "0"), None)


def uids_of(*users: str) -> frozenset[int]:
    """The uids of those users (names or uids) that exist."""
    found = {int(user) for user in users if user.isdigit()}
    for user in users:
        try:
            found.add(pwd.getpwnam(user).pw_uid)
        except KeyError:
            continue
    return frozenset(found)
