"""What a plan does to mounts that run: restarts of the snapshotter, and credentials that expire. Pure.

- nydusd processes are children in the unit's cgroup. systemd ends them with the snapshotter unless the unit's
  KillMode is "process" (or "none"), and it takes KillMode from what it has read last: the unit's file and the
  drop-ins of others.
- From 0.15.4 on a starting snapshotter asks the nydusd in PATH for its git commit where any nydusd lives, and
  does not start without an answer. Where its recover policy is "failover" it then replaces each living nydusd
  of another commit in flight; where it is "restart", as we render it, it leaves them alone (its
  pkg/filesystem/fs.go, NewFileSystem).
- A nydusd reads for as long as its image is on the node, with the credential that the snapshotter wrote into
  its configuration when it was started.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TypeAlias

from agent import paths
from agent.config.model import Config, Dialect
from agent.facts.node import Binary, Facts, FileFact, UnitFact, Unknown, Version
from agent.plan.unit_files import settings
from agent.programs.versions import ASKS_FOR_COMMIT, RENEWS, TAKES_CREDENTIALS, spelled
from agent.registry.docker_config import EVERY
from agent.steps import Plan, Refusal, ReloadUnits, RemoveFile, Step, UnitStep, UnitVerb, WriteFile

_CODE = "NNA0304"
_MODES = ("control-group", "mixed", "process", "none")
"""What systemd knows (systemd.kill(5)); it passes over any other value."""
_ENDING = _MODES[:2]
_DEFAULT = "control-group"
_Files: TypeAlias = tuple[FileFact, ...] | Unknown
_ENDS = (UnitVerb.STOP, UnitVerb.RESTART)
_READS = (UnitVerb.ENABLE, UnitVerb.DISABLE)
"""systemd reads its files again with these."""
RENEWAL_TRY = (
    "nydus-agent programs lock --nydus 2.4.4 --snapshotter 0.16.1, then programs package, and install the "
    "packages; or a credential that does not expire"
)
RENEWAL_COST = "once it has expired, what a running container has not read yet fails with EIO"


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What systemd would do when it ends the unit's main process, and which file says so ("": could not be
    told).
    """

    mode: str
    path: str


def ending_refusals(plan: Plan, facts: Facts) -> tuple[Refusal, ...]:
    """The first steps of the plan that would end mounts or shims, as refusals."""
    return (
        *_ending(plan, facts, facts.snapshotter_unit, facts.snapshotter_drop_ins),
        *_ending(plan, facts, facts.containerd_unit, facts.containerd_unit_files),
    )


def _ending(plan: Plan, facts: Facts, unit: UnitFact | None | Unknown, files: _Files) -> tuple[Refusal, ...]:
    if not isinstance(unit, UnitFact) or not unit.runs:
        return ()
    ours = unit is facts.snapshotter_unit
    own = _file(facts, paths.SNAPSHOTTER_UNIT_FILE) if ours else None
    if not ours and isinstance(files, tuple) and files:
        own, files = (files[0].path, files[0].content), files[1:]
    now: _Loaded | Unknown = _now(unit, files)
    for step in plan.steps:
        if ours and isinstance(step, WriteFile) and step.path == paths.SNAPSHOTTER_UNIT_FILE:
            own = (step.path, step.content)
        elif ours and isinstance(step, RemoveFile) and step.path == paths.SNAPSHOTTER_UNIT_FILE:
            own = _file(facts, paths.PACKAGED_UNIT_FILE)
        elif _is_read(step):
            now = _read(unit, own, files)
        elif isinstance(step, UnitStep) and step.unit == unit.name and step.verb in _ENDS:
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


def _now(unit: UnitFact, files: _Files) -> _Loaded:
    """As systemd has loaded it, and the drop-in that says so, where it is among those that are there."""
    found = _read(unit, None, files)
    path = found.path if isinstance(found, _Loaded) and found.mode == unit.kill_mode else ""
    return _Loaded(unit.kill_mode, path)


