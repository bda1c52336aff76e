"""Which node this is, among many."""

from __future__ import annotations

import os
from pathlib import Path

_MACHINE_ID = "/etc/machine-id"


def node_identity(machine_id: Path = Path(_MACHINE_ID)) -> str:
    """The machine's id (machine-id(5)) and its name: clones of one disk image may share the id, and must not all return
    to the mirror at one moment.
    """
    try:
        number = machine_id.read_text().strip()
    except OSError:
        number = ""
    return f"{number} {os.uname().nodename}"
