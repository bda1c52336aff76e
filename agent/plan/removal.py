"""The plan that takes everything of ours off a node again: narrow first, what applied widened.

    containerd's configuration as it was → hosts.toml files away → containerd restarted and answering → snapshotter
    stopped and disabled → our files away → systemd reads its units

The snapshotter's root stays: containerd's database refers to what is in it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent import paths
from agent.config.model import Config, ContainerdMode
from agent.node.facts import Facts, FileFact, UnitFact, Unknown
from agent.plan import invariants, own
from agent.plan.containerd_keys import KEYS, PROXY_PLUGIN, KeyPath, at
from agent.plan.diff import removal_of
from agent.plan.order import CONTAINERD_COST, SNAPSHOTTER_COST
from agent.plan.refusal import Refusal, refuse
from agent.plan.render_containerd import candidate
from agent.plan.steps import (
    AwaitContainerd,
    CheckContainerdConfig,
    Plan,
    ReloadUnits,
    RemoveFile,
    Step,
    UnitStep,
    UnitVerb,
    WriteFile,
)
from agent.plan.toml_edit import FAILURES, Value, dotted, remove

_WHY = "the agent is removed"


@dataclass(frozen=True, slots=True)
class _Narrowed:
    """What becomes of one file, and what the operator must know."""

    step: WriteFile | RemoveFile | None
    warning: str = ""
    stuck: bool = False
    """Ours is still in it and cannot be taken out."""


def _refuse_if_named(facts: Facts, record: WriteFile, why: str) -> None:
    """containerd must never be left with the name of a snapshotter that is gone: new pods would all fail.

    Nor is a file left behind only because it could not be read at this moment.
    """
    fact = facts.file(record.path)
    if isinstance(fact, FileFact) and paths.PROXY_PLUGIN.encode() in fact.content:
        refuse([Refusal("NNA0331", why, f"take {paths.PROXY_PLUGIN} out of {record.path}, then run this again")])
    if isinstance(fact, Unknown) and not record.path.endswith("/hosts.toml"):
        refuse([Refusal("NNA0303", f"{record.path} could not be read: {fact.reason}", f"ls -l {record.path}")])


def removal(config: Config, facts: Facts, records: Sequence[WriteFile]) -> Plan:
    """The plan. `records` are the writes as first applied, one per file, oldest first.

    Files of other owners that were edited since keep what others wrote: only our keys are taken out, and where that is
    not possible the file is left alone and named in a warning. Raises PlanError NNA0331 where that file is
    containerd's and would go on naming the snapshotter, and NNA0390 (a bug of ours).
    """
    warnings: list[str] = []
    back: list[Step] = []
    away: list[Step] = []
    for record in records:
        narrowed = _narrowed(config, facts, record)
        if narrowed.warning:
            warnings.append(narrowed.warning)
        if narrowed.stuck:
            _refuse_if_named(facts, record, narrowed.warning)
        if narrowed.step is not None:
            (back if _read_by_containerd(config, record.path) else away).append(narrowed.step)
    back.sort(key=lambda step: getattr(step, "path", "") != config.containerd.config)
    still_named = invariants.names_snapshotter(_final(config, facts, back))
    steps = (*_containerd(config, back), *_snapshotter(facts, away, still_named=still_named))
    plan = Plan(steps, tuple(warnings), (f"{config.snapshotter.root} stays: containerd's database refers to it",))
    invariants.check(plan, facts, config.containerd.config)
    return plan


def _read_by_containerd(config: Config, path: str) -> bool:
    snapshotters = (paths.NYDUSD_TEMPLATE, paths.SNAPSHOTTER_CONFIG, paths.SNAPSHOTTER_UNIT_FILE, paths.CA_BUNDLE)
    return path == config.containerd.config or not (path in snapshotters or path.startswith(f"{paths.REGISTRIES_D}/"))


def _containerd(config: Config, back: Sequence[Step]) -> tuple[Step, ...]:
    if not any(getattr(step, "path", "") == config.containerd.config for step in back):
        return tuple(back)
    checks = tuple(
        CheckContainerdConfig(step.path, step.content, ())
        for step in back
        if isinstance(step, WriteFile) and step.path == config.containerd.config
    )
    restart = UnitStep(paths.CONTAINERD_UNIT, UnitVerb.RESTART, "it must forget the snapshotter", CONTAINERD_COST)
    return (*checks, *back, restart, AwaitContainerd(config.containerd.address))


def _final(config: Config, facts: Facts, back: Sequence[Step]) -> bytes | None:
    """containerd's configuration after the removal."""
    for step in back:
        if isinstance(step, WriteFile) and step.path == config.containerd.config:
            return step.content
        if isinstance(step, RemoveFile) and step.path == config.containerd.config:
            return None
    fact = facts.file(config.containerd.config)
    return fact.content if isinstance(fact, FileFact) else None


