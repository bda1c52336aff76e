"""What outlives a change of files: nydusd processes (KillMode=process), and the links that enable a unit.

A nydusd on whose mount a container's root stands is never touched. Others are cache: the snapshotter starts
them again when it runs again.

systemd lays and removes links, and does not wait until they are on the disk. A power cut could otherwise take
the link of a change that was accepted: containerd would name a snapshotter that does not start at boot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from agent import paths
from agent.errors import FileError, NydusdError, ProcessError
from agent.node import waits
from agent.ports import Ports

_UNITS = "/etc/systemd/system"
_MOUNTS = "/proc/1/mounts"
_CALL_S = 5.0


@dataclass(frozen=True, slots=True)
class Use:
    """Who uses the snapshotter's root, from the mount table of PID 1."""

    containers: tuple[str, ...]
    """Mount points of containers' root file systems."""
    images: tuple[str, ...]
    """Mount points of nydusd."""
    busy: frozenset[str] = frozenset()
    """Those of `images` that a container's root stands on."""


def in_use(ports: Ports, root: str) -> Use:
    """Containers and nydusd mounts on the snapshotter's root. Raises FileError."""
    fact = ports.files.read(_MOUNTS)
    containers, images, lines = [], [], []
    for line in fact.content.decode(errors="replace").splitlines() if fact is not None else ():
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        _source, point, kind, options = fields[:4]
        if kind == "overlay" and f"{root}/snapshots/" in options:
            containers.append(_unescaped(point))
            lines.append(options)
        elif kind.startswith("fuse") and _unescaped(point).startswith(f"{root}/"):
            images.append(_unescaped(point))
    busy = frozenset(image for image in images if any(image in options for options in lines))
    return Use(tuple(containers), tuple(images), busy)


def _unescaped(text: str) -> str:
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def idle(ports: Ports, root: str, use: Use) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """(pid, mount points) of nydusd processes that no container stands on; asked before their sockets go."""
    found = []
    try:
        sockets = ports.nydusd.sockets(root)
    except NydusdError:
        return ()
    for socket in sockets:
        try:
            pid = ports.nydusd.info(socket, deadline_s=_CALL_S).pid
            command = ports.files.read(f"/proc/{pid}/cmdline")
        except (NydusdError, FileError):
            continue  # it may be one that a container stands on
        named = command.content.split(b"\0") if command is not None else []
        mine = tuple(image for image in use.images if image.encode() in named)  # what it was started for
        if pid is not None and command is not None and not use.busy.intersection(mine):
            found.append((pid, mine))
    return tuple(found)


UNMOUNT = ("nsenter", "--target=1", "--mount", "--", "umount", "--lazy")
"""In the node's own mount namespace: that of nydus-agent-apply.service is its own, and an unmount in there
would leave the mount on the node (systemd.exec(5), "Mount namespacing"; mount_namespaces(7), MS_SLAVE).
"""


def end(
    ports: Ports, daemons: tuple[tuple[int, tuple[str, ...]], ...], say: Callable[[str], None]
) -> tuple[str, ...]:
    """Unmount what nobody uses, and end the process behind it."""
    ended = []
    for pid, mountpoints in daemons:
        for mountpoint in mountpoints:
            say(f"unmounting {mountpoint}")
            run(ports, [*UNMOUNT, mountpoint])
            ended.append(mountpoint)
        run(ports, ["kill", "-TERM", str(pid)])
    return tuple(ended)


def run(ports: Ports, argv: list[str]) -> None:
    """A command whose failure changes nothing for us: what is left is named to the operator."""
    try:
        ports.processes.run(argv, deadline_s=_CALL_S, ok=(0, 1, 32))
    except ProcessError:
        return


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
