"""What undoes a step, given what was there before. Pure; the journal's own records are made of the same facts."""

from __future__ import annotations

import hashlib
from typing import assert_never

from agent.node.facts import UnitFact
from agent.plan.steps import (
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


def inverse(step: Step, unit: UnitFact | None = None) -> tuple[Step, ...]:
    """The steps that undo `step`; empty where it changes nothing.

    `unit` is the unit as it was before a UnitStep (None: there was none).
    """
    match step:
        case WriteFile():
            return (_file_back(step),)
        case RemoveFile():
            return (
                WriteFile(
                    step.path, step.content_before, step.mode_before, f"undo: {step.reason}", "", None,
                    uid=step.uid, gid=step.gid,
                ),
            )  # fmt: skip
        case UnitStep():
            verb = _opposite(step.verb, unit)
            return () if verb is None else (UnitStep(step.unit, verb, f"undo: {step.reason}", step.cost),)
        case ReloadUnits():
            return (ReloadUnits(f"undo: {step.reason}"),)
        case CheckContainerdConfig() | AwaitSnapshotter() | AwaitContainerd() | UnpackImage():
            return ()
        case _ as unreachable:
            assert_never(unreachable)


def _file_back(step: WriteFile) -> Step:
    written = hashlib.sha256(step.content).hexdigest()
    reason = f"undo: {step.reason}"
    if step.content_before is None:
        return RemoveFile(step.path, reason, written, step.content, step.mode, step.uid, step.gid)
    return WriteFile(
        step.path, step.content_before, step.mode_before, reason, written, step.content, step.mode, step.uid, step.gid,
        step.owned,
    )  # fmt: skip


def _opposite(verb: UnitVerb, unit: UnitFact | None) -> UnitVerb | None:
    """The verb that brings a unit back to what it was; None where it is that already."""
    enabled = unit is not None and unit.enabled
    active = unit is not None and unit.runs
    match verb:
        case UnitVerb.ENABLE:
            return None if enabled else UnitVerb.DISABLE
        case UnitVerb.DISABLE:
            return UnitVerb.ENABLE if enabled else None
        case UnitVerb.START:
            return None if active else UnitVerb.STOP
        case UnitVerb.STOP:
            return UnitVerb.START if active else None
        case UnitVerb.RESTART:
            # It ran on the former files: it must start again on them.
            return UnitVerb.RESTART if active else UnitVerb.STOP
        case _ as unreachable:
            assert_never(unreachable)
