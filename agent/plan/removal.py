"""The plan that takes everything of ours off a node again: narrow first, what applied widened.

    containerd's configuration as it was → hosts.toml files away → containerd restarted and answering →
    snapshotter stopped, and disabled where it was → our files away → systemd reads its units → a snapshotter
    that ran before us starts on its own files

Where containerd named a snapshotter of our name before us it will name it again: the snapshotter then goes
first, as in every widening. The snapshotter's root stays: containerd's database refers to what is in it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent import paths
from agent.config.model import Config
from agent.containerd import dropin
from agent.containerd.dropin import containerd_check
from agent.containerd.files import Node, node_of
from agent.containerd.render import candidate, view_of
from agent.containerd.toml_edit import FAILURES, Value, remove, take_from_list
from agent.containerd.view import KEYS, PROXY_PLUGIN, KeyPath, at, dotted
from agent.containerd.wishes import possible_keys
from agent.facts import node
from agent.facts.node import Facts, FileFact, UnitFact, Unknown
from agent.plan import invariants
from agent.plan.order import CONTAINERD_COST, SNAPSHOTTER_COST, removal_of
from agent.steps import (
    AwaitContainerd,
    AwaitSnapshotter,
    Former,
    Plan,
    Refusal,
    ReloadUnits,
    RemoveFile,
    Step,
    UnitStep,
    UnitVerb,
    WriteFile,
    refuse,
)

_WHY = "the agent is removed"
_AS_BEFORE = "it runs as it did before the agent"


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
        refuse(
            [Refusal("NNA0313", why, f"take {paths.PROXY_PLUGIN} out of {record.path}, then run this again")]
        )
    if isinstance(fact, Unknown) and not record.path.endswith("/hosts.toml"):
        refuse(
            [Refusal("NNA0303", f"{record.path} could not be read: {fact.reason}", f"ls -l {record.path}")]
        )


def removal(config: Config, facts: Facts, records: Sequence[WriteFile], former: Former) -> Plan:
    """The plan. `records` are the writes as first applied, one per file, oldest first.

    What the snapshotter's unit was is told by `former`; a packaged one that ours hides is seen by the fact
    about `paths.PACKAGED_UNIT_FILE`.

    Files of other owners that were edited since keep what others wrote: only our keys are taken out, and
    where that is not possible the file is left alone and named in a warning. Raises PlanError NNA0313 where
    that file is containerd's and would go on naming the snapshotter, and NNA0390 (a bug of ours).
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
    back.sort(key=lambda step: (not _is_root(config, step), not _is_drop_in(step)))
    after = node_of(facts).with_files(_final(back))
    containerd, address = _containerd(config, back, after), _named_again(config, after)
    if address:
        unit_warnings, steps = _handed_back(facts, away, former, address)
        steps = (*steps, *containerd)
    else:
        unit_warnings, steps = _given_up(facts, away, former)
        steps = (*containerd, *steps)
    stays = f"{config.snapshotter.root} stays: containerd's database refers to it"
    plan = Plan(steps, (*warnings, *unit_warnings), (stays,))
    invariants.check(plan, facts, config.containerd.config)
    return plan


def _read_by_containerd(config: Config, path: str) -> bool:
    return path == config.containerd.config or not node.read_by_snapshotter(path)


def _is_root(config: Config, step: Step) -> bool:
    return isinstance(step, (WriteFile, RemoveFile)) and step.path == config.containerd.config


def _is_drop_in(step: Step) -> bool:
    return isinstance(step, (WriteFile, RemoveFile)) and dropin.is_drop_in(step.path)


def _containerd(config: Config, back: Sequence[Step], after: Node) -> tuple[Step, ...]:
    if not any(_is_root(config, step) or _is_drop_in(step) for step in back):
        return tuple(back)
    check = containerd_check(config.containerd, after, {}, ())
    restart = UnitStep(
        config.containerd.unit, UnitVerb.RESTART, "it must forget the snapshotter", CONTAINERD_COST
    )
    checks = () if check is None else (check,)
    return (*checks, *back, restart, AwaitContainerd(config.containerd.address))


def _final(back: Sequence[Step]) -> Mapping[str, bytes | None]:
    """containerd's files after the removal, as far as they change."""
    written = {step.path: step.content for step in back if isinstance(step, WriteFile)}
    return {**written, **{step.path: None for step in back if isinstance(step, RemoveFile)}}


