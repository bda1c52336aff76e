"""The order of a plan: widen first, narrow last.

    files of the snapshotter → systemd reads its unit → snapshotter up and answering → containerd's new
    configuration checked and written → hosts.toml files → containerd restarted and answering → images
    unpacked that pods cannot do without

Each prefix leaves a node on which containerd names no snapshotter that does not answer (`invariants` checks
it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent import paths
from agent.steps import (
    AwaitContainerd,
    AwaitSnapshotter,
    CheckContainerdConfig,
    ReloadUnits,
    RemoveFile,
    Step,
    UnitStep,
    UnitVerb,
    UnpackImage,
    WriteFile,
)

SNAPSHOTTER_COST = "new pods wait about a second; running containers read on"
CONTAINERD_COST = (
    "new pods and pulls wait for a second or two, a pull under way is tried again; containers run on"
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs, before it is put in order."""

    snapshotter_files: Sequence[WriteFile] = ()
    hosts: Sequence[WriteFile] = ()
    gone: Sequence[RemoveFile] = ()
    containerd_config: Sequence[WriteFile | RemoveFile] = ()
    check: CheckContainerdConfig | None = None
    reload_reason: str = ""
    enable: bool = False
    snapshotter_verb: UnitVerb | None = None
    snapshotter_reason: str = ""
    containerd_reason: str = ""
    """Why containerd must restart; "" where it must not."""
    containerd_address: str = ""
    images: Sequence[UnpackImage] = ()
    containerd_unit: str = paths.CONTAINERD_UNIT


def ordered(changes: Changes) -> tuple[Step, ...]:
    """The steps."""
    steps: list[Step] = list(changes.snapshotter_files)
    if changes.reload_reason:
        steps.append(ReloadUnits(changes.reload_reason))
    if changes.enable:
        steps.append(
            UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.ENABLE, "it must be up before containerd at each boot")
        )
    if changes.snapshotter_verb is not None:
        cost = SNAPSHOTTER_COST if changes.snapshotter_verb is UnitVerb.RESTART else ""
        verb = changes.snapshotter_verb
        steps.append(UnitStep(paths.SNAPSHOTTER_UNIT, verb, changes.snapshotter_reason, cost))
        steps.append(AwaitSnapshotter(paths.SNAPSHOTTER_SOCKET))
    if changes.check is not None:
        steps.append(changes.check)
    steps += changes.containerd_config
    steps += changes.hosts
    if changes.containerd_reason:
        steps.append(
            UnitStep(changes.containerd_unit, UnitVerb.RESTART, changes.containerd_reason, CONTAINERD_COST)
        )
        steps.append(AwaitContainerd(changes.containerd_address))
    steps += changes.images
    steps += changes.gone
    return tuple(steps)