def _snapshotter(facts: Facts, away: Sequence[Step], *, still_named: bool) -> tuple[Step, ...]:
    """Stop, disable and remove what is ours; where somebody's own snapshotter was there before, it goes on instead."""
    unit_step = next((step for step in away if _is_unit_file(step)), None)
    reload = (ReloadUnits("the snapshotter's unit is gone"),) if unit_step is not None else ()
    unit = facts.snapshotter_unit
    if not isinstance(unit, UnitFact):
        return (*away, *reload)
    runs = unit.active_state not in ("inactive", "failed")
    if still_named or unit_step is None or isinstance(unit_step, WriteFile):
        again = UnitStep(
            paths.SNAPSHOTTER_UNIT, UnitVerb.RESTART, "it runs as it did before the agent", SNAPSHOTTER_COST
        )
        return (*away, *reload, *((again,) if runs and away else ()))
    found: list[Step] = []
    if runs:
        cost = "containers that run from nydus images keep running: their nydusd is not stopped"
        found.append(UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.STOP, _WHY, cost))
    if unit.unit_file_state == "enabled":
        found.append(UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.DISABLE, _WHY))
    return (*found, *away, *reload)


def _is_unit_file(step: Step) -> bool:
    return isinstance(step, (WriteFile, RemoveFile)) and step.path == paths.SNAPSHOTTER_UNIT_FILE


def _narrowed(config: Config, facts: Facts, record: WriteFile) -> _Narrowed:
    fact = facts.file(record.path)
    if fact is None:
        return _Narrowed(None, "" if record.owned else f"{record.path} is gone; it is not put back")
    if not isinstance(fact, FileFact):
        return _Narrowed(None, f"{record.path} could not be read ({fact.reason}) and is left alone", stuck=True)
    if record.path.endswith("/hosts.toml") and not own.marked(fact.content):
        return _Narrowed(None, f"{record.path} was replaced since by somebody else and is left alone")
    if record.content_before is None:
        if record.path == config.containerd.config and _edited_since(config, fact, record):
            return _without_ours(config, fact, record)
        return _Narrowed(removal_of(facts, record.path, _WHY))
    if fact.content == record.content_before:
        return _Narrowed(None)
    if record.path != config.containerd.config:
        # Whole files of ours in the place of somebody's: theirs comes back.
        return _Narrowed(_back(fact, record, record.content_before))
    if _edited_since(config, fact, record):
        return _without_ours(config, fact, record)
    return _Narrowed(_back(fact, record, record.content_before))


def _edited_since(config: Config, fact: FileFact, record: WriteFile) -> bool:
    """Whether the file holds more than what we make of its former content, now or when it was first applied."""
    return fact.content not in (record.content, candidate(config, record.content_before).content)


def _back(fact: FileFact, record: WriteFile, content: bytes) -> WriteFile:
    return WriteFile(
        record.path, content, record.mode_before, f"as it was before: {_WHY}", fact.sha256, fact.content, fact.mode,
        fact.uid, fact.gid, owned=False,
    )  # fmt: skip


def _without_ours(config: Config, fact: FileFact, record: WriteFile) -> _Narrowed:
    """Others edited the file since: take out exactly our keys, or leave it alone."""
    try:
        before = tomllib.loads(record.content_before.decode()) if record.content_before is not None else {}
        undo = _undo_of(config, fact.content, record, before)
        content = remove(fact.content.decode(), undo, before).encode()
    except FAILURES as error:
        why = f"{record.path} was edited since and is left alone ({error}); take the snapshotter out of it by hand"
        return _Narrowed(None, why, stuck=True)
    kept = ", ".join(dotted(path) for path in undo)
    return _Narrowed(_back(fact, record, content), f"{record.path} was edited since: only ours is taken out ({kept})")


def _undo_of(
    config: Config, content: bytes, record: WriteFile, before: Mapping[str, Any]
) -> Mapping[KeyPath, Value | None]:
    """Our keys with what each was before we came; a key to which others gave another value since is theirs."""
    now = tomllib.loads(content.decode())
    if now.get("version", 1) not in KEYS:
        raise ValueError(f"it has version {now.get('version', 1)} now")
    undo: dict[KeyPath, Value | None] = {}
    for mode in ContainerdMode:
        # Another mode may have been applied in between, and left keys of its own.
        wanted = replace(config, containerd=replace(config.containerd, mode=mode))
        for path, value in candidate(wanted, record.content_before).wishes.items():
            here = at(now, path)
            # What is gone was taken out by a later apply in another mode.
            mine = here in (value, None) or path[: len(PROXY_PLUGIN)] == PROXY_PLUGIN
            if mine and here != at(before, path):
                undo[path] = at(before, path)
    return undo
