"""What a plan's stops and restarts of the snapshotter do to the mounts of running containers. Pure.

nydusd processes are children in the unit's cgroup. systemd ends them with the snapshotter unless the unit's
KillMode is "process" (or "none"), and it takes KillMode from what it has read last: the unit's file and the
drop-ins of others.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent import paths
from agent.facts.node import Facts, FileFact, UnitFact, Unknown
from agent.plan.unit_files import settings
from agent.steps import Plan, Refusal, ReloadUnits, RemoveFile, Step, UnitStep, UnitVerb, WriteFile

_CODE = "NNA0304"
_MODES = ("control-group", "mixed", "process", "none")
"""What systemd knows (systemd.kill(5)); it passes over any other value."""
_ENDING = _MODES[:2]
_DEFAULT = "control-group"
_ENDS = (UnitVerb.STOP, UnitVerb.RESTART)
_READS = (UnitVerb.ENABLE, UnitVerb.DISABLE)
"""systemd reads its files again with these."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What systemd would do when it ends the unit's main process, and which file says so ("": could not be
    told).
    """

    mode: str
    path: str


def refusals(plan: Plan, facts: Facts) -> tuple[Refusal, ...]:
    """The first step of the plan that would end mounts, as a refusal; nothing where there is none."""
    unit = facts.snapshotter_unit
    if not isinstance(unit, UnitFact) or not unit.runs:
        return ()
    own = _file(facts, paths.SNAPSHOTTER_UNIT_FILE)
    now: _Loaded | Unknown = _now(unit, facts)
    for step in plan.steps:
        if isinstance(step, WriteFile) and step.path == paths.SNAPSHOTTER_UNIT_FILE:
            own = (step.path, step.content)
        elif isinstance(step, RemoveFile) and step.path == paths.SNAPSHOTTER_UNIT_FILE:
            own = _file(facts, paths.PACKAGED_UNIT_FILE)
        elif _is_read(step):
            now = _read(unit, own, facts)
        elif isinstance(step, UnitStep) and step.unit == paths.SNAPSHOTTER_UNIT and step.verb in _ENDS:
            if isinstance(now, Unknown):
                reason = (
                    f"whether a {step.verb.value} of {unit.name} ends running mounts cannot be told: "
                    f"{now.reason}"
                )
                return (Refusal(_CODE, reason, "systemctl daemon-reload, then: nydus-agent plan"),)
            return (_refusal(unit, step, now),) if now.mode in _ENDING else ()
    return ()


def _file(facts: Facts, path: str) -> tuple[str, bytes] | None:
    fact = facts.file(path)
    return (path, fact.content) if isinstance(fact, FileFact) else None


def _is_read(step: Step) -> bool:
    return isinstance(step, ReloadUnits) or (isinstance(step, UnitStep) and step.verb in _READS)


def _now(unit: UnitFact, facts: Facts) -> _Loaded:
    """As systemd has loaded it, and the drop-in that says so, where it is among those that are there."""
    found = _read(unit, None, facts)
    path = found.path if isinstance(found, _Loaded) and found.mode == unit.kill_mode else ""
    return _Loaded(unit.kill_mode, path)


def _read(unit: UnitFact, own: tuple[str, bytes] | None, facts: Facts) -> _Loaded | Unknown:
    """As systemd reads it next. `own` is the unit's own file; None: one that nobody looked at, as it was
    loaded.
    """
    if isinstance(facts.snapshotter_drop_ins, Unknown):
        return facts.snapshotter_drop_ins
    loaded = _Loaded(unit.kill_mode if own is None else _DEFAULT, "")
    for path, content in (
        *((own,) if own is not None else ()),
        *((one.path, one.content) for one in facts.snapshotter_drop_ins),
    ):
        for section, key, value in settings(content.decode(errors="replace")):
            if (section, key) == ("Service", "KillMode") and value in _MODES:
                loaded = _Loaded(value, path)
    return loaded


def _refusal(unit: UnitFact, step: UnitStep, loaded: _Loaded) -> Refusal:
    says = (
        f"{loaded.path} sets"
        if loaded.path
        else f"systemd has loaded ({', '.join(unit.drop_in_paths) or unit.fragment_path})"
    )
    reason = (
        f"{says} KillMode={loaded.mode} for {unit.name}: a {step.verb.value} would end every nydusd, and "
        "with it the root file systems of running containers; needed is KillMode=process"
    )
    mend = f"take KillMode out of {loaded.path}" if loaded.path else "set KillMode=process in a drop-in"
    return Refusal(_CODE, reason, f"{mend}, then: systemctl daemon-reload && nydus-agent plan")
