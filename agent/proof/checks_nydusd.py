"""Check 8: what each running nydusd really has, against what the template says.

nydusd ignores keys that it does not know, the snapshotter drops keys that its struct does not have, and a
mount keeps the configuration that it was made with: only the daemon itself knows what is in force (GET
/api/v1/daemon, whose answer is in nydusd's second schema with credentials blanked).

And what else is known of images in use: where they are mounted, which are not compressed, whose credentials
expire.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent import paths
from agent.config.model import Config, Dialect
from agent.console import counted
from agent.documents.status import CheckResult
from agent.errors import FileError, HttpError, NydusdError
from agent.outside_json import json_object, json_value, mapping
from agent.plan import mounts
from agent.ports import NydusdInfo, Ports
from agent.programs import versions
from agent.programs.versions import TAKES_CREDENTIALS
from agent.proof.proofs import CALL_S, ProofView, failed, failed_by, not_proved, ok
from agent.registry.docker_config import source_of

_MOUNTS_CAP = 1 << 20
_BOOTSTRAPS = ("fs/image/image.boot", "fs/image.boot")
# dragonflyoss/nydus, rafs/src/metadata/layout/v6.rs: the superblock of EROFS at 1024, its magic first; the
# extended one behind its 128 bytes, flags first. rafs/src/metadata/mod.rs: RafsSuperFlags.
_SUPERBLOCK_AT, _EXTENDED_AT = 1024, 1024 + 128
_MAGIC = 0xE0F5E1E2
_COMPRESSION_NONE = 0x1
_HEAD = _EXTENDED_AT + 8

Loose = Mapping[str, Any]


def running(view: ProofView) -> CheckResult:
    """Each running nydusd reads through the mirror as the template says."""
    sockets = view.ports.nydusd.sockets(view.config.snapshotter.root)
    template = view.ports.files.read(paths.NYDUSD_TEMPLATE)
    wanted = _backend_config(template.content) if template is not None else None
    if wanted is None:
        return failed(
            "NNA0741", f"{paths.NYDUSD_TEMPLATE} is not there or is no JSON",
            cause="new mounts will fail", try_="nydus-agent apply",
        )  # fmt: skip
    if not sockets:
        return not_proved("no nydus image is in use on this node")
    count = 0
    wrong: list[str] = []
    for socket in sockets:
        try:
            info = view.ports.nydusd.info(socket, deadline_s=CALL_S)
        except NydusdError as error:
            return failed_by("NNA0741", error, f"journalctl -u {paths.SNAPSHOTTER_UNIT} -n 50")
        count += len(info.backends)
        wrong += _differences(info, wanted, view.effective.dialect)
    if wrong:
        return failed(
            "NNA0741", f"{len(wrong)} of {count} mounts differ from the template",
            cause=wrong[0],
            evidence=tuple(wrong[1:5]),
            try_="start the containers of these images anew: a mount keeps the configuration that it was "
                 "made with",
        )  # fmt: skip
    have = "has" if count == 1 else "have"
    told = f"{counted(count, 'mount')} of {counted(len(sockets), 'daemon')} {have} what the template says"
    return ok(told + uncompressed_warning(uncompressed_images(view)))


def registries(config: Config, ports: Ports) -> tuple[str, ...]:
    """Hosts that running nydusd read from; what does not answer is left out."""
    found: list[str] = []
    with contextlib.suppress(NydusdError):
        for info in answering(ports, config.snapshotter.root):
            found += [str(backend_of(backend).get("host", "")) for _, backend in info.backends]
    return tuple(dict.fromkeys(host for host in found if host))


def differing(ports: Ports, root: str, template: bytes, dialect: Dialect) -> list[str]:
    """Mounts of running nydusd that have something else than a template says, in words.

    Raises NydusdError.
    """
    wanted = _backend_config(template)
    if wanted is None:
        return []
    return [one for info in answering(ports, root) for one in _differences(info, wanted, dialect)]


def answering(ports: Ports, root: str) -> Iterator[NydusdInfo]:
    """The running nydusd; what does not answer is left out: check 8 tells of it. Raises NydusdError where
    nobody can tell which run.
    """
    for socket in ports.nydusd.sockets(root):
        with contextlib.suppress(NydusdError):
            yield ports.nydusd.info(socket, deadline_s=CALL_S)


def _backend_config(template: bytes) -> Loose | None:
    try:
        return backend_of(json_object(template)) or None
    except ValueError:
        return None


def _differences(info: NydusdInfo, wanted: Loose, dialect: Dialect) -> list[str]:
    name = info.id or info.socket
    return [
        f"{name} {mountpoint}: {difference}"
        for mountpoint, config in info.backends
        if (difference := difference_of(backend_of(config), wanted, dialect))
    ]


def backend_of(config: Loose) -> Loose:
    """The registry part of an effective configuration, in nydusd's second schema or (a JSON template) in its
    first.
    """
    backend = mapping(config.get("backend", mapping(config.get("device")).get("backend")))
    return mapping(backend.get("registry") or backend.get("config"))


def difference_of(has: Loose, wanted: Loose, dialect: Dialect) -> str:
    """The first thing that is other than wanted, in words; "" where nothing is."""
    if not has:
        return "it has no registry backend"
    if dialect is Dialect.MIRRORS:
        return _mirrors(has.get("mirrors") or (), wanted.get("mirrors") or ())
    proxy, template = mapping(has.get("proxy")), mapping(wanted.get("proxy"))
    if not proxy.get("url") and template.get("url"):
        return "it has no proxy: every byte comes from the origin"
    checked = {"url": "", "fallback": True, "ping_url": "", "use_http": False}
    for key, default in checked.items():
        is_, should = proxy.get(key, default), template.get(key, default)
        if is_ != should:
            return f"proxy.{key} is {_text(is_)}, the template says {_text(should)}"
    if has.get("retry_limit", 0) != wanted.get("retry_limit", 0):
        return f"retry_limit is {has.get('retry_limit', 0)}, the template says {wanted.get('retry_limit', 0)}"
    return ""


def _mirrors(has: Sequence[Loose], wanted: Sequence[Loose]) -> str:
    if len(has) != len(wanted):
        return (
            f"it has {len(has)} mirrors, the template says {len(wanted)} (this nydusd or snapshotter "
            f"drops them?)"
        )
    for one, other in zip(has, wanted, strict=True):
        for key in ("host", "ping_url", "headers", "failure_limit"):
            if key in other and one.get(key) != other[key]:
                return f"mirrors: {key} is {_text(one.get(key))}, the template says {_text(other[key])}"
    return ""


def _text(value: object) -> str:
    return json.dumps(value) if value != "" else "not set"


def uncompressed(head: bytes) -> bool | None:
    """Whether the first bytes of a bootstrap are those of an image without compression; None: it is no
    RAFS v6.
    """
    if len(head) < _HEAD or struct.unpack_from("<I", head, _SUPERBLOCK_AT)[0] != _MAGIC:
        return None
    flags: int = struct.unpack_from("<Q", head, _EXTENDED_AT)[0]
    return bool(flags & _COMPRESSION_NONE)


def uncompressed_images(view: ProofView) -> tuple[str, ...]:
    """Images in use that are not compressed, as HOST/REPOSITORY; what cannot be read is left out.

    RAFS v6 checks no digest when it reads, so only what does not decompress is found out. Zeros or another
    blob's bytes in an uncompressed chunk reach the container, with us as without us; all that can be done is
    to name such images. An image that was built with compression keeps single chunks uncompressed too, those
    that would not have shrunk: that is not in its superblock, and is not told.
    """
    found: list[str] = []
    with contextlib.suppress(HttpError, FileError, ValueError):
        for mount in read_mounts(view.ports, view.config.snapshotter.root):
            head = view.ports.files.head(mount.bootstrap, _HEAD)
            if head is not None and uncompressed(head):
                found.append(mount.image)
    return tuple(dict.fromkeys(found))


def uncompressed_warning(images: tuple[str, ...]) -> str:
    """For the end of a check's sentence; "" where there is nothing to warn of."""
    if not images:
        return ""
    named = ", ".join(images[:3]) + (f" and {len(images) - 3} more" if len(images) > 3 else "")
    return (
        f"; not compressed, so that wrong bytes from the mirror would reach its containers unnoticed: {named}"
    )


