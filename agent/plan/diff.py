"""What is wanted against what is there: the plan. Pure; an empty plan means that the node is as wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent import paths
from agent.config.model import Config, RegistryHost, RestartPolicy, Scheme
from agent.containerd.dropin import containerd_check
from agent.containerd.files import node_of
from agent.containerd.render import Candidate, candidate
from agent.containerd.view import SNAPSHOTTER_TYPE, quoted
from agent.facts import node
from agent.facts.node import (
    Binary,
    Effective,
    Facts,
    FileFact,
    PluginFact,
    RunningContainerd,
    UnitFact,
    Unknown,
)
from agent.plan import decide, images, invariants, mounts, unit_files
from agent.plan.order import Changes, ordered, reload_reason, removal_of, snapshotter_verb, write
from agent.plan.render import hosts as render_hosts
from agent.plan.render.nydusd import template
from agent.plan.render.snapshotter import snapshotter_config, snapshotter_unit
from agent.programs import versions
from agent.steps import CheckContainerdConfig, Plan, Refusal, RemoveFile, WriteFile, refuse


def plan(config: Config, facts: Facts) -> Plan:
    """The steps from `facts` to what `config` wants. Raises as `decided_plan` does."""
    return decided_plan(config, facts)[1]


def decided_plan(config: Config, facts: Facts) -> tuple[Effective, Plan]:
    """What "auto" comes to, and the steps from `facts` to what `config` wants.

    Raises PlanError with all reasons why there can be none.
    """
    config = images.kept_root(config, facts)
    effective, refusals = decide.choose(config, facts)
    unreadable = _unreadable(config, facts)
    new = None if unreadable else candidate(config, node_of(facts))
    refuse(
        (
            *decide.binary_refusals(facts),
            *mounts.commit_refusals(facts),
            *_containerd_refusals(config, facts),
            *(new.refusals if new is not None else ()),
            *unreadable,
            *images.root_refusals(config, facts),
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
        *images.root_notes(config, facts),
        *mounts.restart_notes(facts, changes.snapshotter_verb),
    )
    made = Plan(ordered(changes), warnings, notes)
    refuse(mounts.ending_refusals(made, facts))
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
    else:
        found += _root_refusals(config, facts, facts.containerd_unit)
    if holder := facts.snapshotter_holder:
        reason = f"{paths.SNAPSHOTTER_SOCKET} is held by {holder}, not by {paths.SNAPSHOTTER_UNIT}"
        end = f"systemctl disable --now {holder}"
        way = end if holder.endswith(".service") else f"systemctl status {holder.removeprefix('process ')}"
        found.append(Refusal("NNA0305", reason, way))
    return tuple(found)


def _root_refusals(config: Config, facts: Facts, unit: UnitFact) -> tuple[Refusal, ...]:
    """containerd is started with another root file than the one that would be edited.

    Where the unit starts a wrapper, or names variables, the process tells.
    """
    files, wanted = facts.containerd_unit_files, config.containerd.config
    read = unit_files.root_file(unit.command)
    path = unit_files.root_file(unit_files.command_of(unit, files)) if isinstance(files, tuple) else read
    if path != read:
        reason = f"{unit.name} was changed to start containerd with another file: {path or 'not known'}"
        return (Refusal("NNA0314", f"{reason}, which systemd has not read", "systemctl daemon-reload"),)
    path = path or unit_files.root_file(facts.containerd_words)
    if path in ("", wanted):
        return _program_refusals(facts, unit)
    reason = f"containerd is started with the file {path}, [containerd] config says {wanted}"
    return (Refusal("NNA0314", reason, f'set containerd.config = "{path}"'),)


def _program_refusals(facts: Facts, unit: UnitFact) -> tuple[Refusal, ...]:
    """containerd is another program than the one that would be asked, of another version."""
    running, found, path = facts.running_containerd, facts.containerd, "".join(unit.command[:1])
    if not (isinstance(running, RunningContainerd) and isinstance(found, Binary)):
        return ()
    if not path.endswith("/containerd") or path == found.path or running.version == found.version:
        return ()
    asked = f"{found.path} ({found.version_text}) would be asked"
    reason = f"{unit.name} starts {path} ({running.version_text}), and {asked}"
    return (Refusal("NNA0314", reason, f'set containerd.program = "{path}"'),)


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


def _may_write(facts: Facts, path: str) -> bool:
    """hosts.toml files of others, or that could not be read, are left alone."""
    fact = facts.file(path)
    return fact is None or (isinstance(fact, FileFact) and node.marked(fact.content))


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
    plugin = registered(running.plugins)
    if plugin is None:
        return False
    exports = dict(plugin.exports)
    # containerd before 1.6.32 and 1.7.16 shows no exports of a proxy plugin but the address.
    return exports.get("address") == paths.SNAPSHOTTER_SOCKET and exports.get(
        "root", config.snapshotter.root
    ) == (config.snapshotter.root)


def registered(plugins: Sequence[PluginFact]) -> PluginFact | None:
    """Our snapshotter among containerd's plugins."""
    ours = (SNAPSHOTTER_TYPE, paths.PROXY_PLUGIN)
    return next((one for one in plugins if (one.type, one.id) == ours), None)


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
    found += mounts.renewal_warnings(config, facts)
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """All files of ours by path, the candidate for containerd's, and what to tell."""

    snapshotter: Mapping[str, bytes]
    """Inputs of the snapshotter: it restarts where one of them changes."""
    hosts: Mapping[str, bytes]
    """hosts.toml files: read at every pull."""
    gone: tuple[str, ...]
    """Files of ours that are there and shall not be."""
    containerd: Candidate
    notes: tuple[str, ...]


