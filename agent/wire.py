"""The composition root: the only module that imports adapters.

Imports are inside the functions, because each verb and the daemon pays only for the adapters that it uses
(grpcio alone costs 20 MB of memory).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.config.model import Config
from agent.ports import Clock, Containerd, Fence, Files, Http, Nydusd, Processes, SnapshotterSocket, Units


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that root's verbs (plan, apply, doctor, inspect, remove) may touch."""

    files: Files
    units: Units
    containerd: Containerd
    snapshotter: SnapshotterSocket
    nydusd: Nydusd
    processes: Processes
    http: Http
    fence: Fence
    clock: Clock


def root_ports(config: Config) -> Ports:
    """The ports of a root process on this node."""
    from agent.adapters.clock import SystemClock
    from agent.adapters.containerd import ContainerdClient, SnapshotterClient
    from agent.adapters.fence import NftFence
    from agent.adapters.files import RootFiles
    from agent.adapters.http import PlainHttp
    from agent.adapters.nydusd import NydusdApi
    from agent.adapters.process import ChildProcesses
    from agent.adapters.systemd import SystemdUnits

    processes = ChildProcesses()
    return Ports(
        files=RootFiles("/"),
        units=SystemdUnits(),
        containerd=ContainerdClient(config.containerd.address),
        snapshotter=SnapshotterClient(),
        nydusd=NydusdApi(),
        processes=processes,
        http=PlainHttp(),
        fence=NftFence(processes),
        clock=SystemClock(),
    )
