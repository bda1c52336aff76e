"""Checks 1 to 7: binaries, the snapshotter and containerd."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Sequence

from agent import paths
from agent.config.model import ContainerdMode, RestartPolicy
from agent.containerd.dropin import reads_exports
from agent.containerd.files import node_of
from agent.containerd.render import view_of
from agent.containerd.view import SNAPSHOTTER
from agent.documents.status import CheckResult
from agent.errors import (
    AgentError,
    ContainerdError,
    ContainerdNotFoundError,
    ContainerdUnavailableError,
    NydusdError,
)  # fmt: skip
from agent.facts.node import Binary, PluginFact, UnitFact, Unknown, Version
from agent.node.waits import Before
from agent.outside_json import json_value
from agent.plan import decide
from agent.plan.diff import registered
from agent.programs import versions
from agent.programs.versions import Project
from agent.proof.proofs import CALL_S, ProofView, failed, failed_by, not_proved, ok, unknown

_START_S = 15.0
_OPEN_FILES = 1_000_000
"""nydusd sets this limit of its own and exits where it may not (src/bin/nydusd/main.rs)."""
_DIAL_S, _DIAL_STEP_S = 10.0, 0.25
"""containerd dials a proxy plugin that was gone again after at most 3 s (its backoff's MaxDelay); until then
every call fails at once."""
_JOURNAL = f"journalctl -u {paths.SNAPSHOTTER_UNIT} -n 50"
_PLAN = "nydus-agent plan; nydus-agent apply"


def binaries(view: ProofView) -> CheckResult:
    """Check 1: present, of the node's architecture, a pair that works together."""
    refusals = decide.binary_refusals(view.facts) + decide.choose(view.config, view.facts)[1]
    if refusals:
        first, others = refusals[0], tuple(f"[{one.code}] {one.reason}" for one in refusals[1:])
        looked = (view.facts.nydusd, view.facts.snapshotter, view.facts.containerd)
        cause = "nydus cannot run like this"
        if any(isinstance(fact, Unknown) for fact in looked):
            return unknown(
                first.code, AgentError(first.code, first.reason, cause=cause, seen=others, try_=first.try_)
            )
        return failed(first.code, first.reason, cause=cause, evidence=others, try_=first.try_)
    fact = view.ports.files.read("/proc/sys/fs/nr_open")
    limit = int(fact.content) if fact is not None else _OPEN_FILES
    if limit < _OPEN_FILES:
        return failed(
            "NNA0205", f"nydusd will not start: fs.nr_open is {limit}",
            cause=f"nydusd asks for {_OPEN_FILES} open files and exits where the kernel allows fewer",
            try_=f"sysctl -w fs.nr_open={_OPEN_FILES}",
        )  # fmt: skip
    packaged = next((one.version for one in view.facts.programs if one.project == Project.NYDUS), "")
    nydusd = view.facts.nydusd
    if packaged and isinstance(nydusd, Binary) and paths.SNAPSHOTTER_UNIT in view.before.restarted:
        # A change brings it: until an image is started nobody would see that it does not run.
        try:
            view.ports.trials.start(nydusd.path, deadline_s=_START_S)
        except NydusdError as error:
            return failed_by("NNA0731", error, f"sudo apt purge {Project.NYDUS.package(packaged)}")
    found = versions.known_versions(view.facts)
    return ok(", ".join(f"{program} {version}" for program, version in found.items()))


def snapshotter_unit(view: ProofView) -> CheckResult:
    """Check 2: the unit runs, as it must, and in a new process where it was restarted."""
    unit = view.ports.units.get(paths.SNAPSHOTTER_UNIT)
    if unit is None or unit.load_state != "loaded":
        return failed(
            "NNA0405", f"{paths.SNAPSHOTTER_UNIT} is not there",
            cause=f"systemd says: {unit.load_state}" if unit is not None else "systemd knows no such unit",
            try_="nydus-agent apply",
        )  # fmt: skip
    wrong = _unit_problem(unit, view.before)
    if wrong is not None:
        code, cause = wrong
        return failed(
            code, f"{unit.name} does not run as it must", cause=cause,
            evidence=view.ports.units.journal_tail(unit.name, 3), try_=f"systemctl status {unit.name}",
        )  # fmt: skip
    return ok(f"runs as process {unit.main_pid}, KillMode=process")


def _unit_problem(unit: UnitFact, before: Before) -> tuple[str, str] | None:
    """(code, cause); None where there is none."""
    if unit.active_state != "active":
        why = "its start limit was hit" if unit.result == "start-limit-hit" else f"result: {unit.result}"
        state = f"it is {unit.active_state} ({unit.sub_state})"
        return "NNA0405", f"{state}; {why}; restarted {unit.n_restarts} times"
    if unit.name in before.restarted and unit.invocation_id == before.snapshotter_invocation:
        return "NNA0405", f"process {unit.main_pid} is still the one from before the restart"
    if unit.kill_mode != "process":
        drop_ins = ", ".join(unit.drop_in_paths) or unit.fragment_path
        what = f"KillMode={unit.kill_mode}: a restart would end all running containers' roots ({drop_ins})"
    elif not _spares_loopback(unit.environment):
        what = "a proxy is in its environment, NO_PROXY does not name 127.0.0.1: the mirror is not reached"
    elif unit.needs_reload:
        what = "its file was changed and systemd has not read it"
    else:
        return None
    return "NNA0714", what


def _spares_loopback(environment: Sequence[str]) -> bool:
    named = dict(entry.partition("=")[::2] for entry in environment)
    proxied = any(
        named.get(name) or named.get(name.upper()) for name in ("http_proxy", "https_proxy", "all_proxy")
    )
    return not proxied or "127.0.0.1" in named.get("NO_PROXY", named.get("no_proxy", "")).split(",")


def snapshotter_socket(view: ProofView) -> CheckResult:
    """Check 3: Stat of a random key on its own socket answers NotFound."""
    try:
        view.ports.snapshotter.alive(paths.SNAPSHOTTER_SOCKET, deadline_s=CALL_S)
    except ContainerdError as error:
        return failed_by("NNA0405", error, _JOURNAL)
    return ok(f"on {paths.SNAPSHOTTER_SOCKET}")


def containerd(view: ProofView) -> CheckResult:
    """Check 4: it answers, and with a new process where it was restarted."""
    unit = view.config.containerd.unit
    try:
        server = view.ports.containerd.server(deadline_s=CALL_S)
    except ContainerdError as error:
        return failed_by("NNA0405", error, f"systemctl status {unit}")
    if unit in view.before.restarted and server.pid == view.before.containerd_pid:
        return failed(
            "NNA0405", "containerd was not restarted", cause=f"process {server.pid} is the one from before",
            try_=f"systemctl status {unit}",
        )  # fmt: skip
    return ok(f"version {server.version_text}, process {server.pid}")


def plugin(view: ProofView) -> CheckResult:
    """Check 5: our snapshotter is registered, with our address ("ok" says nothing: a proxy plugin is dialled
    late).
    """
    try:
        plugins = view.ports.containerd.plugins(deadline_s=CALL_S)
    except ContainerdError as error:
        return not_proved(f"containerd does not answer: {error.cause or error.what}")
    found = registered(plugins)
    if found is None and view.config.containerd.restart is RestartPolicy.NEVER:
        return _restart_due(view)
    problem = "it is not registered" if found is None else _plugin_problem(found)
    if problem:
        seen = (f"exports: {dict(found.exports)}",) if found is not None else ()
        what = "containerd does not use our snapshotter"
        return failed("NNA0653", what, cause=problem, evidence=seen, try_=_PLAN)
    return ok(f"{paths.PROXY_PLUGIN} at {paths.SNAPSHOTTER_SOCKET}")


def _plugin_problem(plugin: PluginFact) -> str:
    address = dict(plugin.exports).get("address")
    if plugin.init_err:
        return f"its start failed: {plugin.init_err}"
    if address != paths.SNAPSHOTTER_SOCKET:
        return f"its address is {address or 'not known'}, ours is {paths.SNAPSHOTTER_SOCKET}"
    return ""


def _restart_due(
    view: ProofView, why: str = " ([containerd] restart = never)", *evidence: str
) -> CheckResult:
    unit = view.config.containerd.unit
    return not_proved(f"a restart of containerd is due{why}", *evidence, try_=f"systemctl restart {unit}")


def cri(view: ProofView) -> CheckResult:
    """Check 6: CRI started, and its default snapshotter is ours in mode default."""
    journal = f"journalctl -u {view.config.containerd.unit} -n 50"
    try:
        server = view.ports.containerd.server(deadline_s=CALL_S)
        parts = [
            one for one in server.plugins if one.type.startswith("io.containerd.cri.") or one.id == "cri"
        ]
        broken = [f"{one.type}.{one.id}: {one.init_err}" for one in parts if one.init_err]
        if broken:
            what = "containerd's CRI did not start"
            return failed("NNA0607", what, cause=broken[0], evidence=tuple(broken[1:]), try_=journal)
        if not parts:
            return not_proved("this containerd has no CRI part (disabled_plugins?)")
        points = view.ports.containerd.image_fs_info(deadline_s=CALL_S).mountpoints
        status = view.ports.containerd.cri_status(deadline_s=CALL_S)
    except ContainerdUnavailableError as error:
        return not_proved(f"containerd does not answer: {error.cause or error.what}")
    except ContainerdError as error:
        return failed_by("NNA0607", error, journal)
    if status.get("RuntimeReady", "") == "false":
        what = "CRI says that its runtime is not ready"
        return failed("NNA0607", what, cause="RuntimeReady is false", try_="crictl info")
    wrong = None
    if view.config.containerd.mode is ContainerdMode.RUNTIME_CLASS:
        wrong = _runtime(view, status.get("config", ""))
    return wrong or _default(view, points, server.version)


def _runtime(view: ProofView, config: str) -> CheckResult | None:
    """What stands against a pod of our runtime class, by CRI's own configuration; None where nothing does."""
    try:
        runtimes = dict(json_value(config)["containerd"]["runtimes"])
        known = runtimes.get(paths.RUNTIME)
        snapshotter = known.get("snapshotter", "") if known is not None else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return not_proved("CRI does not tell its runtimes")
    if snapshotter == paths.PROXY_PLUGIN:
        return None
    named = f"the runtime's snapshotter is {snapshotter or 'the default one'}"
    return failed(
        "NNA0653", f"CRI does not start the runtime class {paths.RUNTIME} with our snapshotter",
        cause=f"it knows no runtime {paths.RUNTIME}" if snapshotter is None else named,
        try_=f"nydus-agent plan; systemctl restart {view.config.containerd.unit}",
    )  # fmt: skip


def image_file_system(points: Sequence[str], root: str, version: Version) -> bool:
    """Whether CRI's image file system is our snapshotter's, by ImageFsInfo. A containerd that reads no
    `exports` says where the snapshotter would be if it were built in.
    """
    first = points[0] if points else ""
    built_in = posixpath.basename(first) == SNAPSHOTTER
    return first == root or (built_in and not reads_exports(version))


def _default(view: ProofView, points: tuple[str, ...], version: Version) -> CheckResult:
    """Whether CRI's default snapshotter is ours, or need not be."""
    root, first = view.config.snapshotter.root, points[0] if points else ""
    containerd = view.config.containerd
    used = image_file_system(points, root, version)
    if containerd.mode is not ContainerdMode.DEFAULT:
        if not used:
            return ok(f"CRI answers; mode {containerd.mode.value} leaves its default alone")
        if not _names_ours(view):
            seen = f"its image file system is still at {first}, but {containerd.config} names another default"
            return _restart_due(view, ": it runs on an older configuration", seen)
    if used:
        unread = "" if first == root else f"; this containerd does not tell the kubelet of {root}"
        return ok(f"image file system at {first}{unread}")
    if containerd.restart is RestartPolicy.NEVER:
        return _restart_due(view)
    cause = f"its image file system is at {first or 'an unknown place'}, ours is {root}"
    return failed("NNA0653", "CRI uses another snapshotter by default", cause=cause, try_=_PLAN)


def _names_ours(view: ProofView) -> bool:
    """Whether containerd's files name our snapshotter as CRI's default; true where that cannot be told."""
    seen = view_of(view.config, node_of(view.facts))
    return seen is None or seen.get(seen.keys.snapshotter) == paths.PROXY_PLUGIN


def prepare(view: ProofView) -> CheckResult:
    """Check 7: Prepare and Remove through containerd reach the snapshotter.

    A snapshotter that was just started may wait for containerd to dial again.
    """
    clock = view.ports.clock
    end = clock.monotonic() + (_DIAL_S if paths.SNAPSHOTTER_UNIT in view.before.restarted else 0.0)
    while True:
        key = f"proof-{secrets.token_hex(8)}"
        try:
            view.ports.containerd.prepare_and_remove(
                paths.PROXY_PLUGIN, paths.PROBE_NAMESPACE, key, deadline_s=2 * CALL_S
            )
        except ContainerdUnavailableError as error:
            if clock.monotonic() >= end:
                return failed_by("NNA0653", error, _JOURNAL)
        except ContainerdNotFoundError as error:
            return failed_by("NNA0653", error, _JOURNAL)
        except ContainerdError as error:
            never = view.config.containerd.restart is RestartPolicy.NEVER
            if never and "not loaded" in f"{error}":
                return _restart_due(view)
            return failed_by("NNA0601", error, _JOURNAL)
        else:
            return ok("and removed, through containerd in a namespace of its own")
        clock.sleep(_DIAL_STEP_S)
