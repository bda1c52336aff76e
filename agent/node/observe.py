"""Look at the node once and freeze what was seen. A port that fails yields Unknown, never a default.

No registry of others is asked through the mirror: only those that the operator named, and a listener of ours
on the loopback that stands for all others.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from agent import paths
from agent.config.model import Config, RegistryHost, Scheme
from agent.containerd import dropin
from agent.containerd import files as containerd_files
from agent.containerd.render import view_of
from agent.containerd.wishes import certs_directory
from agent.errors import FileError, HttpError, PortError
from agent.facts.node import (
    ANY_HOST,
    METRICS_PORTS,
    Binary,
    CertificateCheck,
    CredentialsFact,
    Facts,
    FenceAbility,
    FileFact,
    RunningContainerd,
    TlsCanary,
    Unknown,
    Version,
)
from agent.node import images, installed, snapshotter
from agent.ports import Files, HttpAnswer, Ports, TlsSight
from agent.programs.versions import architecture
from agent.registry import docker_config
from agent.registry.names import docker_places

_RUN_S = 5.0
_ASK_S = 5.0
_FENCE_S = 10.0

CANARY_PATH = "/v2/nydus-agent/canary/blobs/sha256:" + "c" * 64
"""Matches the rule that Dragonfly's page on Nydus gives (`blobs/sha256.*`), and no blob that could exist."""

_MIRROR_S = 3.0
_TOO_MANY = 429
_SERVER_ERROR = 500
_PLAIN_TO_TLS = (b"http request to an https server", b"plain http request was sent to https")  # Go's, nginx's
_FROM_REGISTRY = "docker-distribution-api-version"

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
    containerd = installed.find(ports, "containerd", config.containerd.program)
    files = _files(config, ports, containerd, extra_paths)
    snapshotter_unit = _known(lambda: ports.units.get(paths.SNAPSHOTTER_UNIT))
    containerd_unit = _known(lambda: ports.units.get(config.containerd.unit))
    running = _known(lambda: ports.containerd.server(deadline_s=_ASK_S))
    return Facts(
        arch=architecture(ports.machine),
        systemd_running=_known(ports.units.running) is True,
        nydusd=nydusd,
        nydus_image=nydus.binaries["nydus-image"],
        snapshotter=nydus.binaries["containerd-nydus-grpc"],
        containerd=containerd,
        running_containerd=running,
        containerd_unit=containerd_unit,
        snapshotter_unit=snapshotter_unit,
        fence=_fence(ports) if probe_fence else Unknown("not asked for"),
        tls_canaries=_canaries(config, ports) if probe_mirror else (),
        files=files,
        dpkg_conffiles=_conffiles(ports, files),
        certificates=_certificates(config, ports) if probe_mirror else (),
        mirror_reads_ns=_reads_ns(config, ports) if probe_mirror else Unknown("not asked for"),
        nydusd_reads_mirrors=installed.reads_mirrors(ports, nydusd),
        listening=_known(lambda: tuple(filter(ports.tables.listening, METRICS_PORTS))),
        images=_known(lambda: images.read_images(ports.containerd, paths.PROXY_PLUGIN))
        if look_at_images
        else (),
        programs=nydus.chosen,
        missing=nydus.missing,
        credentials=_credentials(config.registries.credentials, ports.files),
        snapshotter_root=snapshotter.find_root(ports, config.snapshotter.root, snapshotter_unit, running),
        snapshotter_drop_ins=snapshotter.read_drop_ins(snapshotter_unit, ports.files),
        containerd_unit_files=snapshotter.read_drop_ins(containerd_unit, ports.files, own=True),
        containerd_words=_words(ports, running),
        snapshotter_holder=snapshotter.find_holder(ports),
    )


def _known(ask: Callable[[], T]) -> T | Unknown:
    try:
        return ask()
    except PortError as error:
        return Unknown(str(error))


def _words(ports: Ports, running: RunningContainerd | None | Unknown) -> tuple[str, ...]:
    if not isinstance(running, RunningContainerd):
        return ()
    seen = _file(ports, f"/proc/{running.pid}/cmdline")
    text = seen.content.decode(errors="replace") if isinstance(seen, FileFact) else ""
    return tuple(text.rstrip("\0").split("\0")) if text else ()


def _fence(ports: Ports) -> FenceAbility | Unknown:
    try:
        reason = ports.fence.available()
        if reason:
            return FenceAbility(usable=False, reason=reason)
        return ports.fence.self_test(deadline_s=_FENCE_S)
    except PortError as error:
        return FenceAbility(usable=False, reason=str(error))


def _reads_ns(config: Config, ports: Ports) -> bool | Unknown:
    """Whether the mirror takes the registry from `?ns=`: it then comes to a listener of ours that ns names.

    Only the file for all other registries needs the answer.
    """
    if "*" not in config.registries.include:
        return Unknown("not needed")
    answered = []

    def fetch(address: str) -> None:
        url = f"{config.mirror.url}{CANARY_PATH}?ns={address}"
        answered.append(ports.http.get(url, deadline_s=_MIRROR_S).status)

    try:
        sight = ports.tls.sight(fetch, user=config.mirror.user, deadline_s=_MIRROR_S)
    except PortError as error:
        return Unknown(str(error))
    if sight is not TlsSight.NOBODY:
        return True
    if answered and answered[0] < _SERVER_ERROR and answered[0] != _TOO_MANY:
        return False  # some registry answered, and it was not the one that ns names
    # A mirror that is not on this node reads ns and finds nobody on its own loopback.
    return Unknown("the mirror gave no answer that tells" if answered else "the mirror did not answer")


