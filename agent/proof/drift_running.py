"""Drift of what runs: programs on the disk and in memory, containerd's and nydusd's configuration in
force.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent import paths
from agent.config.model import Config
from agent.containerd.view import PROXY_PLUGIN, KeyPath
from agent.documents.drift import (
    APPLY_COMMAND,
    REPAIR_COMMAND,
    ExpectedProgram,
    Finding,
    Kind,
    Remedy,
)
from agent.errors import ContainerdError
from agent.facts.node import Binary, PluginFact, Version
from agent.node import installed
from agent.outside_json import json_value
from agent.plan.diff import registered
from agent.plan.repair import FileDrift, Recorded, keys_after, parsed
from agent.ports import Ports
from agent.programs import versions
from agent.programs.versions import package_of
from agent.proof import checks_nydusd
from agent.proof.checks_runtime import image_file_system
from agent.records.generations import Generation

_CALL_S = 5.0
_RUN_S = 20.0
_PACKAGE = "nydus-node-agent"
_NOT_INSTALLED = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/")
"""What dpkg's path-exclude leaves out on small systems."""
_ANEW = (
    "start their containers anew when it suits: a mount keeps the nydusd and the configuration it was "
    "made with"
)


def program(ports: Ports, known: ExpectedProgram) -> Iterator[Finding]:
    """A program on the disk that is not the one of the last change any more. Raises FileError."""
    stamp = ports.files.stamp(known.path)
    digest = known.sha256 if stamp == known.stamp else ports.files.sha256(known.path)
    if stamp is None or digest is None:
        yield _gone(known)
    elif digest != known.sha256:
        yield _replaced_since(ports, known)


def _gone(program: ExpectedProgram) -> Finding:
    applied = f"applied was {program.name} {program.version}"
    package = package_of(program.path)
    if not package:
        what = f"{program.path} is gone; {applied}"
        return Finding(Kind.PROGRAM_REPLACED, program.path, what, Remedy.HAND, f"ls -l {program.path}")
    what = f"{program.path} is gone: {package} was removed; {applied}; what runs goes on, new mounts fail"
    return Finding(Kind.PROGRAM_REPLACED, program.path, what, Remedy.APPLY, APPLY_COMMAND)


def _replaced_since(ports: Ports, program: ExpectedProgram) -> Finding:
    named = "containerd-nydus-grpc" if program.name == "snapshotter" else program.name
    found = installed.find(ports, named, program.path)
    now = versions.shown_version(found) if isinstance(found, Binary) else "of unknown version"
    what = f"{program.path} was replaced: {program.name} is {now} now, applied was {program.version}"
    return Finding(Kind.PROGRAM_REPLACED, program.path, what, Remedy.APPLY, APPLY_COMMAND)


def unit_outdated(ports: Ports, unit: str) -> Iterator[Finding]:
    """A service that runs another program than lies on the disk now.

    Raises SystemdError, ProcessError, FileError.
    """
    fact = ports.units.get(unit)
    old = _replaced(ports, fact.main_pid) if fact is not None and fact.main_pid else ""
    if old:
        what = f"{unit} still runs the {old} that was replaced or removed since"
        yield Finding(Kind.PROGRAM_OUTDATED, unit, what, Remedy.HAND, f"sudo systemctl restart {unit}")


def nydusd_outdated(config: Config, ports: Ports) -> Iterator[Finding]:
    """nydusd that run another program than lies on the disk now. They end with their containers, so they are
    told apart: nobody may restart them. Raises NydusdError, ProcessError, FileError.
    """
    daemons = [
        f"nydusd {info.id or info.socket}, process {info.pid}"
        for info in checks_nydusd.answering(ports, config.snapshotter.root)
        if info.pid and _replaced(ports, info.pid)
    ]
    if daemons:
        what = f"{len(daemons)} nydusd still run a program that was replaced or removed since"
        yield Finding(Kind.PROGRAM_OUTDATED, "nydusd", what, Remedy.HAND, _ANEW, tuple(daemons[:10]))


def _replaced(ports: Ports, pid: int) -> str:
    """The program of a process where another one, or none, lies in its place; else "", also where the process
    has just ended. The same bytes laid there anew are no other program. Raises ProcessError, FileError.
    """
    runs = ports.processes.program(pid)
    if runs is None or not runs.replaced:
        return ""
    digest = ports.processes.program_sha256(pid)
    return runs.path if digest is not None and digest != ports.files.sha256(runs.path) else ""


def containerd(
    config: Config, ports: Ports, records: Sequence[Recorded], differences: Sequence[FileDrift]
) -> Iterator[Finding]:
    """Whether the running containerd has what was applied. Where a file does not say so any more, that is
    told of the file.
    """
    differ = {finding.subject for one in differences for finding in one.findings}
    held = not any(_keys(record) for record in records if record.path in differ)
    problem = running_problem(ports, applied_keys(records)) if held else ""
    if problem:
        what = f"containerd runs on another configuration than its file holds: {problem}"
        yield Finding(Kind.CONTAINERD_OUTDATED, config.containerd.unit, what, Remedy.REPAIR, REPAIR_COMMAND)


