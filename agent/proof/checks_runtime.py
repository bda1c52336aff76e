"""Checks 1 to 7: binaries, the snapshotter and containerd."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from agent import paths
from agent.config.model import Config, ContainerdMode, RestartPolicy
from agent.containerd.files import node_of
from agent.containerd.render import view_of
from agent.containerd.trial import reads_exports
from agent.documents.applied import CheckResult, CheckState
from agent.errors import (
    ContainerdError,
    ContainerdNotFoundError,
    ContainerdUnavailableError,
    FileError,
    NydusdError,
    SystemdError,
)  # fmt: skip
from agent.facts.node import Binary, Facts, PluginFact, UnitFact, Unknown, Version
from agent.node.waits import Before
from agent.outside_json import json_value
from agent.plan import decide
from agent.ports import Ports
from agent.programs import versions
from agent.programs.versions import Project
from agent.proof.proofs import failed, failed_by, not_proved, ok, unknown

CALL_S = 5.0
_SNAPSHOTTER_TYPE = "io.containerd.snapshotter.v1"
_START_S = 15.0
_OPEN_FILES = (
    1_000_000  # nydusd sets this limit of its own and exits where it may not (src/bin/nydusd/main.rs)
)
_DIAL_S, _DIAL_STEP_S = 10.0, 0.25
"""containerd dials a proxy plugin that was gone again after at most 3 s (its backoff's MaxDelay); until then
every call fails at once."""
_JOURNAL = f"journalctl -u {paths.SNAPSHOTTER_UNIT} -n 50"


@dataclass(frozen=True, slots=True)
class ProofView:
    """What a check looks at."""

    ports: Ports
    config: Config
    facts: Facts
    before: Before


def binaries(view: ProofView) -> CheckResult:
    """Check 1: present, of the node's architecture, a pair that works together."""
    number, name = 1, "binaries"
    refusals = decide.binary_refusals(view.facts) + decide.choose(view.config, view.facts)[1]
    if refusals:
        first, others = refusals[0], tuple(f"[{one.code}] {one.reason}" for one in refusals[1:])
        looked = [view.facts.nydusd, view.facts.snapshotter, view.facts.containerd]
        if any(isinstance(fact, Unknown) for fact in looked):
            return CheckResult(
                number, name, CheckState.UNKNOWN, first.reason, first.code, first.reason, others, first.try_
            )
        return failed(number, name, first.code, first.reason, cause="nydus cannot run like this",
                      evidence=others,
                      try_=first.try_)  # fmt: skip
    limit = _open_files(view.ports)
    if limit and limit < _OPEN_FILES:
        return failed(
            number, name, "NNA0205", f"nydusd will not start: fs.nr_open is {limit}",
            cause=f"nydusd asks for {_OPEN_FILES} open files and exits where the kernel allows fewer",
            try_=f"sysctl -w fs.nr_open={_OPEN_FILES}",
        )  # fmt: skip
    try:
        _start_once(view)
    except NydusdError as error:
        package = Project.NYDUS.package(_packaged(view))
        return failed_by(number, name, "NNA0731", error, f"sudo apt purge {package}")
    found = versions.known_versions(view.facts)
    return ok(number, name, ", ".join(f"{program} {version}" for program, version in found.items()))


def _start_once(view: ProofView) -> None:
    """A nydusd of a package that a change brings: until an image is started nobody would see that it does not
    run.

    Raises NydusdError.
    """
    nydusd = view.facts.nydusd
    if _packaged(view) and isinstance(nydusd, Binary) and paths.SNAPSHOTTER_UNIT in view.before.restarted:
        view.ports.trials.start(nydusd.path, deadline_s=_START_S)


def _packaged(view: ProofView) -> str:
    """The version of the package that nydusd is of; "" where it is the one in PATH."""
    return next((one.version for one in view.facts.programs if one.project == Project.NYDUS), "")


def _open_files(ports: Ports) -> int:
    try:
        fact = ports.files.read("/proc/sys/fs/nr_open")
        return int(fact.content) if fact is not None else 0
    except (FileError, ValueError):
        return 0


def snapshotter_unit(view: ProofView) -> CheckResult:
    """Check 2: the unit runs, as it must, and in a new process where it was restarted."""
    number, name = 2, "snapshotter unit"
    try:
        unit = view.ports.units.get(paths.SNAPSHOTTER_UNIT)
    except SystemdError as error:
        return unknown(number, name, "NNA0405", error)
    if unit is None or unit.load_state != "loaded":
        return failed(
            number, name, "NNA0405", f"{paths.SNAPSHOTTER_UNIT} is not there",
            cause=f"systemd says: {unit.load_state}" if unit is not None else "systemd knows no such unit",
            try_="nydus-agent apply",
        )  # fmt: skip
    code, cause = _unit_problem(unit, view.before)
    if code:
        return failed(
            number, name, code, f"{unit.name} does not run as it must", cause=cause,
            evidence=view.ports.units.journal_tail(unit.name, 3), try_=f"systemctl status {unit.name}",
        )  # fmt: skip
    return ok(number, name, f"runs as process {unit.main_pid}, KillMode=process")


def _unit_problem(unit: UnitFact, before: Before) -> tuple[str, str]:
    """(code, cause); both empty where there is none."""
    if unit.active_state != "active":
        why = "its start limit was hit" if unit.result == "start-limit-hit" else f"result: {unit.result}"
        return (
            "NNA0405",
            f"it is {unit.active_state} ({unit.sub_state}); {why}; restarted {unit.n_restarts} times",
        )
    if unit.name in before.restarted and unit.invocation_id == before.snapshotter_invocation:
        return "NNA0405", f"process {unit.main_pid} is still the one from before the restart"
    if unit.kill_mode != "process":
        drop_ins = ", ".join(unit.drop_in_paths) or unit.fragment_path
        return (
            "NNA0714",
            f"KillMode={unit.kill_mode}: a restart would end all running containers' roots ({drop_ins})",
        )
    if not _spares_loopback(unit.environment):
        return (
            "NNA0714",
            "a proxy is in its environment, NO_PROXY does not name 127.0.0.1: the mirror is not reached",
        )
    return (
        ("", "") if not unit.needs_reload else ("NNA0714", "its file was changed and systemd has not read it")
    )


def _spares_loopback(environment: Sequence[str]) -> bool:
    named = dict(entry.partition("=")[::2] for entry in environment)
    proxied = any(
        named.get(name) or named.get(name.upper()) for name in ("http_proxy", "https_proxy", "all_proxy")
    )
    return not proxied or "127.0.0.1" in named.get("NO_PROXY", named.get("no_proxy", "")).split(",")


def snapshotter_socket(view: ProofView) -> CheckResult:
    """Check 3: Stat of a random key on its own socket answers NotFound."""
    number, name = 3, "snapshotter answers"
    try:
        view.ports.snapshotter.alive(paths.SNAPSHOTTER_SOCKET, deadline_s=CALL_S)
    except ContainerdError as error:
        return failed_by(number, name, "NNA0405", error, _JOURNAL)
    return ok(number, name, f"on {paths.SNAPSHOTTER_SOCKET}")


def containerd(view: ProofView) -> CheckResult:
    """Check 4: it answers, and with a new process where it was restarted."""
    number, name = 4, "containerd answers"
    try:
        server = view.ports.containerd.server(deadline_s=CALL_S)
    except ContainerdError as error:
        return failed_by(number, name, "NNA0405", error, f"systemctl status {view.config.containerd.unit}")
    if view.config.containerd.unit in view.before.restarted and server.pid == view.before.containerd_pid:
        return failed(
            number, name, "NNA0405", "containerd was not restarted",
            cause=f"process {server.pid} is the one from before",
            try_=f"systemctl status {view.config.containerd.unit}",
        )  # fmt: skip
    return ok(number, name, f"version {server.version_text}, process {server.pid}")


def plugin(view: ProofView) -> CheckResult:
    """Check 5: our snapshotter is registered, with our address ("ok" says nothing: a proxy plugin is dialled
    late).
    """
    number, name = 5, "plugin registered"
    try:
        plugins = view.ports.containerd.plugins(deadline_s=CALL_S)
    except ContainerdError as error:
        return not_proved(number, name, f"containerd does not answer: {error.cause or error.what}")
    found = next(
        (one for one in plugins if one.type == _SNAPSHOTTER_TYPE and one.id == paths.PROXY_PLUGIN), None
    )
    if found is None and view.config.containerd.restart is RestartPolicy.NEVER:
        return not_proved(
            number, name, "a restart of containerd is due ([containerd] restart = never)",
            try_=f"systemctl restart {view.config.containerd.unit}",
        )  # fmt: skip
    problem = "it is not registered" if found is None else _plugin_problem(found)
    if problem:
        return failed(
            number, name, "NNA0653", "containerd does not use our snapshotter", cause=problem,
            evidence=(f"exports: {dict(found.exports)}",) if found is not None else (),
            try_="nydus-agent plan; nydus-agent apply",
        )  # fmt: skip
    return ok(number, name, f"{paths.PROXY_PLUGIN} at {paths.SNAPSHOTTER_SOCKET}")


def _plugin_problem(plugin: PluginFact) -> str:
    exports = dict(plugin.exports)
    if plugin.init_err:
        return f"its start failed: {plugin.init_err}"
    if exports.get("address") != paths.SNAPSHOTTER_SOCKET:
        return f"its address is {exports.get('address') or 'not known'}, ours is {paths.SNAPSHOTTER_SOCKET}"
    return ""


def cri(view: ProofView) -> CheckResult:
    """Check 6: CRI started, and its default snapshotter is ours in mode default."""
    number, name = 6, "CRI uses it"
    try:
        server = view.ports.containerd.server(deadline_s=CALL_S)
        parts = [
            one for one in server.plugins if one.type.startswith("io.containerd.cri.") or one.id == "cri"
        ]
        broken = [f"{one.type}.{one.id}: {one.init_err}" for one in parts if one.init_err]
        if broken:
            return failed(
                number, name, "NNA0607", "containerd's CRI did not start", cause=broken[0],
                evidence=tuple(broken[1:]),
                try_=f"journalctl -u {view.config.containerd.unit} -n 50",
            )  # fmt: skip
        if not parts:
            return not_proved(number, name, "this containerd has no CRI part (disabled_plugins?)")
        points = view.ports.containerd.image_fs_info(deadline_s=CALL_S).mountpoints
        status = view.ports.containerd.cri_status(deadline_s=CALL_S)
    except ContainerdUnavailableError as error:
        return not_proved(number, name, f"containerd does not answer: {error.cause or error.what}")
    except ContainerdError as error:
        return failed_by(number, name, "NNA0607", error, f"journalctl -u {view.config.containerd.unit} -n 50")
    if status.get("RuntimeReady", "") == "false":
        return failed(number, name, "NNA0607", "CRI says that its runtime is not ready",
                      cause="RuntimeReady is false",
                      try_="crictl info")  # fmt: skip
    runtime = view.config.containerd.mode is ContainerdMode.RUNTIME_CLASS
    return (_runtime(view, status.get("config", "")) if runtime else None) or _cri_judged(
        view, points, server.version
    )


def _runtime(view: ProofView, config: str) -> CheckResult | None:
    """What stands against a pod of our runtime class, by CRI's own configuration; None where nothing does."""
    number, name = 6, "CRI uses it"
    try:
        runtimes = dict(json_value(config)["containerd"]["runtimes"])
        snapshotter = (
            str(runtimes[paths.RUNTIME].get("snapshotter", "")) if paths.RUNTIME in runtimes else None
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return not_proved(number, name, "CRI does not tell its runtimes")
    if snapshotter == paths.PROXY_PLUGIN:
        return None
    named = f"the runtime's snapshotter is {snapshotter or 'the default one'}"
    return failed(
        number, name, "NNA0653", f"CRI does not start the runtime class {paths.RUNTIME} with our snapshotter",
        cause=f"it knows no runtime {paths.RUNTIME}" if snapshotter is None else named,
        try_=f"nydus-agent plan; systemctl restart {view.config.containerd.unit}",
    )  # fmt: skip


def image_file_system(points: Sequence[str], root: str, version: Version) -> bool:
    """Whether CRI's image file system is our snapshotter's, by ImageFsInfo. A containerd that reads no
    `exports` says where the snapshotter would be if it were built in.
    """
    first = points[0] if points else ""
    built_in = posixpath.basename(first) == f"{_SNAPSHOTTER_TYPE}.{paths.PROXY_PLUGIN}"
    return first == root or (built_in and not reads_exports(version))


def _cri_judged(view: ProofView, points: tuple[str, ...], version: Version) -> CheckResult:
    number, name = 6, "CRI uses it"
    root, first = view.config.snapshotter.root, points[0] if points else ""
    used = image_file_system(points, root, version)
    if view.config.containerd.mode is not ContainerdMode.DEFAULT and used and not _names_ours(view):
        seen = (
            f"its image file system is still at {first}, but {view.config.containerd.config} names "
            f"another default"
        )
        return not_proved(number, name, "a restart of containerd is due: it runs on an older configuration",
                          seen,
                          try_=f"systemctl restart {view.config.containerd.unit}")  # fmt: skip
    if view.config.containerd.mode is not ContainerdMode.DEFAULT and not used:
        return ok(
            number, name, f"CRI answers; mode {view.config.containerd.mode.value} leaves its default alone"
        )
    if used:
        unread = "" if first == root else f"; this containerd does not tell the kubelet of {root}"
        return ok(number, name, f"image file system at {first}{unread}")
    if view.config.containerd.restart is RestartPolicy.NEVER:
        return not_proved(number, name, "a restart of containerd is due ([containerd] restart = never)",
                          try_=f"systemctl restart {view.config.containerd.unit}")  # fmt: skip
    return failed(
        number, name, "NNA0653", "CRI uses another snapshotter by default",
        cause=f"its image file system is at {first or 'an unknown place'}, ours is {root}",
        try_="nydus-agent plan; nydus-agent apply",
    )  # fmt: skip


def _names_ours(view: ProofView) -> bool:
    """Whether containerd's files name our snapshotter as CRI's default; true where that cannot be told."""
    seen = view_of(view.config, node_of(view.facts))
    return seen is None or seen.get(seen.keys.snapshotter) == paths.PROXY_PLUGIN


def prepare(view: ProofView) -> CheckResult:
    """Check 7: Prepare and Remove through containerd reach the snapshotter."""
    number, name = 7, "snapshot made"
    try:
        _prepare(view)
    except (ContainerdUnavailableError, ContainerdNotFoundError) as error:
        return failed_by(number, name, "NNA0653", error, _JOURNAL)
    except ContainerdError as error:
        if view.config.containerd.restart is RestartPolicy.NEVER and "not loaded" in f"{error}":
            return not_proved(number, name, "a restart of containerd is due ([containerd] restart = never)")
        return failed_by(number, name, "NNA0601", error, _JOURNAL)
    return ok(number, name, "and removed, through containerd in a namespace of its own")


def _prepare(view: ProofView) -> None:
    """A snapshotter that was just started may wait for containerd to dial again. Raises ContainerdError.

    Nothing was made where nobody could be reached, and each try has a key of its own.
    """
    clock = view.ports.clock
    end = clock.monotonic() + (_DIAL_S if paths.SNAPSHOTTER_UNIT in view.before.restarted else 0.0)
    while True:
        key = f"proof-{secrets.token_hex(8)}"
        try:
            view.ports.containerd.prepare_and_remove(
                paths.PROXY_PLUGIN, paths.PROBE_NAMESPACE, key, deadline_s=2 * CALL_S
            )
        except ContainerdUnavailableError:
            if clock.monotonic() >= end:
                raise
        else:
            return
        clock.sleep(_DIAL_STEP_S)
