"""The steps of a plan, and their order: widen first, narrow last.

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
from agent.config.model import ContainerdConfig
from agent.containerd.dropin import containerd_check
from agent.containerd.files import node_of
from agent.facts import node
from agent.facts.node import Facts, FileFact, UnitFact
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


def write(facts: Facts, path: str, content: bytes, reason: str) -> WriteFile | None:
    """The step that makes a file have this content; None where it has."""
    fact = facts.file(path)
    if not isinstance(fact, FileFact):
        return WriteFile(path, content, 0o644, reason, expect_sha256="", content_before=None)
    if fact.content == content:
        return None
    return WriteFile(
        path, content, fact.mode, reason, fact.sha256, fact.content, fact.mode, fact.uid, fact.gid,
        owned=node.ours(facts, path),
    )  # fmt: skip


def removal_of(
    facts: Facts, path: str, reason: str = "the configuration no longer asks for it"
) -> RemoveFile | None:
    """The step that removes a file; None where it is not there."""
    fact = facts.file(path)
    if not isinstance(fact, FileFact):
        return None
    return RemoveFile(path, reason, fact.sha256, fact.content, fact.mode, fact.uid, fact.gid)


def snapshotter_verb(facts: Facts, files: tuple[WriteFile, ...]) -> tuple[UnitVerb | None, str]:
    """What the snapshotter needs when these files of its own change, and why; None: nothing."""
    unit = facts.snapshotter_unit
    if not isinstance(unit, UnitFact) or not unit.runs:
        return UnitVerb.START, "it does not run"
    if files:
        changed = ", ".join(step.path.rpartition("/")[2] for step in files)
        return UnitVerb.RESTART, f"it reads these only when it starts: {changed}"
    return None, ""


def reload_reason(unit: UnitFact | None, files: tuple[WriteFile, ...]) -> str:
    """Why systemd must read its unit files again; "" where it need not."""
    if any(step.path == paths.SNAPSHOTTER_UNIT_FILE for step in files):
        return "systemd must read the changed unit"
    if unit is None or unit.needs_reload or unit.fragment_path != paths.SNAPSHOTTER_UNIT_FILE:
        return "systemd has not read the unit since it changed"
    return ""


def is_shared(path: str) -> bool:
    """containerd's own configuration: others write into it too."""
    return not (node.read_by_snapshotter(path) or path.endswith("/hosts.toml"))


def changes_of(
    containerd: ContainerdConfig, facts: Facts, steps: Sequence[WriteFile | RemoveFile]
) -> Changes:
    """These writes and removals of files, with what must read them anew."""
    writes = [step for step in steps if isinstance(step, WriteFile)]
    files = tuple(step for step in writes if node.read_by_snapshotter(step.path))
    # A drop-in comes before the line that makes containerd read it, and goes after that line.
    root = containerd.config
    shared = sorted(
        (step for step in steps if is_shared(step.path)),
        key=lambda step: (isinstance(step, RemoveFile), step.path == root),
    )
    contents = {step.path: step.content if isinstance(step, WriteFile) else None for step in shared}
    written = {path: content for path, content in contents.items() if content is not None}
    unit = facts.snapshotter_unit if isinstance(facts.snapshotter_unit, UnitFact) else None
    verb, why = snapshotter_verb(facts, files)
    return Changes(
        snapshotter_files=files,
        hosts=tuple(step for step in writes if step not in files and step not in shared),
        gone=tuple(step for step in steps if isinstance(step, RemoveFile) and step not in shared),
        containerd_config=tuple(shared),
        check=containerd_check(containerd, node_of(facts).with_files(contents), written, ())
        if shared
        else None,
        reload_reason=reload_reason(unit, files),
        enable=unit is None or not unit.starts_at_boot,
        snapshotter_verb=verb,
        snapshotter_reason=why,
        containerd_reason="it reads its configuration only when it starts" if shared else "",
        containerd_address=containerd.address,
        containerd_unit=containerd.unit,
    )
