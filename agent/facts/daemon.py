"""The facts that the daemon's modules need too; agent.facts.node is the place to import them from for all
others, whose facts would cost the daemon 0.2 MB of memory.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file's content and inode data as seen; `sha256` is the precondition of a later write."""

    path: str
    content: bytes
    sha256: str
    mode: int
    uid: int
    gid: int
    symlink_target: str = ""  # the resolved path, where `path` is a symlink


@dataclass(frozen=True, slots=True)
class Moment:
    """Wall clock and boot clock.

    The wall clock may be stepped; the other goes on, also while the machine sleeps.
    """

    now: float
    """Seconds since the epoch."""
    boottime: float = 0.0
    """Seconds of CLOCK_BOOTTIME."""
    boot: str = ""
    """Which boot this is (random(4), boot_id); "" = not known."""
    up_s: float | None = None
    """Seconds since PID 1 was started, at least; None: not known.

    In a container CLOCK_BOOTTIME is that of the host.
    """
    monotonic: float = 0.0
    """Seconds of CLOCK_MONOTONIC, by which systemd tells when a unit was started."""


@dataclass(frozen=True, slots=True)
class FenceAbility:
    """Result of the fence's self-test on this node."""

    usable: bool
    reason: str  # why not, or what was shown


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket."""

    address: str
    """Where it is bound: a wildcard address too; an IPv4 address that is mapped into IPv6 as the IPv4
    address.
    """
    port: int
    uid: int
    inode: int
    cgroup: int = 0
    """The kernel's id of the cgroup in which it was made (Linux 5.8); 0 where that is not known."""