def _named_again(config: Config, after: Node) -> str:
    """The address of the snapshotter of our name that containerd goes on using, as it did before us; "" where
    none.

    Raises PlanError NNA0313 where it would name one that it does not know: somebody copied our keys into
    another file.
    """
    seen = view_of(config, after)
    if seen is None or not seen.names_ours:
        return ""
    address = seen.get((*PROXY_PLUGIN, "address"))
    if address is None:
        loaded, _stuck = after.load(config.containerd.config)
        files = ", ".join(one.path for one in loaded if paths.PROXY_PLUGIN.encode() in one.content)
        why = (
            f"{files} would go on naming the snapshotter {paths.PROXY_PLUGIN}, which nothing registers "
            f"any more"
        )
        refuse([Refusal("NNA0313", why, f"take {paths.PROXY_PLUGIN} out of {files}, then run this again")])
    return str(address)


def named_after(config: Config, facts: Facts, plan: Plan) -> bool:
    """Whether containerd still uses a snapshotter of our name when the plan is done.

    Raises as `removal` does.
    """
    return bool(_named_again(config, node_of(facts).with_files(_final(plan.steps))))


_Told = tuple[tuple[str, ...], tuple[Step, ...]]
"""Warnings and steps."""


def _handed_back(facts: Facts, away: Sequence[Step], former: Former, address: str) -> _Told:
    """containerd will use the snapshotter that was there before us: it runs on its own files before
    containerd asks.
    """
    steps = (*away, *_reload(away))
    unit = facts.snapshotter_unit
    if not isinstance(unit, UnitFact) or not away or unit.active_state == "inactive":
        return (), steps
    if not _unit_stays(facts, away):
        return (
            f"containerd names the snapshotter {paths.PROXY_PLUGIN}, as it did before the agent, but no unit "
            f"of it is left: what runs now ends with the next boot",
        ), steps
    # Not stopped and started: containerd names it. It may have been broken before us, which is not ours to
    # mend.
    again = UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.RESTART, _AS_BEFORE, SNAPSHOTTER_COST)
    return (), (*steps, again, *((AwaitSnapshotter(address),) if former.active else ()))


def _given_up(facts: Facts, away: Sequence[Step], former: Former) -> _Told:
    """containerd uses it no more. What we began ends; one that ran before us goes on with its own files.

    It is stopped while our unit is still in force and started afterwards: a restart would follow the other
    unit's KillMode, and might end the nydusd processes on which running containers stand.
    """
    unit = facts.snapshotter_unit
    if not isinstance(unit, UnitFact):
        return (), (*away, *_reload(away))
    stays = _unit_stays(facts, away)
    found: list[Step] = []
    begun: tuple[Step, ...] = ()
    if unit.active_state != "inactive" and former.active and stays and away:
        begun = (UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.START, _AS_BEFORE),)
    if unit.active_state not in ("inactive", "failed") and (begun or not (former.active and stays)):
        cost = "containers that run from nydus images keep running: their nydusd is not stopped"
        found.append(UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.STOP, _WHY, cost))
    if unit.unit_file_state == "enabled" and not (former.enabled and stays):
        found.append(UnitStep(paths.SNAPSHOTTER_UNIT, UnitVerb.DISABLE, _WHY))
    gone = away and (former.active or former.enabled) and not stays
    warnings = (f"the {paths.SNAPSHOTTER_UNIT} that was there before the agent is gone",) if gone else ()
    return warnings, (*found, *away, *_reload(away), *begun)


def _unit_stays(facts: Facts, away: Sequence[Step]) -> bool:
    """Whether there is a unit of the snapshotter when our files are gone: somebody's own."""
    step = next((step for step in away if _is_unit_file(step)), None)
    if isinstance(step, WriteFile) or isinstance(facts.file(paths.PACKAGED_UNIT_FILE), FileFact):
        return True
    return step is None and isinstance(facts.file(paths.SNAPSHOTTER_UNIT_FILE), FileFact)


def _reload(away: Sequence[Step]) -> tuple[Step, ...]:
    return (ReloadUnits("the snapshotter's unit is gone"),) if any(map(_is_unit_file, away)) else ()


