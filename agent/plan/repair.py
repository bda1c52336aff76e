"""What others have made of the accepted generation, and the plan that puts it back. Pure.

One look at each file says both what has changed and the step that mends it. No file of another owner is
touched where he contradicts, and what the configuration wants other than was applied stays for `apply`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from agent import paths
from agent.config.model import ContainerdConfig
from agent.containerd.toml_edit import FAILURES, Value, add_to_list, insert
from agent.containerd.view import KeyPath, at, dotted, leaves
from agent.documents.drift import APPLY_COMMAND, Finding, Kind, Remedy, ours
from agent.facts import node
from agent.facts.node import Facts, FileFact, UnitFact
from agent.plan import invariants, mounts
from agent.plan.order import changes_of, ordered
from agent.steps import Plan, RemoveFile, UnitVerb, WriteFile, refuse

IMPORTS: KeyPath = ("imports",)
VERSION: KeyPath = ("version",)
_WHY = "as it was applied"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file as the generations have left it."""

    path: str
    content: bytes | None
    """None: it was taken away."""
    mode: int
    uid: int
    gid: int
    whole: bool
    """Ours from the first byte to the last; otherwise only `keys` of it are."""
    keys: Mapping[KeyPath, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileDrift:
    """What others have made of a recorded file."""

    findings: tuple[Finding, ...]
    step: WriteFile | RemoveFile | None = None
    """Mends it; None: that is not ours to do, or cannot be done (`warning`)."""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """What the running programs have made of it, so that nothing is restarted that has what it needs."""

    containerd_differs: str = ""
    """What the running containerd has other than was applied; "" = nothing."""
    snapshotter_read: frozenset[str] = field(default_factory=frozenset)
    """Files that were changed before the running snapshotter was started: it may have read the change."""


def keys_after(
    held: Mapping[KeyPath, object], before: Mapping[str, Any], after: Mapping[str, Any]
) -> Mapping[KeyPath, object]:
    """Our keys in somebody's file after one more change of ours, that made `after` of `before`; of a list,
    what we have added. `version` says what the other keys mean, so it must stay too.
    """
    now, was = dict(leaves(after, empty=True)), dict(leaves(before, empty=True))
    found = {key: value for key, value in held.items() if key in now}
    for key, value in now.items():
        earlier = was.get(key)
        if isinstance(value, list) and isinstance(earlier, list):
            added = [one for one in value if one not in earlier]
            if added:
                found[key] = added
        elif key not in was or value != earlier:
            found[key] = value
    return {**found, VERSION: now[VERSION]} if found and VERSION in now else found


def parsed(content: bytes | None) -> Mapping[str, Any]:
    """A TOML file's table; empty where there is none or it is no TOML."""
    try:
        return tomllib.loads(content.decode()) if content is not None else {}
    except ValueError:
        return {}


def compare(record: Recorded, fact: FileFact | None) -> FileDrift | None:
    """What others have made of the file; None: it is as it was applied."""
    return _compare_whole(record, fact) if record.whole else _compare_keys(record, fact)


def _compare_whole(record: Recorded, fact: FileFact | None) -> FileDrift | None:
    path = record.path
    if fact is None:
        if record.content is None:
            return None
        step = WriteFile(path, record.content, record.mode, _WHY, "", None, uid=record.uid, gid=record.gid)
        return FileDrift((ours(Kind.FILE_REMOVED, path, f"{path} was removed"),), step)
    if record.content is None:
        if not node.marked(fact.content):
            return None
        away = RemoveFile(
            path, "it was taken away by the last change", fact.sha256, fact.content, fact.mode, fact.uid,
            fact.gid,
        )  # fmt: skip
        what = f"{path} is there again, although it was taken away"
        return FileDrift((ours(Kind.FILE_MADE, path, what),), away)
    if fact.symlink_target:
        what = f"{path} is a link to {fact.symlink_target}; applied was a file"
        return FileDrift((Finding(Kind.FILE_TAKEN_OVER, path, what, Remedy.HAND, f"ls -l {path}"),))
    edited = fact.content != record.content
    # An empty file is nobody's work: an editor or a full disk has left it.
    if edited and node.marked(record.content) and not node.marked(fact.content) and fact.content:
        what = f"{path} was replaced by somebody else's: its first line does not carry our mark any more"
        return FileDrift((Finding(Kind.FILE_TAKEN_OVER, path, what, Remedy.HAND, APPLY_COMMAND),))
    found = (ours(Kind.FILE_EDITED, path, f"{path} was edited after it was applied"),) if edited else ()
    if (fact.mode, fact.uid, fact.gid) != (record.mode, record.uid, record.gid):
        was = f"{record.mode:04o} {record.uid}:{record.gid}"
        what = f"{path} has mode and owner {fact.mode:04o} {fact.uid}:{fact.gid}; applied were {was}"
        found = (*found, ours(Kind.FILE_RIGHTS, path, what))
    if not found:
        return None
    back = WriteFile(
        path, record.content, record.mode, _WHY, fact.sha256, fact.content, fact.mode, record.uid, record.gid
    )
    return FileDrift(found, back)


def _compare_keys(record: Recorded, fact: FileFact | None) -> FileDrift | None:
    """At most one finding a file."""
    path = record.path
    if not record.keys:
        return None
    if fact is None:
        what = f"{path} was removed, and with it our {len(record.keys)} keys"
        return FileDrift((Finding(Kind.KEYS_LOST, path, what, Remedy.APPLY, APPLY_COMMAND),))
    document = parsed(fact.content)
    lost = [key for key, value in record.keys.items() if _is_lost(value, at(document, key))]
    other = [
        key for key, value in record.keys.items()
        if key not in lost and not isinstance(value, list) and at(document, key) != value
    ]  # fmt: skip
    if other:
        what = f"{path} says otherwise than what was applied: {_names(other)}"
        told = tuple(_both(key, at(document, key), record.keys[key]) for key in other)
        lost_too = (f"gone besides: {_names(lost)}",) if lost else ()
        found = Finding(
            Kind.KEYS_CONTRADICTED, path, what, Remedy.HAND, "sudo nydus-agent plan", (*told, *lost_too)
        )
        return FileDrift((found,))
    if not lost:
        return None
    if lost == [IMPORTS]:
        finding = ours(Kind.IMPORT_LOST, path, f"{path} does not import our file any more")
    else:
        finding = ours(Kind.KEYS_LOST, path, f"{path} has lost what was applied: {_names(lost)}")
    try:
        content = _with_ours(fact.content.decode(), record).encode()
    except FAILURES as error:
        why = f"{path} cannot be mended without changing other lines ({error})"
        return FileDrift((finding,), warning=why)
    step = WriteFile(
        path, content, fact.mode, "what was applied goes back into it", fact.sha256, fact.content, fact.mode,
        fact.uid, fact.gid, owned=False,
    )  # fmt: skip
    return FileDrift((finding,), step)


def _is_lost(value: object, here: object) -> bool:
    """Of a list, all entries of ours must be there, among those of others."""
    if isinstance(value, list):
        return not isinstance(here, list) or any(one not in here for one in value)
    return here is None


def _both(key: KeyPath, here: object, applied: object) -> str:
    was = json.dumps(applied, default=str)
    return f"{dotted(key)} = {json.dumps(here, default=str)}, applied was {was}"


def _names(keys: Sequence[KeyPath], most: int = 4) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(map(dotted, keys[:most])) + more


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


def repair(
    differences: Sequence[FileDrift],
    mend: Sequence[Finding],
    facts: Facts,
    running: Running,
    containerd: ContainerdConfig,
) -> Plan:
    """The plan for what is to be mended of what was found. `containerd` is what was applied.

    Raises PlanError NNA0304 (a restart would end mounts), NNA0390 (a bug of ours).
    """
    mend = [one for one in mend if one.remedy is Remedy.REPAIR]
    kinds = {one.kind for one in mend}
    ours_ = [one for one in differences if any(finding in mend for finding in one.findings)]
    changes = changes_of(containerd, facts, [one.step for one in ours_ if one.step is not None])
    verb, why = _snapshotter(facts, changes.snapshotter_files, mend, running)
    due = bool(changes.containerd_config) or Kind.CONTAINERD_OUTDATED in kinds
    changes = replace(
        changes,
        reload_reason=_reload(changes.snapshotter_files, kinds),
        enable=Kind.UNIT_DISABLED in kinds,
        snapshotter_verb=verb,
        snapshotter_reason=why,
        # A running containerd that still has what was applied needs no restart when its files are mended.
        containerd_reason=f"it runs on something else: {running.containerd_differs}"
        if due and running.containerd_differs
        else "",
    )
    plan = Plan(ordered(changes), tuple(one.warning for one in ours_ if one.warning))
    refuse(mounts.ending_refusals(plan, facts))
    invariants.check(plan, facts, containerd.config)
    return plan


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
