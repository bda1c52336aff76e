"""What machine this node is."""

from __future__ import annotations

from typing import Protocol

from agent.node.facts import Arch

_MACHINES = {"x86_64": Arch.AMD64, "aarch64": Arch.ARM64}


class HasMachine(Protocol):
    """What tells the architecture."""

    @property
    def machine(self) -> str:
        """The kernel's name of it."""


def architecture(ports: HasMachine) -> Arch:
    """The node's."""
    return _MACHINES.get(ports.machine, Arch.OTHER)
