"""What machine this node is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from agent.node.facts import Arch

_MACHINE_ID = "/etc/machine-id"

_MACHINES = {"x86_64": Arch.AMD64, "aarch64": Arch.ARM64}


class HasMachine(Protocol):
    """What tells the architecture."""

    @property
    def machine(self) -> str:
        """The kernel's name of it."""


def architecture(ports: HasMachine) -> Arch:
    """The node's."""
    return _MACHINES.get(ports.machine, Arch.OTHER)


def node_identity(machine_id: Path = Path(_MACHINE_ID)) -> str:
    """The machine's id (machine-id(5)) and its name: clones of one disk image may share the id, and must not
    all return to the mirror at one moment.
    """
    try:
        number = machine_id.read_text().strip()
    except OSError:
        number = ""
    return f"{number} {os.uname().nodename}"