def running_problem(ports: Ports, wanted: Mapping[KeyPath, object]) -> str:
    """What the running containerd has other than these keys say; "" = nothing, or it does not answer (check
    4).
    """
    try:
        server = ports.containerd.server(deadline_s=_CALL_S)
    except ContainerdError:
        return ""
    return _plugin_problem(server.plugins, wanted) or _cri_problem(ports, wanted, server.version)


def applied_keys(records: Sequence[Recorded]) -> Mapping[KeyPath, object]:
    """Keys of containerd's configuration that were applied, in whichever files."""
    return {key: value for record in records for key, value in _keys(record).items()}


def _keys(record: Recorded) -> Mapping[KeyPath, object]:
    if record.content is None or not record.path.endswith(".toml"):
        return {}
    keys = keys_after({}, {}, parsed(record.content)) if record.whole else record.keys
    return {key: value for key, value in keys.items() if key[0] in ("plugins", PROXY_PLUGIN[0])}


def _plugin_problem(plugins: Sequence[PluginFact], wanted: Mapping[KeyPath, object]) -> str:
    address = wanted.get((*PROXY_PLUGIN, "address"))
    if address is None:
        return ""
    found = registered(plugins)
    if found is None:
        return "the snapshotter is not registered"
    exports = dict(found.exports)
    if exports.get("address") != address:
        return (
            f"the snapshotter's address is {exports.get('address') or 'not known'}, the file says {address}"
        )
    root = wanted.get((*PROXY_PLUGIN, "exports", "root"))
    # containerd before 1.6.32 and 1.7.16 shows no exports of a proxy plugin but the address.
    if root is not None and exports.get("root", root) != root:
        return f"the snapshotter's root is {exports['root']}, the file says {root}"
    return ""


def _cri_problem(ports: Ports, wanted: Mapping[KeyPath, object], version: Version) -> str:
    default = any(key[-1] == "snapshotter" and not any("runtime" in part for part in key) for key in wanted)
    root = wanted.get((*PROXY_PLUGIN, "exports", "root"))
    try:
        points = ports.containerd.image_fs_info(deadline_s=_CALL_S).mountpoints
        in_force = ports.containerd.cri_status(deadline_s=_CALL_S).get("config", "")
    except ContainerdError:
        return ""  # no CRI in this containerd, or check 6 tells of it
    if default and root is not None and points and not image_file_system(points, str(root), version):
        return f"CRI's image file system is {points[0]}, applied was {root}"
    path = next(
        (value for key, value in wanted.items() if key[-1] == "config_path" and "registry" in key), None
    )
    has = _config_path(in_force)
    if path is not None and has is not None and has != path:
        return f"CRI reads hosts.toml files in {has or 'no directory'}, applied was {path}"
    return ""


def _config_path(text: str) -> str | None:
    """registry.config_path as CRI's Status has it; None where it does not tell."""
    try:
        config: Any = json_value(text)
        value = config["registry"]["configPath"]
    except (ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None


def nydusds(config: Config, ports: Ports, last: Generation, records: Sequence[Recorded]) -> Iterator[Finding]:
    """Mounts that do not have what the applied template says; each keeps what it was made with."""
    template = next((one.content for one in records if one.path == paths.NYDUSD_TEMPLATE), None)
    if last.effective is None or template is None:
        return
    wrong = checks_nydusd.differing(ports, config.snapshotter.root, template, last.effective.dialect)
    if wrong:
        what = f"{len(wrong)} mounts of running nydusd have another configuration than was applied"
        yield Finding(Kind.NYDUSD_DIFFERS, "nydusd", what, Remedy.HAND, _ANEW, tuple(wrong[:5]))


def package(ports: Ports) -> Iterator[Finding]:
    """Files of our own package that are not as dpkg has installed them; conffiles are the operator's.

    Raises ProcessError.
    """
    if ports.processes.which("dpkg") is None:
        return  # not installed by dpkg
    told = ports.processes.run(["dpkg", "--verify", _PACKAGE], deadline_s=_RUN_S, ok=(0, 1)).stdout
    for line in told.splitlines():
        path = line[line.find("/") :] if "/" in line else ""
        missing = line.startswith("missing")
        if not path or " c /" in line or (missing and path.startswith(_NOT_INSTALLED)):
            continue
        what = f"{path} of our package was {'removed' if missing else 'edited'}"
        yield Finding(
            Kind.PACKAGE_EDITED, path, what, Remedy.HAND, f"sudo apt install --reinstall {_PACKAGE}"
        )
