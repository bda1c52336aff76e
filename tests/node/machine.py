"""What the machine under the test nodes can do, and what a node needs because of it.

Test machines are often small virtual machines or containers: no cgroup v2 controllers, no CAP_SYS_RESOURCE.
The workarounds that this calls for are used only where they are needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_CAP_SYS_RESOURCE = 24  # include/uapi/linux/capability.h


@dataclass(frozen=True)
class Machine:
    """The abilities that matter; `ctr_flags` are needed by every `ctr run` on this machine."""

    sys_resource: bool
    """Whether limits may be raised and OOM scores lowered (CAP_SYS_RESOURCE)."""
    controllers: bool
    """Whether a node's cgroup can get the v2 controllers that runc wants (cpu, memory, pids)."""

    @property
    def ctr_flags(self) -> list[str]:
        return [] if self.controllers else ["--cpu-shares", "0"]


def look() -> Machine:
    """The machine this runs on."""
    return Machine(sys_resource=_may(_CAP_SYS_RESOURCE), controllers=_has_controllers())


def _may(capability: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & (1 << capability))
    return False


def _has_controllers() -> bool:
    found = unified_mount() / own_cgroup("") / "cgroup.controllers"
    return found.is_file() and {"cpu", "memory", "pids"} <= set(found.read_text().split())


def unified_mount() -> Path:
    """Where the cgroup v2 tree is mounted: /sys/fs/cgroup, or below it on a hybrid machine."""
    return _mount_point("cgroup2", "") or Path("/sys/fs/cgroup")


def named_mount() -> Path | None:
    """Where the v1 tree named systemd is mounted, which systemd-nspawn uses on a hybrid machine."""
    return _mount_point("cgroup", "name=systemd")


def own_cgroup(hierarchy: str) -> Path:
    """This process's cgroup in the v2 tree ("") or in a v1 tree, relative to its mount."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == hierarchy:
            return Path(path.lstrip("/"))
    return Path()


def _mount_point(fs_type: str, option: str) -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == fs_type and (not option or option in options.split(",")):
            return Path(where)
    return None


def has_systemd() -> bool:
    """Whether the machine itself runs systemd, which then has to delegate a cgroup to a node."""
    return os.path.isdir("/run/systemd/system")
