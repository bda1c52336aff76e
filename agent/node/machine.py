"""What machine this node is."""

from __future__ import annotations

from typing import Protocol

from agent.errors import PortError
from agent.node.facts import Arch
from agent.ports_processes import Processes

_RUN_S = 5.0
_MACHINES = {"x86_64": Arch.AMD64, "aarch64": Arch.ARM64}


class HasProcesses(Protocol):
    """What is needed to ask for the architecture."""

    @property
    def processes(self) -> Processes:
        """Processes."""


def architecture(ports: HasProcesses) -> Arch:
    """The node's; OTHER where it could not be asked."""
    try:
        text = ports.processes.run(["uname", "-m"], deadline_s=_RUN_S).stdout.strip()
    except PortError:
        return Arch.OTHER
    return _MACHINES.get(text, Arch.OTHER)
