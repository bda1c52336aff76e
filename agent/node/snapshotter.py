"""The nydus snapshotter that is on the node: where it keeps its data, whether containerd refers to that, and
its unit's drop-ins.

containerd's database names snapshots by numbers that mean something below that root only: under another one
each image that was unpacked before fails with "missing parent … bucket: not found".
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import tomllib
from collections.abc import Iterator, Sequence

from agent import paths
from agent.dragonfly.command_line import option_of
from agent.errors import ContainerdError, FileError, PortError
from agent.facts.node import FileFact, RunningContainerd, SnapshotterRoot, UnitFact, Unknown
from agent.ports import Containerd, Files, Ports

_DAEMONS = "nydus.db"
"""The snapshotter holds this one open as long as it runs (nydus-snapshotter, pkg/store/database.go)."""
_SNAPSHOTS = "metadata.db"
"""What containerd refers to; made with the first snapshot."""
DEFAULTS = ("/var/lib/containerd-nydus", "/var/lib/containerd/io.containerd.snapshotter.v1.nydus")
"""Upstream's: before 0.13.14, and since."""
_CALL_S = 5.0
_SEARCH_OK = (0, 1)  # 1: a descriptor was closed meanwhile


def find_root(
    ports: Ports, wanted: str, unit: UnitFact | None | Unknown, containerd: RunningContainerd | None | Unknown
) -> SnapshotterRoot:
    """The root that is there, where it is another one than `wanted`. containerd is asked only then."""
    path, evidence = _found(ports, wanted, unit, containerd)
    if not path or path == wanted or _same(ports.files, path, wanted):
        return SnapshotterRoot()
    return SnapshotterRoot(path, evidence, _images(ports.containerd))


def _found(
    ports: Ports, wanted: str, unit: UnitFact | None | Unknown, containerd: RunningContainerd | None | Unknown
) -> tuple[str, str]:
    """(root, what says so), the surest first; a root without data is none."""
    if isinstance(unit, UnitFact):
        running = _open_database(ports, unit.main_pid)
        if running:
            return running, f"process {unit.main_pid} of {unit.name}"
        named = _named(ports.files, unit.command)
        if _has_data(ports.files, named[0]):
            return named
    if _has_data(ports.files, wanted):
        return wanted, ""
    for path, evidence in _others(containerd):
        if _has_data(ports.files, path):
            return path, evidence
    return "", ""


def find_holder(ports: Ports) -> str:
    """The service, or the process, that listens on the snapshotter's socket and is not our unit's; "" for
    none. A service is named only where the process is its main one: one that was started by hand lies in the
    cgroup of ssh, of cron or of a runtime.
    """
    try:
        pid = ports.snapshotter.holder(paths.SNAPSHOTTER_SOCKET, deadline_s=_CALL_S)
        fact = ports.files.read(f"/proc/{pid}/cgroup") if pid else None
    except PortError:
        return ""
    if fact is None:
        return ""
    cgroups = fact.content.decode(errors="replace")
    if paths.SNAPSHOTTER_UNIT in re.split("[/\n]", cgroups):
        return ""
    for name in re.findall(r"/([^/\n]+\.service)$", cgroups, re.MULTILINE):
        with contextlib.suppress(PortError):
            unit = ports.units.get(name)
            if unit is not None and unit.main_pid == pid and name not in paths.RUNTIME_UNITS:
                return str(name)
    return f"process {pid}"


def _open_database(ports: Ports, pid: int) -> str:
    """Where the database is that a process holds open; "" where that cannot be told."""
    if pid <= 0:
        return ""
    argv = ["find", f"/proc/{pid}/fd", "-lname", f"/*/{_DAEMONS}", "-printf", "%l\\n"]
    try:
        lines = set(ports.processes.run(argv, deadline_s=_CALL_S, ok=_SEARCH_OK).stdout.splitlines())
    except PortError:
        return ""
    return posixpath.dirname(lines.pop()) if len(lines) == 1 else ""


def _named(files: Files, command: Sequence[str]) -> tuple[str, str]:
    """The root that a command line names, or the configuration that it names."""
    root, config = (_absolute(option_of(command, f"--{name}", f"-{name}")) for name in ("root", "config"))
    if root or not config:
        return root, "ExecStart= --root"
    try:
        fact = files.read(config)
        told = tomllib.loads(fact.content.decode()).get("root", "") if isinstance(fact, FileFact) else ""
    except (PortError, ValueError):
        return "", ""
    return _absolute(told), f"{config}: root"


