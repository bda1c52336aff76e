"""Cautions about the kernel's page size, which on arm64 may be 16 or 64 KiB. Asks the ports; nothing raises."""

from __future__ import annotations

from agent.errors import PortError
from agent.node.facts import Arch
from agent.node.machine import architecture
from agent.ports import Ports

_USUAL = 4096
_RUN_S = 5.0


def cautions(ports: Ports) -> tuple[str, ...]:
    """What is known to go wrong on this node's pages; empty on every other machine than arm64."""
    if architecture(ports) is not Arch.ARM64:
        return ()
    try:
        size = int(ports.processes.run(["getconf", "PAGESIZE"], deadline_s=_RUN_S).stdout)
    except (PortError, ValueError):
        return ()
    return () if size == _USUAL else known(size)


def known(size: int) -> tuple[str, ...]:
    """Of pages of so many bytes."""
    pages = f"this kernel's pages are {size >> 10} KiB"
    return (
        f'{pages}: dfdaemon from Dragonfly\'s packages may end with "Unsupported system page size"; its container '
        "image is built for them (dragonflyoss/client#1083, #1216)",
        f"{pages}: the snapshotter's fs_driver fscache does not work with them (containerd/nydus-snapshotter#683); "
        "ours is fusedev, leave it",
    )