@dataclass(frozen=True, slots=True)
class Mount:
    """An image that is in use: its bootstrap, and the configuration that its nydusd has (with
    credentials).
    """

    bootstrap: str
    config: Mapping[str, Any]

    @property
    def registry(self) -> str:
        """The registry's host."""
        return str(backend_of(self.config).get("host", ""))

    @property
    def image(self) -> str:
        """The image's name without a tag."""
        return f"{self.registry}/{backend_of(self.config).get('repo', '')}"

    @property
    def private(self) -> bool:
        """Whether its nydusd was given a credential."""
        backend = backend_of(self.config)
        return bool(backend.get("auth") or backend.get("registry_token"))

    @property
    def names_mirror(self) -> bool:
        """Whether it reads through the mirror."""
        backend = backend_of(self.config)
        return bool(mapping(backend.get("proxy")).get("url") or backend.get("mirrors"))


def read_mounts(ports: Ports, root: str) -> list[Mount]:
    """Images in use, from the snapshotter's system socket (containerd/nydus-snapshotter,
    pkg/system/system.go).

    Raises HttpError, FileError, ValueError.
    """
    answer = ports.http.get(
        "http://localhost/api/v1/daemons", deadline_s=CALL_S, unix_socket=paths.SNAPSHOTTER_SYSTEM_SOCKET,
        body_cap=_MOUNTS_CAP,
    )  # fmt: skip
    daemons = json_value(answer.body) if answer.status == 200 else []
    found = []
    for daemon in map(mapping, daemons if isinstance(daemons, list) else ()):
        for snapshot, instance in sorted(mapping(daemon.get("instances")).items()):
            named = mapping(instance).get("snapshot_dir")
            directory = (
                named if isinstance(named, str) and named else posixpath.join(root, "snapshots", snapshot)
            )
            bootstrap = _bootstrap(ports, directory)
            config = _config(ports, posixpath.join(root, "config", str(daemon.get("id"))), snapshot)
            if bootstrap and config is not None:
                found.append(Mount(bootstrap, config))
    return found