def _absolute(path: object) -> str:
    return posixpath.normpath(path) if isinstance(path, str) and path.startswith("/") else ""


def _others(containerd: RunningContainerd | None | Unknown) -> Iterator[tuple[str, str]]:
    """Where it may have been: what the running containerd was told, and what upstream's programs take by
    themselves.
    """
    for plugin in containerd.plugins if isinstance(containerd, RunningContainerd) else ():
        if plugin.id == paths.PROXY_PLUGIN and (root := dict(plugin.exports).get("root", "")):
            yield root, f"containerd: proxy_plugins.{plugin.id}.exports.root"
    yield from ((path, f"{path}/{_SNAPSHOTS} is there") for path in DEFAULTS)


def _has_data(files: Files, root: str) -> bool:
    try:
        return bool(root) and _SNAPSHOTS in files.listdir(root)
    except PortError:
        return False


def _same(files: Files, path: str, wanted: str) -> bool:
    """Whether both names lead to one directory: the kernel tells a process's files by what a link leads
    to.
    """
    try:
        for name in (_DAEMONS, _SNAPSHOTS):
            stamp = files.stamp(f"{path}/{name}")
            if stamp is not None:
                return stamp == files.stamp(f"{wanted}/{name}")
    except PortError:
        return False
    return False


def _images(containerd: Containerd) -> int | Unknown:
    """In all namespaces.

    Labels tell, and the list where the snapshotter answers: a container's image may be gone.
    """
    try:
        namespaces = containerd.namespaces(deadline_s=_CALL_S)
        by_label = sum(
            len(containerd.unpacked(paths.PROXY_PLUGIN, one, deadline_s=_CALL_S)) for one in namespaces
        )
        return by_label or sum(_listed(containerd, one) for one in namespaces)
    except ContainerdError as error:
        return Unknown(f"{error.what}: {error.cause}")


def _listed(containerd: Containerd, namespace: str) -> int:
    try:
        return len(containerd.snapshot_keys(paths.PROXY_PLUGIN, namespace, deadline_s=_CALL_S))
    except ContainerdError:
        return 0  # it is no snapshotter of this containerd, or does not answer: then only the labels tell


_DIRECTORIES = (
    "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient",
    "/etc/systemd/system",
    "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
)  # fmt: skip
"""From the one that counts most (systemd.unit(5), "System Unit Search Path")."""
_NO_FILE = "NNA0421"
"""It is no regular file."""


def read_drop_ins(
    unit: UnitFact | None | Unknown, files: Files, *, own: bool = False
) -> tuple[FileFact, ...] | Unknown:
    """In the order in which systemd reads them; before them the unit's `own` file."""
    if not isinstance(unit, UnitFact):
        return ()
    try:
        wanted = tuple(_on_disk(unit.name, files)) if unit.needs_reload else unit.drop_in_paths
        if own:
            places = _DIRECTORIES if unit.needs_reload else ()
            there = filter(files.stamp, (posixpath.join(place, unit.name) for place in places))
            fragment = next(there, unit.fragment_path)
            wanted = (fragment, *wanted) if fragment else wanted
        found = [_read(files, path) for path in wanted]
    except PortError as error:
        return Unknown(f"{error.what}: {error.cause}")
    return tuple(one for one in found if one is not None)


def _read(files: Files, path: str) -> FileFact | None:
    """None where it is masked (a link to /dev/null) or leads to nothing: systemd reads nothing of it, nor of
    another one with its name.
    """
    try:
        return files.read(path)
    except FileError as error:
        if error.code == _NO_FILE:
            return None
        raise


def _on_disk(name: str, files: Files) -> Iterator[str]:
    """By their names, whatever directory they lie in; of one name the first counts, and an empty one hides
    the rest.
    """
    found: dict[str, str] = {}
    for above in _names(name):
        for directory in _DIRECTORIES:
            place = posixpath.join(directory, f"{above}.d")
            for one in files.listdir(place):
                if one.endswith(".conf"):
                    found.setdefault(one, posixpath.join(place, one))
    return (found[one] for one in sorted(found))


def _names(name: str) -> Iterator[str]:
    """The unit's own name, then what it shares with others: a-b.service has a-.service.d and service.d
    too.
    """
    stem, _, kind = name.rpartition(".")
    yield name
    while "-" in stem.rstrip("-"):
        stem = stem.rstrip("-").rpartition("-")[0] + "-"
        yield f"{stem}.{kind}"
    yield kind