def _is_unit_file(step: Step) -> bool:
    return isinstance(step, (WriteFile, RemoveFile)) and step.path == paths.SNAPSHOTTER_UNIT_FILE


def _narrowed(config: Config, facts: Facts, record: WriteFile) -> _Narrowed:
    fact = facts.file(record.path)
    if fact is None:
        return _Narrowed(None, "" if record.owned else f"{record.path} is gone; it is not put back")
    if not isinstance(fact, FileFact):
        return _Narrowed(
            None, f"{record.path} could not be read ({fact.reason}) and is left alone", stuck=True
        )
    marked = record.path.endswith("/hosts.toml") or dropin.is_drop_in(record.path)
    if marked and not node.marked(fact.content):
        return _Narrowed(None, f"{record.path} was replaced since by somebody else and is left alone")
    if record.content_before is None:
        if record.path == config.containerd.config and _edited_since(config, facts, fact, record):
            narrowed = _without_ours(config, fact, record)
            rest = narrowed.step.content if isinstance(narrowed.step, WriteFile) else b""
            if not _is_empty(rest):
                return narrowed
        return _Narrowed(removal_of(facts, record.path, _WHY))
    if fact.content == record.content_before:
        return _Narrowed(None)
    if record.path != config.containerd.config:
        # Whole files of ours in the place of somebody's: theirs comes back.
        return _Narrowed(_back(fact, record, record.content_before))
    if _edited_since(config, facts, fact, record):
        return _without_ours(config, fact, record)
    return _Narrowed(_back(fact, record, record.content_before))


def _is_empty(content: bytes) -> bool:
    """Whether a root file that we had made says nothing any more."""
    return node.marked(content) and set(tomllib.loads(content.decode())) <= {"version"}


def _edited_since(config: Config, facts: Facts, fact: FileFact, record: WriteFile) -> bool:
    """Whether the file holds more than what we make of its former content, now or when it was first
    applied.
    """
    if fact.content == record.content:
        return False
    before = node_of(facts).with_files({record.path: record.content_before})
    return fact.content != candidate(config, before).files.get(record.path)


def _back(fact: FileFact, record: WriteFile, content: bytes) -> WriteFile:
    return WriteFile(
        record.path, content, record.mode_before, f"as it was before: {_WHY}", fact.sha256, fact.content,
        fact.mode,
        fact.uid, fact.gid, owned=False,
    )  # fmt: skip


def _without_ours(config: Config, fact: FileFact, record: WriteFile) -> _Narrowed:
    """Others edited the file since: take out exactly our keys, or leave it alone."""
    try:
        text = fact.content.decode()
        before = tomllib.loads(record.content_before.decode()) if record.content_before is not None else {}
        undo, imports = _undo_of(text, before), _imports_of(config, before)
        content = remove(text, undo, before) if undo else text
        for line in imports:
            content = take_from_list(content, ("imports",), line, before)
    except FAILURES as error:
        why = (
            f"{record.path} was edited since and is left alone ({error}); take the snapshotter out of it "
            f"by hand"
        )
        return _Narrowed(None, why, stuck=True)
    if content == text:
        return _Narrowed(None, f"{record.path} was edited since: nothing of ours is left in it")
    taken = ", ".join(dotted(path) for path in undo) or "imports"
    return _Narrowed(
        _back(fact, record, content.encode()),
        f"{record.path} was edited since: only ours is taken out ({taken})",
    )


def _undo_of(text: str, before: Mapping[str, Any]) -> Mapping[KeyPath, Value | None]:
    """Our keys with what each was before we came; a key to which others gave another value since is
    theirs.
    """
    now = tomllib.loads(text)
    default = {keys.snapshotter for keys in KEYS.values()}
    undo: dict[KeyPath, Value | None] = {}
    for path, value in possible_keys(now):
        here = at(now, path)
        # A default that is gone was taken out by a later apply in another mode.
        mine = here == value or (here is None and path in default)
        if mine and here != at(before, path):
            undo[path] = at(before, path)
    return undo


def _imports_of(config: Config, before: Mapping[str, Any]) -> tuple[str, ...]:
    """The import that we may have added."""
    _path, line = dropin.place(config.containerd.config, ())
    present = before.get("imports")
    return () if isinstance(present, list) and line in present else (line,)
