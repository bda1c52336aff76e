"""Versions of nydusd and of the snapshotter that are known not to work, alone or together. PURE.

Only what upstream's sources or reports show is in here; what merely was not tried is not. `programs lock`
refuses such releases. A plan refuses what concerns the mirror (`agent.plan.decide`), and warns of what works
badly.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.config.model import Config, DaemonMode
from agent.facts.node import Binary, Facts, Unknown, Version

MIRRORS_GONE: Version = (2, 3, 5)
"""nydusd drops `mirrors` silently from here on (dragonflyoss/nydus#1723)."""
MIRRORS_NOT_WRITTEN: Version = (0, 16)
"""The snapshotter no longer passes `mirrors` on from here on, and rewrites host and scheme per registry
instead (containerd/nydus-snapshotter#736)."""
ASKS_FOR_COMMIT: Version = (0, 15, 4)
"""A snapshotter from here on does not start beside a living nydusd whose --version names no git commit (its
pkg/filesystem/fs.go, NewFileSystem)."""
USE_HTTP: Version = (2, 1, 0)
"""Older nydusd have neither `use_http` (dragonflyoss/nydus#759) nor `mirrors` (#736)."""
OTHER_PROGRAM: Version = (3,)
"""nydus 3 is another program, `nydus`, with another configuration (the upstream branch v3)."""
OTHER_ARCHIVE: Version = (0, 13, 6)
"""Before, upstream's archives are named and laid out otherwise, and built for x86-64 only."""
RENEWS: Version = (0, 15, 14)
"""A snapshotter from here on gives running nydusd new credentials (`remote.auth.credential_renewal_interval`,
containerd/nydus-snapshotter#718). 0.15.12 and 0.15.13 have the key, and renew only what new mounts get."""
TAKES_CREDENTIALS: Version = (2, 4, 1)
"""nydusd from here on takes them (PUT /api/v1/config with `registry_auth`; dragonflyoss/nydus beba83c4)."""
_NO_COUNTER = ((0, 15, 12), (0, 15, 15))
_LOST_SHARED: Version = (0, 15, 4)


@dataclass(frozen=True, slots=True)
class Pair:
    """What is to be used; None: not of this choice, or not known."""

    nydus: Version | None = None
    snapshotter: Version | None = None
    daemon_mode: DaemonMode = DaemonMode.DEDICATED


def pair_on_node(config: Config, facts: Facts) -> Pair:
    """What is on the node, as the configuration uses it."""
    return Pair(version_of(facts.nydusd), version_of(facts.snapshotter), config.snapshotter.daemon_mode)


def version_of(fact: Binary | None | Unknown) -> Version | None:
    """A program's version, where it is there and tells one."""
    return fact.version if isinstance(fact, Binary) and isinstance(fact.version, tuple) else None


def refused(pair: Pair) -> tuple[str, ...]:
    """Why these versions cannot work, each a sentence; empty: nothing is known against them."""
    reasons = []
    if pair.nydus is not None and pair.nydus >= OTHER_PROGRAM:
        reasons.append(
            f"nydus {spelled(pair.nydus)} is another program with another configuration, not known here"
        )
    if pair.nydus is not None and pair.nydus < USE_HTTP:
        reasons.append(f"nydusd {spelled(pair.nydus)} knows no use_http (it came with {spelled(USE_HTTP)})")
    if pair.snapshotter is not None and pair.snapshotter < OTHER_ARCHIVE:
        reasons.append(
            f"the archive of snapshotter {spelled(pair.snapshotter)} has another name and layout, and is for "
            f"x86-64 only (changed in {spelled(OTHER_ARCHIVE)})"
        )
    return tuple(reasons)


def mirrors(pair: Pair) -> tuple[str, ...]:
    """Why the mirrors dialect cannot work with these versions."""
    reasons = []
    if pair.nydus is not None and pair.nydus >= MIRRORS_GONE:
        reasons.append(
            f"nydusd {spelled(pair.nydus)} ignores mirrors silently (removed in {spelled(MIRRORS_GONE)})"
        )
    if pair.snapshotter is not None and pair.snapshotter >= MIRRORS_NOT_WRITTEN:
        reasons.append(
            f"snapshotter {spelled(pair.snapshotter)} does not pass mirrors on (since "
            f"{spelled(MIRRORS_NOT_WRITTEN)})"
        )
    return tuple(reasons)


def cautions(pair: Pair) -> tuple[str, ...]:
    """What works, but not well, each a sentence with the version that is better."""
    reasons = []
    snapshotter = pair.snapshotter
    if snapshotter is not None and _NO_COUNTER[0] <= snapshotter <= _NO_COUNTER[1]:
        reasons.append(
            f"snapshotter {spelled(snapshotter)} may unlink blobs that are in use, and may fail to start a "
            "pod for want of a counter (containerd/nydus-snapshotter#687, #762; mended after 0.15.15)"
        )
    if snapshotter is not None and snapshotter >= _LOST_SHARED and pair.daemon_mode is DaemonMode.SHARED:
        reasons.append(
            f"snapshotter {spelled(snapshotter)} in shared mode may not find its living nydusd again when "
            f"it restarts"
        )
    return tuple(reasons)


def spelled(version: Version) -> str:
    """(2, 4, 4) -> "2.4.4"."""
    return ".".join(map(str, version))
