"""What is wanted against what is there: the plan. Pure; an empty plan means that the node is as wanted."""

from __future__ import annotations

from dataclasses import replace

from agent import paths
from agent.config.model import Config, RestartPolicy
from agent.containerd.files import node_of
from agent.containerd.render import Candidate, candidate
from agent.containerd.trial import containerd_check
from agent.facts import node
from agent.facts.node import Effective, Facts, FileFact, PluginFact, RunningContainerd, UnitFact, Unknown
from agent.plan import decide, images, invariants, mounts, renewal, roots, upgrade
from agent.plan.order import Changes, ordered
from agent.plan.wanted import Wanted, wanted
from agent.programs import versions
from agent.steps import CheckContainerdConfig, Plan, Refusal, RemoveFile, UnitVerb, WriteFile, refuse

_SNAPSHOTTER_TYPE = "io.containerd.snapshotter.v1"


def plan(config: Config, facts: Facts) -> Plan:
    """The steps from `facts` to what `config` wants. Raises as `decided_plan` does."""
    return decided_plan(config, facts)[1]


def decided_plan(config: Config, facts: Facts) -> tuple[Effective, Plan]:
    """What "auto" comes to, and the steps from `facts` to what `config` wants.

    Raises PlanError with all reasons why there can be none.
    """
    config = roots.kept(config, facts)
    effective, refusals = decide.choose(config, facts)
    unreadable = _unreadable(config, facts)
    new = None if unreadable else candidate(config, node_of(facts))
    refuse(
        (
            *decide.binary_refusals(facts),
            *upgrade.refusals(facts),
            *_containerd_refusals(config, facts),
            *(new.refusals if new is not None else ()),
            *unreadable,
            *roots.refusals(config, facts),
            *_credentials_refusals(config, facts),
            *refusals,
        )
    )
    assert new is not None  # else it was refused
    target = wanted(config, facts, effective, new)
    changes = _changes(config, facts, target)
    warnings = (
        *target.containerd.warnings,
        *_warnings(config, facts, target),
        *images.warnings(config, facts),
    )
    notes = (
        *effective.reasons,
        *(f"not accelerated: {text}" for text in effective.not_accelerated),
        *target.notes,
    )
    notes = (*notes, *roots.notes(config, facts), *upgrade.notes(facts, changes))
    made = Plan(ordered(changes), warnings, notes)
    refuse(mounts.refusals(made, facts))
    invariants.check(made, facts, config.containerd.config)
    return effective, made


def _containerd_refusals(config: Config, facts: Facts) -> tuple[Refusal, ...]:
    found = []
    if not facts.systemd_running:
        found.append(Refusal("NNA0301", "systemd does not run here", "apply at the next boot"))
    elif not isinstance(facts.containerd_unit, UnitFact) or facts.containerd_unit.load_state == "not-found":
        found.append(
            Refusal(
                "NNA0301",
                f"there is no {config.containerd.unit}",
                f"systemctl status {config.containerd.unit}",
            )
        )
    elif facts.containerd_unit.load_state == "masked":
        found.append(
            Refusal(
                "NNA0301", f"{config.containerd.unit} is masked", f"systemctl unmask {config.containerd.unit}"
            )
        )
    return tuple(found)


def _credentials_refusals(config: Config, facts: Facts) -> tuple[Refusal, ...]:
    """What the operator named must be usable: without it each private image fails at its next start."""
    if not config.registries.credentials:
        return ()
    named = facts.credentials
    return tuple(Refusal("NNA1201", problem, named.try_) for problem in named.problems)


def _unreadable(config: Config, facts: Facts) -> tuple[Refusal, ...]:
    """Files of which nobody knows what is in them cannot be changed safely."""
    seen = ((path, facts.file(path)) for path in (config.containerd.config, *node.SNAPSHOTTER_FILES))
    return tuple(
        Refusal("NNA0303", f"{path} could not be read: {fact.reason}", f"ls -l {path}")
        for path, fact in seen
        if isinstance(fact, Unknown)
    )


def _changes(config: Config, facts: Facts, target: Wanted) -> Changes:
    made = (write(facts, path, content, _reason_for(path)) for path, content in target.snapshotter.items())
    files = tuple(step for step in made if step is not None)
    verb, why = snapshotter_verb(facts, files)
    unit = facts.snapshotter_unit if isinstance(facts.snapshotter_unit, UnitFact) else None
    mine = {path: content for path, content in target.hosts.items() if _may_write(facts, path)}
    plain = (
        write(facts, path, content, "plain images go through the mirror first")
        for path, content in mine.items()
    )
    config_steps, check = _containerd_steps(config, facts, target.containerd)
    return Changes(
        snapshotter_files=files,
        hosts=tuple(step for step in plain if step is not None),
        gone=tuple(removed for path in target.gone if (removed := removal_of(facts, path)) is not None),
        containerd_config=config_steps,
        check=check,
        reload_reason=reload_reason(unit, files),
        enable=unit is None or not unit.starts_at_boot,
        snapshotter_verb=verb,
        snapshotter_reason=why,
        containerd_reason=_restart_due(config, facts, target),
        containerd_address=config.containerd.address,
        images=images.steps(config, facts),
        containerd_unit=config.containerd.unit,
    )