def wanted(config: Config, facts: Facts, effective: Effective, containerd: Candidate) -> Wanted:
    """What shall be there. `containerd` is what becomes of its files. The binaries must have been found
    (`decide.binary_refusals`).
    """
    programs = {
        name: fact
        for name, fact in (
            ("nydusd", facts.nydusd),
            ("nydus-image", facts.nydus_image),
            ("containerd-nydus-grpc", facts.snapshotter),
        )
        if isinstance(fact, Binary)
    }
    bundle = _ca_bundle(config, facts)
    registries = _registries(config, facts)
    snapshotter = {
        paths.NYDUSD_TEMPLATE: template(config, effective),
        paths.SNAPSHOTTER_CONFIG: snapshotter_config(
            config, facts, programs, registries=paths.REGISTRIES_D if registries else ""
        ),
        paths.SNAPSHOTTER_UNIT_FILE: snapshotter_unit(
            programs["containerd-nydus-grpc"].path,
            paths.CA_BUNDLE if bundle else "",
            config.containerd.unit,
            config.registries.credentials,
        ),
        **({paths.CA_BUNDLE: bundle} if bundle else {}),
        **registries,
    }
    certs = containerd.certs
    plain, notes = _hosts(config, facts, certs, containerd)
    keep = {*snapshotter, *plain}
    gone = tuple(path for path in _present(facts, certs) if path not in keep)
    return Wanted(snapshotter, plain, gone, containerd, notes)


def _hosts(
    config: Config, facts: Facts, certs: str, containerd: Candidate
) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    if not containerd.hosts_read:
        return {}, ()
    default = f"{certs}/{render_hosts.DEFAULT}/hosts.toml"
    fact = facts.file(default)
    present = isinstance(fact, FileFact) and node.marked(fact.content)
    found = render_hosts.wanted(config, facts, default_present=present)
    files = {f"{certs}/{name}/hosts.toml": content for name, content in found.files.items()}
    return files, found.notes


def _present(facts: Facts, certs: str) -> tuple[str, ...]:
    """Files of ours that may have become superfluous."""
    found = []
    for fact in facts.files:
        if isinstance(fact, FileFact) and node.marked(fact.content):
            below = fact.path.startswith((f"{certs}/", f"{paths.REGISTRIES_D}/"))
            if below or fact.path == paths.CA_BUNDLE:
                found.append(fact.path)
    return tuple(found)


def _ca_bundle(config: Config, facts: Facts) -> bytes:
    """The CAs of private registries in one file; empty where there is none."""
    parts = []
    for path in dict.fromkeys(registry.ca for registry in config.registries.hosts if registry.ca):
        fact = facts.file(path)
        if isinstance(fact, FileFact):
            parts.append(f"# {path}\n".encode() + fact.content.rstrip(b"\n") + b"\n")
    return f"# {paths.MARK}; made of the files named below.\n".encode() + b"".join(parts) if parts else b""


def _registries(config: Config, facts: Facts) -> Mapping[str, bytes]:
    """For snapshotters that read them: each registry's own address as its "mirror", which gives it a scheme
    and a CA.

    Without a ping_url the first host is taken as it is (containerd/nydus-snapshotter#736).
    """
    if not decide.per_registry(facts):
        return {}
    needing = [one for one in config.registries.hosts if one.scheme is Scheme.HTTP or one.ca]
    return {f"{paths.REGISTRIES_D}/{one.host}/hosts.toml": _registry(one) for one in needing}


def _registry(registry: RegistryHost) -> bytes:
    lines = [f"# {paths.MARK}; scheme and CA of this registry for nydusd.", ""]
    lines.append(f"[host.{quoted(f'{registry.scheme.value}://{registry.host}')}]")
    if registry.ca:
        lines.append(f"  ca = {quoted(registry.ca)}")
    return ("\n".join(lines) + "\n").encode()