def _read(unit: UnitFact, own: tuple[str, bytes] | None, files: _Files) -> _Loaded | Unknown:
    """As systemd reads it next. `own` is the unit's own file; None: one that nobody looked at, as it was
    loaded.
    """
    if isinstance(files, Unknown):
        return files
    loaded = _Loaded(unit.kill_mode if own is None else _DEFAULT, "")
    for path, content in (
        *((own,) if own is not None else ()),
        *((one.path, one.content) for one in files),
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
    what = "every nydusd, and with it the root file systems of running containers"
    if unit.name != paths.SNAPSHOTTER_UNIT:
        what = "the shims of all containers"
    reason = (
        f"{says} KillMode={loaded.mode} for {unit.name}: a {step.verb.value} would end {what}; needed is "
        "KillMode=process"
    )
    mend = f"take KillMode out of {loaded.path}" if loaded.path else "set KillMode=process in a drop-in"
    return Refusal(_CODE, reason, f"{mend}, then: systemctl daemon-reload && nydus-agent plan")


def commit_refusals(facts: Facts) -> tuple[Refusal, ...]:
    """A pair that would not survive the first restart of the snapshotter while an image is mounted."""
    nydusd = facts.nydusd
    if not _asks(facts.snapshotter) or not isinstance(nydusd, Binary) or nydusd.commit != "":
        return ()
    reason = (
        f"{nydusd.path} --version names no git commit: this snapshotter would not start again while "
        f"images are mounted"
    )
    return (Refusal("NNA0201", reason, "install an official build of nydusd"),)


def restart_notes(facts: Facts, verb: UnitVerb | None) -> tuple[str, ...]:
    """What becomes of running mounts where the snapshotter restarts."""
    if verb is not UnitVerb.RESTART:
        return ()
    text = facts.nydusd.version_text if isinstance(facts.nydusd, Binary) else ""
    kept = (
        f"mounts that run keep their nydusd over the snapshotter's restart, new ones get "
        f"{text or 'that in PATH'}"
    )
    if not _asks(facts.snapshotter):
        return (kept,)
    return (
        f'{kept}; it upgrades nydusd in flight only where its recover_policy is "failover" (ours is '
        f'"restart")',
    )


def _asks(snapshotter: Binary | None | Unknown) -> bool:
    version = snapshotter.version if isinstance(snapshotter, Binary) else None
    return isinstance(version, tuple) and version >= ASKS_FOR_COMMIT


def renewal_interval_s(config: Config, facts: Facts) -> int:
    """How often the snapshotter shall renew; 0: it cannot, or has nothing to.

    Passwords that lie in the file are renewed too: whoever replaces one means running containers as well.
    """
    return config.registries.renew_s if facts.credentials.some and not renewal_obstacles(facts) else 0


def renews(facts: Facts) -> bool:
    """Whether the snapshotter's configuration on the node, which only we write, tells it to renew."""
    fact = facts.file(paths.SNAPSHOTTER_CONFIG)
    if not isinstance(fact, FileFact):
        return False
    try:
        return "credential_renewal_interval" in tomllib.loads(fact.content.decode())["remote"]["auth"]
    except (ValueError, KeyError, TypeError):
        return False


def renewal_obstacles(facts: Facts) -> tuple[str, ...]:
    """Why these programs cannot renew, each a sentence; a version that is not known counts as too old."""
    needs = (("snapshotter", facts.snapshotter, RENEWS), ("nydusd", facts.nydusd, TAKES_CREDENTIALS))
    return tuple(
        why
        for name, fact, since in needs
        if isinstance(fact, Binary) and (why := too_old(name, fact.version, fact.version_text, since))
    )


def too_old(name: str, version: Version | Unknown, told: str, since: Version) -> str:
    """What is wrong with a program that can renew from a version on; "" where nothing is. `told` is its
    version in words.
    """
    if not isinstance(version, Unknown) and version >= since:
        return ""
    name = f"{name} {told.removeprefix('v') or 'of unknown version'}"
    return f"{name} does not ({spelled(since)} does)"


def renewal_warnings(config: Config, facts: Facts) -> tuple[str, ...]:
    """For a plan: credentials that this node will not renew, and what to do."""
    told = [f"{_registry(name)} ({what})" for name, what in facts.credentials.expiring if what]
    why = renewal_obstacles(facts)
    if not (told and why and config.registries.renew_s):
        return ()
    also = ""
    if config.mirror.dialect is Dialect.MIRRORS:
        also = "; the mirrors dialect excludes such a nydusd"
    return (
        f"credentials that expire are not renewed for running containers (NNA1207): {', '.join(told)}: "
        f"{RENEWAL_COST}: {', '.join(why)}{also}: {RENEWAL_TRY}",
    )


def _registry(name: str) -> str:
    return "every registry" if name == EVERY else name
