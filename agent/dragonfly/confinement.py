"""Where a service may write, as systemd lays its mounts out for it (systemd.exec(5), namespace.c there)."""

from __future__ import annotations

from collections.abc import Iterator

from agent.dragonfly.place import above
from agent.node.facts import Confinement

_SYSTEM = ("/usr", "/boot", "/efi")
_HOMES = ("/home", "/root", "/run/user")
_LEFT_BY_STRICT = ("/proc", "/sys", "/dev", *_HOMES)
"""ProtectSystem=strict leaves them to settings of their own; the manual does not name the homes."""

DANGEROUS = (
    "/etc", "/usr", "/boot", "/run/systemd", "/var/spool/cron", "/var/lib/dpkg", "/root", "/home",
    "/proc/sys", "/sys",
    "/dev",
)  # fmt: skip
"""Who writes there has root run what he likes, or the machine's memory and disks."""
_ROOTS_ALONE = ("/proc/sys", "/sys", "/dev")


def may_write(held: Confinement, path: str) -> bool:
    """Whether the mounts let the service write to a directory; its user's rights are another matter."""
    nearest, allowed = "", True
    for prefix, writable in _mounts(held):
        if above(prefix, path) and (len(prefix) > len(nearest) or (prefix == nearest and not writable)):
            nearest, allowed = prefix, writable
    return allowed


def open_places(held: Confinement) -> tuple[str, ...]:
    """Those of DANGEROUS to which it may write; of an ordinary user's service without those that are
    root's.
    """
    places = DANGEROUS if held.is_root else (place for place in DANGEROUS if place not in _ROOTS_ALONE)
    return tuple(place for place in places if may_write(held, place))


def plain(path: str) -> str:
    """A path of a setting or of dfdaemon as it is compared: without prefixes, and /var/run is /run."""
    path = path.lstrip("-+")
    path = path.rstrip("/") or "/"
    return path.removeprefix("/var") if above("/var/run", path) else path


def _mounts(held: Confinement) -> Iterator[tuple[str, bool]]:
    """(path, whether it is writable); of those on one path the stricter counts."""
    if held.protect_system == "strict":
        yield "/", False
        yield from ((path, True) for path in _LEFT_BY_STRICT)
    elif held.protect_system in ("yes", "true", "full"):
        yield from ((path, False) for path in _SYSTEM)
    if held.protect_system == "full":
        yield "/etc", False
    if held.protect_home in ("yes", "true", "read-only", "tmpfs"):
        yield from ((path, False) for path in _HOMES)
    if held.protect_tunables:
        yield from (("/proc/sys", False), ("/sys", False))
    if held.private_devices:
        yield "/dev", False
    yield from ((plain(path), True) for path in held.writable)
    yield from ((plain(path), False) for path in (*held.read_only, *held.inaccessible))
