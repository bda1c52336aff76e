"""Look at the node once and freeze what was seen. A port that fails yields Unknown, never a default."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from agent import paths
from agent.config.model import Config
from agent.containerd import dropin
from agent.containerd import files as containerd_files
from agent.containerd.render import view_of
from agent.containerd.wishes import certs_directory
from agent.errors import FileError, PortError
from agent.facts.node import Binary, Facts, FenceAbility, FileFact, UnitFact, Unknown
from agent.node import images, installed, registries, snapshotter_root
from agent.ports import Files, Ports
from agent.programs import versions
from agent.programs.versions import architecture

_RUN_S = 5.0
_ASK_S = 5.0
_FENCE_S = 10.0
_LISTEN = "0A"  # state of a listening socket in /proc/net/tcp (include/net/tcp_states.h)

T = TypeVar("T")
Seen = FileFact | tuple[str, None] | tuple[str, Unknown]


def observe(
    config: Config,
    ports: Ports,
    *,
    probe_fence: bool = True,
    probe_mirror: bool = True,
    look_at_images: bool = False,
    extra_paths: Sequence[str] = (),
) -> Facts:
    """One picture of the node.

    `probe_fence` runs the fence's self-test (it needs CAP_NET_ADMIN and makes a table of its own for a
    moment), `probe_mirror` sends canaries through the mirror to the configured registries. `look_at_images`
    reads the manifests of all images in containerd. `extra_paths` are files of an accepted generation.
    Nothing raises PortError: what fails is Unknown in the facts.
    """
    nydus = installed.read_installed(config, ports)
    nydusd = nydus.binaries["nydusd"]
    containerd = installed.find(ports, config.containerd.program, versions.containerd)
    files = _files(config, ports, containerd, extra_paths)
    snapshotter_unit = _known(lambda: ports.units.get(paths.SNAPSHOTTER_UNIT))
    running = _known(lambda: ports.containerd.server(deadline_s=_ASK_S))
    return Facts(
        arch=architecture(ports.machine),
        systemd_running=_known(ports.units.running) is True,
        nydusd=nydusd,
        nydus_image=nydus.binaries["nydus-image"],
        snapshotter=nydus.binaries["containerd-nydus-grpc"],
        containerd=containerd,
        running_containerd=running,
        containerd_unit=_known(lambda: ports.units.get(config.containerd.unit)),
        snapshotter_unit=snapshotter_unit,
        fence=_fence(ports) if probe_fence else Unknown("not asked for"),
        tls_canaries=registries.canaries(config, ports) if probe_mirror else (),
        files=files,
        dpkg_conffiles=_conffiles(ports, files),
        certificates=registries.certificates(config, ports) if probe_mirror else (),
        mirror_reads_ns=_reads_ns(config, ports) if probe_mirror else Unknown("not asked for"),
        nydusd_reads_mirrors=installed.reads_mirrors(ports, nydusd),
        listening=_listening(ports),
        images=_known(lambda: images.read_images(ports.containerd, paths.PROXY_PLUGIN))
        if look_at_images
        else (),
        programs=nydus.chosen,
        missing=nydus.missing,
        credentials=registries.credentials(config.registries.credentials, ports.files),
        snapshotter_root=snapshotter_root.find_root(
            ports, config.snapshotter.root, snapshotter_unit, running
        ),
        snapshotter_drop_ins=read_drop_ins(snapshotter_unit, ports.files),
    )


def _known(ask: Callable[[], T]) -> T | Unknown:
    try:
        return ask()
    except PortError as error:
        return Unknown(str(error))


def _fence(ports: Ports) -> FenceAbility | Unknown:
    try:
        reason = ports.fence.available()
        if reason:
            return FenceAbility(usable=False, reason=reason)
        return ports.fence.self_test(deadline_s=_FENCE_S)
    except PortError as error:
        return FenceAbility(usable=False, reason=str(error))


def _reads_ns(config: Config, ports: Ports) -> bool | Unknown:
    """Only the file for all other registries needs the answer."""
    if "*" not in config.registries.include:
        return Unknown("not needed")
    return registries.reads_ns(config, ports)


def _files(
    config: Config, ports: Ports, containerd: Binary | None | Unknown, extra_paths: Iterable[str]
) -> tuple[Seen, ...]:
    """Every file that a plan may touch, each once, and those that containerd imports."""
    loaded = _loaded(config, ports)
    certs = _certs(config, containerd, loaded)
    named = ["_default", "docker.io", *(registry.host for registry in config.registries.hosts)]
    named += [name for name in config.registries.include if name != "*"]
    with contextlib.suppress(PortError):  # each file below says by itself why it cannot be read
        named += ports.files.listdir(certs)
    wanted = [
        paths.NYDUSD_TEMPLATE,
        paths.SNAPSHOTTER_CONFIG,
        paths.SNAPSHOTTER_UNIT_FILE,
        paths.CA_BUNDLE,
        *(registry.ca for registry in config.registries.hosts if registry.ca),
        *(posixpath.join(certs, name, "hosts.toml") for name in named),
        *(posixpath.join(paths.REGISTRIES_D, name, "hosts.toml") for name in _own_registries(config, ports)),
        *extra_paths,
    ]
    return (*loaded.values(), *(_file(ports, path) for path in dict.fromkeys(wanted) if path not in loaded))


def _loaded(config: Config, ports: Ports) -> dict[str, Seen]:
    """containerd's root file and what it imports, and the place of our drop-in."""
    found: dict[str, Seen] = {}

    def read(path: str) -> bytes | None | Unknown:
        found[path] = seen = _file(ports, path)
        return seen.content if isinstance(seen, FileFact) else seen[1]

    def listdir(directory: str) -> Sequence[str]:
        with contextlib.suppress(PortError):  # as containerd does: what cannot be listed matches nothing
            return ports.files.listdir(directory)
        return ()

    root = config.containerd.config
    loaded, _stuck = containerd_files.load(
        root, read, lambda pattern: containerd_files.expand(pattern, listdir)
    )
    drop_in, _line = dropin.place(root, loaded)
    if drop_in not in found:
        read(drop_in)
    return found