def _reason_for(path: str) -> str:
    return {
        paths.NYDUSD_TEMPLATE: "how each nydusd reaches mirror and origin",
        paths.SNAPSHOTTER_CONFIG: "how the snapshotter runs",
        paths.SNAPSHOTTER_UNIT_FILE: "systemd keeps the snapshotter up, before containerd",
        paths.CA_BUNDLE: "nydusd must trust the CAs of private registries when it reads from the origin",
    }.get(path, "scheme and CA of a registry for nydusd")


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


def _may_write(facts: Facts, path: str) -> bool:
    """hosts.toml files of others, or that could not be read, are left alone."""
    fact = facts.file(path)
    return fact is None or (isinstance(fact, FileFact) and node.marked(fact.content))


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


def _containerd_steps(
    config: Config, facts: Facts, new: Candidate
) -> tuple[tuple[WriteFile | RemoveFile, ...], CheckContainerdConfig | None]:
    if not new.needs_restart:
        return (), None
    path = config.containerd.config
    reason = "containerd must know the snapshotter, its root, and where hosts.toml files are"
    line = "containerd must read our file beside it"
    drops = any(one != path for one in new.files)
    made = [
        write(facts, one, content, line if drops and one == path else reason)
        for one, content in new.files.items()
    ]
    gone = [removal_of(facts, one, "this containerd needs no file beside its root file") for one in new.gone]
    after = node_of(facts).with_files({**new.files, **dict.fromkeys(new.gone)})
    steps = tuple(
        _private(step, path) if new.carries else step for step in (*made, *gone) if step is not None
    )
    return steps, containerd_check(config.containerd, after, new.files, new.expect)


def _private(step: WriteFile | RemoveFile, root: str) -> WriteFile | RemoveFile:
    """A copy of what others wrote, which may hold a password, is for root alone."""
    return replace(step, mode=0o600) if isinstance(step, WriteFile) and step.path != root else step


def _restart_due(config: Config, facts: Facts, target: Wanted) -> str:
    """Why containerd must restart, "" where it must not."""
    if target.containerd.needs_restart:
        return "it reads its configuration only when it starts"
    running = facts.running_containerd
    if isinstance(running, RunningContainerd) and not _registered(config, running):
        return (
            "it runs on an older configuration: the snapshotter is not registered with our address and root"
        )
    return ""


def _registered(config: Config, running: RunningContainerd) -> bool:
    plugin = next((one for one in running.plugins if _is_ours(one)), None)
    if plugin is None:
        return False
    exports = dict(plugin.exports)
    # containerd before 1.6.32 and 1.7.16 shows no exports of a proxy plugin but the address.
    return exports.get("address") == paths.SNAPSHOTTER_SOCKET and exports.get(
        "root", config.snapshotter.root
    ) == (config.snapshotter.root)


def _is_ours(plugin: PluginFact) -> bool:
    return plugin.type == _SNAPSHOTTER_TYPE and plugin.id == paths.PROXY_PLUGIN


def _warnings(config: Config, facts: Facts, target: Wanted) -> tuple[str, ...]:
    found = []
    if config.containerd.restart is RestartPolicy.NEVER:
        due = _restart_due(config, facts, target)
        if due:
            found.append(
                "containerd has to restart, which is left to you (containerd.restart = never): nothing of "
                f"this is done before `nydus-agent apply --now`: {due}"
            )
    foreign = (path for path in target.snapshotter if not node.ours(facts, path))
    found += [
        f"{path} belongs to somebody else; it is replaced, and removal puts it back" for path in foreign
    ]
    for path in target.hosts:
        if not _may_write(facts, path):
            registry = path.rpartition("/")[0].rpartition("/")[2]
            found.append(
                f"{path} belongs to somebody else and is left alone: images of {registry} do as it says"
            )
    # What docker wrote for root is used as it is: nobody said that it must be there, or be right.
    found += [f"credentials of registries: {problem}" for problem in facts.credentials.problems]
    found += renewal.warnings(config, facts)
    found += versions.cautions(versions.pair_on_node(config, facts))
    if facts.nydus_image is None:
        found.append("nydus-image is not in PATH: images can run, but none can be made here")
    changed = set(target.containerd.files)
    for path, package in facts.dpkg_conffiles:
        if path in changed:
            found.append(
                f"{path} is a conffile of {package}: dpkg will ask about it when a new version changes it"
            )
    return tuple(found)