def _files(
    config: Config, ports: Ports, containerd: Binary | None | Unknown, extra_paths: Iterable[str]
) -> tuple[Seen, ...]:
    """Every file that a plan may touch, each once, and those that containerd imports."""
    version = containerd_files.version_of(containerd)
    loaded = _loaded(config, ports, version)
    certs = _certs(config, version, loaded)
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


def _loaded(config: Config, ports: Ports, version: Version | Unknown) -> dict[str, Seen]:
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
        root, read, lambda pattern: containerd_files.expand(pattern, listdir), version
    )
    drop_in, _line = dropin.place(root, loaded)
    if drop_in not in found:
        read(drop_in)
    return found


def _certs(config: Config, version: Version | Unknown, loaded: Mapping[str, Seen]) -> str:
    contents = {path: seen.content for path, seen in loaded.items() if isinstance(seen, FileFact)}
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


def _certificates(config: Config, ports: Ports) -> tuple[CertificateCheck, ...]:
    """Each https registry's own certificate against its configured CA."""
    secure = (registry for registry in config.registries.hosts if registry.scheme is Scheme.HTTPS)
    return tuple(_certificate(registry, ports) for registry in secure)


def _certificate(registry: RegistryHost, ports: Ports) -> CertificateCheck:
    try:
        problem = ports.tls.verify(registry.host, registry.ca, deadline_s=_MIRROR_S)
    except HttpError as error:
        return CertificateCheck(registry.host, Unknown(str(error)), error.cause or error.what)
    except PortError as error:  # the CA cannot be used: whatever the registry shows, nothing verifies it
        return CertificateCheck(registry.host, ok=False, evidence=str(error))
    against = registry.ca or "the system's store"
    return CertificateCheck(registry.host, not problem, problem or f"verifies against {against}")


def _canaries(config: Config, ports: Ports) -> tuple[TlsCanary, ...]:
    """One canary per configured registry, and where one speaks https, one for all others."""
    found = [_canary(config, registry, ports) for registry in config.registries.hosts]
    if any(registry.scheme is Scheme.HTTPS for registry in config.registries.hosts):
        found.append(_any_host(config, ports))
    return tuple(found)


def _canary(config: Config, registry: RegistryHost, ports: Ports) -> TlsCanary:
    url = f"http://{registry.host}{CANARY_PATH}"
    try:
        answer = ports.http.get(url, deadline_s=_MIRROR_S, proxy=config.mirror.url)
    except PortError as error:
        return TlsCanary(registry.host, Unknown(str(error)), error.cause or error.what)
    ok, evidence = judged(answer)
    return TlsCanary(registry.host, ok, evidence)


def judged(answer: HttpAnswer) -> tuple[bool | Unknown, str]:
    """What the answer to a canary says: True = the registry itself answered, Unknown = nobody could be asked
    just now.

    Everything else is False: a real read would meet the same, and nydusd takes such a status for final. The
    origin's own 400 is what Dragonfly hands on where plain http met a TLS port, without the text that says
    so.
    """
    kind = answer.headers.get("x-dragonfly-error-type", "")
    evidence = f"status {answer.status}{f', error of {kind}' if kind else ''}"
    if answer.status == _TOO_MANY or answer.status >= _SERVER_ERROR:
        return Unknown(f"no answer that tells: {evidence}"), evidence
    if answer.status == 400 and (
        kind == "backend" or any(text in answer.body.lower() for text in _PLAIN_TO_TLS)
    ):
        return False, f"{evidence}: plain http was sent to a TLS port"
    origin = _FROM_REGISTRY in answer.headers or b'"errors"' in answer.body
    if answer.status in (401, 404) and origin:
        return True, f"{evidence} from the registry"
    return False, f"{evidence}: not the registry's answer"


def _any_host(config: Config, ports: Ports) -> TlsCanary:
    def fetch(address: str) -> None:
        ports.http.get(f"http://{address}{CANARY_PATH}", deadline_s=_MIRROR_S, proxy=config.mirror.url)

    try:
        sight = ports.tls.sight(fetch, user=config.mirror.user, deadline_s=_MIRROR_S)
    except PortError as error:
        return TlsCanary(ANY_HOST, Unknown(str(error)), error.cause or error.what)
    match sight:
        case TlsSight.TLS:
            return TlsCanary(ANY_HOST, ok=True, evidence="a host that no rule can name was asked by TLS")
        case TlsSight.PLAIN:
            return TlsCanary(ANY_HOST, ok=False, evidence="a host that no rule names was asked in plain http")
        case TlsSight.NOBODY:
            return TlsCanary(
                ANY_HOST, Unknown("the mirror did not come"), "the mirror did not reach our loopback"
            )


def _credentials(file: str, files: Files) -> CredentialsFact:
    """Whether docker's configuration can be used, and what in it ends by itself; never a secret.

    `file`: what `registries.credentials` names, "" = root's own of docker. Only the file is read: no helper
    is run, because a plan must not wait for it, nor depend on what it says today.
    """
    places = docker_places(file, {}, uid=0, home="/root")
    for path in places.paths:
        try:
            fact = files.read(path)
        except FileError as error:
            return CredentialsFact(path, (f"{path}: cannot be read: {error.cause or error.what}",))
        if fact is not None:
            config, problems = docker_config.inspected(fact, (0,))
            try_ = problems[0].action if problems else ""
            some = bool(config.auths or config.helpers or config.store)
            return CredentialsFact(path, tuple(map(str, problems)), try_, some, docker_config.sources(config))
    missing = f"{' or '.join(places.paths)}: is not there, and {places.named} names it"
    return CredentialsFact("", (missing,) if places.named else ())
