"""The links that enable a unit. systemd lays and removes them, and does not wait until they are on the disk.

A power cut could otherwise take the link of a change that was accepted: containerd would name a snapshotter
that does not start at boot.
"""

from __future__ import annotations

import contextlib

from agent import paths
from agent.errors import FileError, ProcessError
from agent.node import waits
from agent.ports import Ports

_UNITS = "/etc/systemd/system"


def enable(ports: Ports, unit: str) -> None:
    """Through systemd. Raises SystemdError, FileError."""
    ports.units.enable(unit)
    _keep(ports)


def disable(ports: Ports, unit: str) -> None:
    """Through systemd. Raises SystemdError, FileError."""
    ports.units.disable(unit)
    _keep(ports)


def enable_at_boot(ports: Ports, unit: str) -> None:
    """As files, without asking a systemd that waits for us. Raises ProcessError, FileError."""
    ports.processes.run(["systemctl", "--root=/", "--quiet", "enable", unit], deadline_s=waits.CALL_S)
    _keep(ports)


def disable_at_boot(ports: Ports, unit: str) -> bool:
    """As files; says whether there was a link. Raises FileError."""
    return sum(ports.files.remove_link(f"{directory}/{unit}") for directory in _directories(ports)) > 0


def read_again_at_boot(ports: Ports) -> None:
    """Where the snapshotter's unit is somebody's own too, systemd may have read the other one at this boot.

    It waits for no job. A failure leaves the start to the next boot.
    """
    try:
        packaged = ports.files.read(paths.PACKAGED_UNIT_FILE) is not None
    except FileError:
        packaged = True
    if packaged:
        with contextlib.suppress(ProcessError):
            ports.processes.run(["systemctl", "daemon-reload"], deadline_s=waits.CALL_S)


def _keep(ports: Ports) -> None:
    for directory in (*_directories(ports), _UNITS):
        ports.files.sync(directory)


def _directories(ports: Ports) -> tuple[str, ...]:
    names = ports.files.listdir(_UNITS)
    return tuple(f"{_UNITS}/{name}" for name in names if name.endswith((".wants", ".requires")))
