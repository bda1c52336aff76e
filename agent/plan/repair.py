"""The plan that puts back what was applied, and nothing else: no file of another owner is touched where he
contradicts, and what the configuration wants other than was applied stays for `apply`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from agent import paths
from agent.config.model import ContainerdConfig
from agent.node.facts import Facts, FileFact, UnitFact
from agent.plan import containerd_dropin, invariants, mounts, own
from agent.plan.containerd_files import node_of
from agent.plan.containerd_keys import KeyPath, at
from agent.plan.containerd_trial import containerd_check
from agent.plan.diff import removal_of
from agent.plan.drift import Finding, Kind, Recorded, Remedy
from agent.plan.order import Changes, ordered
from agent.plan.steps import CheckContainerdConfig, Plan, UnitVerb, WriteFile, refuse
from agent.plan.toml_edit import FAILURES, Value, add_to_list, insert

_WHY = "as it was applied"
_FILES = (Kind.FILE_EDITED, Kind.FILE_REMOVED, Kind.FILE_RIGHTS, Kind.FILE_MADE)
_KEYS = (Kind.KEYS_LOST, Kind.IMPORT_LOST)


@dataclass(frozen=True, slots=True)
class Running:
    """What the running programs have made of it, so that nothing is restarted that has what it needs."""

    containerd_differs: str = ""
    """What the running containerd has other than was applied; "" = nothing."""
    snapshotter_read: frozenset[str] = field(default_factory=frozenset)
    """Files that were changed before the running snapshotter was started: it may have read the change."""


def repair(
    records: Sequence[Recorded],
    findings: Sequence[Finding],
    facts: Facts,
    running: Running,
    containerd: ContainerdConfig,
) -> Plan:
    """The plan for those findings that a repair may mend. `containerd` is what was applied.

    Raises PlanError NNA0304 (a restart would end mounts), NNA0390 (a bug of ours). A file that cannot be
    edited exactly is left, with a warning.
    """
    mend = [one for one in findings if one.remedy is Remedy.REPAIR]
    broken = {one.subject for one in mend if one.kind in _FILES}
    ours = [one for one in records if one.whole and one.path in broken]
    files = [step for record in ours if (step := _write(facts, record)) is not None]
    merged, warnings = _merged(records, mend, facts)
    shared = [*merged, *(step for step in files if _read_by_containerd(step.path, containerd.config))]
    writes = [step for step in files if step not in shared]
    away = (
        removal_of(facts, one.path, "it was taken away by the last change")
        for one in ours
        if one.content is None
    )
    gone = [step for step in away if step is not None]
    inputs = [step for step in writes if own.read_by_snapshotter(step.path)]
    verb, why = _snapshotter(facts, inputs, mend, running)
    kinds = {one.kind for one in mend}
    changes = Changes(
        snapshotter_files=inputs,
        hosts=[step for step in writes if step not in inputs],
        gone=gone,
        containerd_config=shared,
        check=_check(facts, shared, containerd),
        reload_reason=_reload(inputs, kinds),
        enable=Kind.UNIT_DISABLED in kinds,
        snapshotter_verb=verb,
        snapshotter_reason=why,
        containerd_reason=_containerd(kinds, running, files_changed=bool(shared)),
        containerd_address=containerd.address,
        containerd_unit=containerd.unit,
    )
    plan = Plan(ordered(changes), warnings)
    refuse(mounts.refusals(plan, facts))
    invariants.check(plan, facts, containerd.config)
    return plan


def _write(facts: Facts, record: Recorded) -> WriteFile | None:
    if record.content is None:
        return None
    fact = facts.file(record.path)
    if not isinstance(fact, FileFact):
        return WriteFile(
            record.path, record.content, record.mode, _WHY, "", None, uid=record.uid, gid=record.gid
        )
    return WriteFile(
        record.path,
        record.content,
        record.mode,
        _WHY,
        fact.sha256,
        fact.content,
        fact.mode,
        record.uid,
        record.gid,
    )


def _read_by_containerd(path: str, config: str) -> bool:
    return path == config or containerd_dropin.is_drop_in(path)


def _check(
    facts: Facts, shared: Sequence[WriteFile], containerd: ContainerdConfig
) -> CheckContainerdConfig | None:
    written = {step.path: step.content for step in shared}
    return containerd_check(containerd, node_of(facts).with_files(written), written, ()) if shared else None


def _merged(
    records: Sequence[Recorded], mend: Sequence[Finding], facts: Facts
) -> tuple[tuple[WriteFile, ...], tuple[str, ...]]:
    """containerd's files of others with our keys in them again, and everything else as it is."""
    steps: list[WriteFile] = []
    warnings: list[str] = []
    lost = {one.subject for one in mend if one.kind in _KEYS}
    for record in records:
        fact = facts.file(record.path)
        if record.whole or record.path not in lost or not isinstance(fact, FileFact):
            continue
        try:
            content = _with_ours(fact.content.decode(), record).encode()
        except FAILURES as error:
            warnings.append(f"{record.path} cannot be mended without changing other lines ({error})")
            continue
        steps.append(
            WriteFile(
                record.path, content, fact.mode, "what was applied goes back into it", fact.sha256,
                fact.content,
                fact.mode, fact.uid, fact.gid, owned=False,
            )
        )  # fmt: skip
    return tuple(steps), tuple(warnings)


def _with_ours(text: str, record: Recorded) -> str:
    """The text with our keys that are not in it; to a list of others, ours are added."""
    document = tomllib.loads(text)
    missing: dict[KeyPath, Value] = {}
    for key, value in record.keys.items():
        here = at(document, key)
        if isinstance(value, list):
            held = here if isinstance(here, list) else []
            for one in (entry for entry in value if entry not in held):
                text = add_to_list(text, key, str(one))
        elif here is None:
            missing[key] = cast("Value", value)
    return insert(text, missing) if missing else text


def _snapshotter(
    facts: Facts, inputs: Sequence[WriteFile], mend: Sequence[Finding], running: Running
) -> tuple[UnitVerb | None, str]:
    unit = facts.snapshotter_unit
    if not isinstance(unit, UnitFact) or not unit.runs:
        down = any(one.kind is Kind.UNIT_DOWN for one in mend)
        return (UnitVerb.START, "it does not run") if down or inputs else (None, "")
    read = [
        step
        for step in inputs
        if step.content != step.content_before and step.path in running.snapshotter_read
    ]
    if not read:
        return None, ""
    names = ", ".join(step.path.rpartition("/")[2] for step in read)
    return UnitVerb.RESTART, f"it was started since these were changed: {names}"


def _reload(inputs: Sequence[WriteFile], kinds: set[Kind]) -> str:
    if any(step.path == paths.SNAPSHOTTER_UNIT_FILE for step in inputs):
        return "systemd must read the unit as it was applied"
    return "systemd has not read the unit since it changed" if Kind.UNIT_NOT_READ in kinds else ""


def _containerd(kinds: set[Kind], running: Running, *, files_changed: bool) -> str:
    """A running containerd that still has what was applied needs no restart when its files are mended."""
    due = files_changed or Kind.CONTAINERD_OUTDATED in kinds
    return (
        f"it runs on something else: {running.containerd_differs}"
        if due and running.containerd_differs
        else ""
    )
