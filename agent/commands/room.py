"""Whether the disks that images go to have room for a bench: one that fills them harms whatever else runs there."""

from __future__ import annotations

from collections.abc import Iterator

from agent.commands.starts import PLAIN_SNAPSHOTTER
from agent.config.model import Config
from agent.ports_bench import BenchPorts

_CALL_S = 10.0
_LEAST = 1 << 30
_KUBELET = "/var/lib/kubelet"
_KUBELET_ACTS = 0.15
"""Of a disk's size, free: imageGCHighThresholdPercent 85, and evictionHard's imagefs.available (kubelet's defaults)."""


def crowded(ports: BenchPorts, config: Config) -> str:
    """Why no image may be pulled now; "" = there is room. Raises ContainerdError, FileError."""
    kubelet = bool(ports.files.listdir(_KUBELET))
    for directory in _roots(ports, config):
        free, size = ports.caches.room(directory)
        left = f"only {free / 1e9:.1f} of {size / 1e9:.1f} GB are free below {directory}"
        if kubelet and free < _KUBELET_ACTS * size:
            return f"{left}: from 85 % on the kubelet removes images and ends pods"
        if free < _LEAST:
            return f"{left}: images could fill them"
    return ""


def _roots(ports: BenchPorts, config: Config) -> Iterator[str]:
    yield config.snapshotter.root
    for plugin in ports.containerd.plugins(deadline_s=_CALL_S):
        if plugin.id == PLAIN_SNAPSHOTTER:
            yield from (value for name, value in plugin.exports if name == "root")
