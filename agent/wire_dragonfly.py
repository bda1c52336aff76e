"""The composition root of a look at Dragonfly: what `wire` is to everything else."""

from __future__ import annotations

from agent.adapters.files import RootFiles
from agent.adapters.http import PlainHttp
from agent.adapters.socket_holders import ProcHolders, machine
from agent.adapters.systemd import SystemdUnits
from agent.dragonfly.command_line import environment_of
from agent.netfilter.sock_diag import KernelSockets
from agent.ports_dragonfly import DragonflyPorts


def dragonfly_ports() -> DragonflyPorts:
    """The ports of a look at the dfdaemon that runs."""
    return DragonflyPorts(
        tables=KernelSockets(),
        holders=ProcHolders(environment_of),
        units=SystemdUnits(),
        http=PlainHttp(),
        files_of=lambda pid: RootFiles(f"/proc/{pid}/root"),
        machine=machine(),
    )
