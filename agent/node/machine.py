"""What machine this node is."""

from __future__ import annotations

import os
from pathlib import Path

from agent.node.facts import Arch

_MACHINE_ID = "/etc/machine-id"

_MACHINES = {"x86_64": Arch.AMD64, "aarch64": Arch.ARM64}


def architecture(machine: str) -> Arch:
    """By the kernel's name of a machine, such as "x86_64" (uname(2))."""
    return _MACHINES.get(machine, Arch.OTHER)


def node_identity(machine_id: Path = Path(_MACHINE_ID)) -> str:
    """The machine's id (machine-id(5)) and its name: clones of one disk image may share the id, and must not
    all return to the mirror at one moment.
    """
    try:
        number = machine_id.read_text().strip()
    except OSError:
        number = ""
    return f"{number} {os.uname().nodename}"