def _certs(config: Config, containerd: Binary | None | Unknown, loaded: Mapping[str, Seen]) -> str:
    contents = {path: seen.content for path, seen in loaded.items() if isinstance(seen, FileFact)}
    version = containerd.version if isinstance(containerd, Binary) else Unknown("it was not found")
    view = view_of(config, containerd_files.Node(version, contents))
    return certs_directory(view) if view is not None else paths.CERTS_D


def _own_registries(config: Config, ports: Ports) -> tuple[str, ...]:
    try:
        present = ports.files.listdir(paths.REGISTRIES_D)
    except PortError:
        present = ()
    return (*(registry.host for registry in config.registries.hosts), *present)


def _file(ports: Ports, path: str) -> Seen:
    try:
        fact = ports.files.read(path)
    except PortError as error:
        return (path, Unknown(str(error)))
    return fact if fact is not None else (path, None)


def _conffiles(ports: Ports, files: Sequence[Seen]) -> tuple[tuple[str, str], ...]:
    """Which of the files dpkg would ask about at an upgrade.

    One question for all: dpkg reads its whole database.
    """
    present = [fact.path for fact in files if isinstance(fact, FileFact)]
    try:
        # 1: some of them belong to no package.
        asked = ports.processes.run(["dpkg-query", "-S", *present], deadline_s=_RUN_S, ok=(0, 1))
        owners = _owners(asked.stdout, present)
        if not owners:
            return ()
        form = "${Conffiles}\n"
        listed = ports.processes.run(
            ["dpkg-query", "-W", "-f", form, *set(owners.values())], deadline_s=_RUN_S
        )
    except PortError:
        return ()  # no dpkg here
    conffiles = {line.split()[0] for line in listed.stdout.splitlines() if line.split()}
    return tuple((path, package) for path, package in owners.items() if path in conffiles)


def _owners(text: str, present: Sequence[str]) -> dict[str, str]:
    """path -> package, from lines such as "containerd: /etc/containerd/config.toml"."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        packages, _, path = line.partition(": ")
        if path in present and not packages.startswith("diversion "):
            found[path] = packages.partition(",")[0].strip()
    return {path: found[path] for path in present if path in found}


def _listening(ports: Ports) -> tuple[int, ...] | Unknown:
    """Ports of listening TCP sockets, IPv4 and IPv6 (proc(5))."""
    found: set[int] = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            fact = ports.files.read(path)
        except PortError as error:
            return Unknown(str(error))
        if fact is None and not path.endswith("6"):  # without that one it is a kernel without IPv6
            return Unknown(f"{path} is not there")
        text = fact.content.decode(errors="replace") if fact is not None else ""
        for line in text.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[3] == _LISTEN:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return tuple(sorted(found))


_DIRECTORIES = (
    "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient",
    "/etc/systemd/system",
    "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
)  # fmt: skip
"""From the one that counts most (systemd.unit(5), "System Unit Search Path")."""
_NO_FILE = "NNA0421"
"""It is no regular file."""


def read_drop_ins(unit: UnitFact | None | Unknown, files: Files) -> tuple[FileFact, ...] | Unknown:
    """In the order in which systemd reads them."""
    if not isinstance(unit, UnitFact):
        return ()
    try:
        wanted = tuple(_on_disk(unit.name, files)) if unit.needs_reload else unit.drop_in_paths
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
    paths: dict[str, str] = {}
    for above in _names(name):
        for directory in _DIRECTORIES:
            place = posixpath.join(directory, f"{above}.d")
            for one in files.listdir(place):
                if one.endswith(".conf"):
                    paths.setdefault(one, posixpath.join(place, one))
    return (paths[one] for one in sorted(paths))


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