def _bootstrap(ports: Ports, snapshot_dir: str) -> str:
    for name in _BOOTSTRAPS:
        path = posixpath.join(snapshot_dir, name)
        if posixpath.basename(path) in ports.files.listdir(posixpath.dirname(path)):
            return path
    return ""


def _config(ports: Ports, directory: str, snapshot: str) -> Mapping[str, Any] | None:
    """The configuration that the snapshotter wrote for this mount: a shared daemon has one per snapshot."""
    for path in (
        posixpath.join(directory, snapshot, "config.json"),
        posixpath.join(directory, "config.json"),
    ):
        fact = ports.files.read(path)
        parsed = json_value(fact.content) if fact is not None else None
        if isinstance(parsed, dict):
            return parsed
    return None


def unrenewed_images(view: ProofView) -> tuple[str, ...]:
    """Images in use whose credential expires and is not renewed, each with what gives it, and the reason.

    No check fails by it: nothing is wrong yet. What a nydusd can do is decided by its own version, not by
    that of the program that lies on the node now. Nothing raises; what does not answer is left out (check 8
    says so).
    """
    if not (view.facts.credentials.expiring and view.config.registries.renew_s):
        return ()
    missing = ""
    if not mounts.renews(view.facts):
        obstacles = ", ".join(mounts.renewal_obstacles(view.facts))
        missing = obstacles or "the snapshotter is not told to: nydus-agent apply"
    found: list[str] = []
    public = _public(view)
    with contextlib.suppress(NydusdError):
        for info in answering(view.ports, view.config.snapshotter.root):
            found += (f"{image} {why}" for image, why in _images(view, info, missing) if image not in public)
    return tuple(dict.fromkeys(found))


def _public(view: ProofView) -> frozenset[str]:
    """Images of which no nydusd was given a credential: everyone may read them, whatever gives those of all
    registries. One that got a credential in a second mount, after a login, is not among them.
    """
    try:
        found = read_mounts(view.ports, view.config.snapshotter.root)
    except (HttpError, FileError, ValueError):
        return frozenset()  # check 10 says why
    private = {mount.image for mount in found if mount.private}
    return frozenset(mount.image for mount in found) - private


def _images(view: ProofView, info: NydusdInfo, missing: str) -> Iterator[tuple[str, str]]:
    why = missing or mounts.too_old(
        "its nydusd", versions.parsed(info.version), info.version, TAKES_CREDENTIALS
    )
    for _, config in info.backends if why else ():
        backend = backend_of(config)
        host = str(backend.get("host", ""))
        source = source_of(view.facts.credentials.expiring, host)
        if source:
            yield f"{host}/{backend.get('repo', '')}", f"({source}): {why}"
