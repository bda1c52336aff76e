"""Check 8: what each running nydusd really has, against what the template says.

nydusd ignores keys that it does not know, the snapshotter drops keys that its struct does not have, and a
mount keeps the configuration that it was made with: only the daemon itself knows what is in force (GET
/api/v1/daemon, whose answer is in nydusd's second schema with credentials blanked).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from agent import paths
from agent.config.model import Config, Dialect
from agent.console import counted
from agent.documents.applied import CheckResult
from agent.errors import FileError, HttpError, NydusdError
from agent.facts.node import Effective
from agent.outside_json import json_value, mapping
from agent.ports import NydusdInfo, Ports
from agent.proof import checks_read
from agent.proof.checks_runtime import CALL_S, ProofView
from agent.proof.proofs import failed, failed_by, not_proved, ok, unknown

# dragonflyoss/nydus, rafs/src/metadata/layout/v6.rs: the superblock of EROFS at 1024, its magic first; the
# extended one behind its 128 bytes, flags first. rafs/src/metadata/mod.rs: RafsSuperFlags.
_SUPERBLOCK_AT, _EXTENDED_AT = 1024, 1024 + 128
_MAGIC = 0xE0F5E1E2
_COMPRESSION_NONE = 0x1
_HEAD = _EXTENDED_AT + 8

Loose = Mapping[str, Any]
_NAME = "running nydusd"
_NUMBER = 8


def running(view: ProofView, effective: Effective) -> CheckResult:
    """Each running nydusd reads through the mirror as the template says."""
    try:
        sockets = view.ports.nydusd.sockets(view.config.snapshotter.root)
        wanted = _template(view)
    except (NydusdError, FileError) as error:
        return unknown(_NUMBER, _NAME, "NNA0721", error)
    if wanted is None:
        return failed(
            _NUMBER, _NAME, "NNA0741", f"{paths.NYDUSD_TEMPLATE} is not there or is no JSON",
            cause="new mounts will fail", try_="nydus-agent apply",
        )  # fmt: skip
    if not sockets:
        return not_proved(_NUMBER, _NAME, "no nydus image is in use on this node")
    mounts = 0
    wrong: list[str] = []
    for socket in sockets:
        try:
            info = view.ports.nydusd.info(socket, deadline_s=CALL_S)
        except NydusdError as error:
            return failed_by(
                _NUMBER, _NAME, "NNA0741", error, f"journalctl -u {paths.SNAPSHOTTER_UNIT} -n 50"
            )
        mounts += len(info.backends)
        wrong += _differences(info, wanted, effective.dialect)
    if wrong:
        return failed(
            _NUMBER, _NAME, "NNA0741", f"{len(wrong)} of {mounts} mounts differ from the template",
            cause=wrong[0],
            evidence=tuple(wrong[1:5]),
            try_="start the containers of these images anew: a mount keeps the configuration that it was "
                 "made with",
        )  # fmt: skip
    have = "has" if mounts == 1 else "have"
    told = f"{counted(mounts, 'mount')} of {counted(len(sockets), 'daemon')} {have} what the template says"
    return ok(_NUMBER, _NAME, told + uncompressed_warning(uncompressed_images(view)))


def registries(config: Config, ports: Ports) -> tuple[str, ...]:
    """Hosts that running nydusd read from; what does not answer is left out."""
    found: list[str] = []
    try:
        for socket in ports.nydusd.sockets(config.snapshotter.root):
            info = ports.nydusd.info(socket, deadline_s=CALL_S)
            found += [str(backend_of(backend).get("host", "")) for _, backend in info.backends]
    except NydusdError:
        pass
    return tuple(dict.fromkeys(host for host in found if host))


def differing(ports: Ports, root: str, template: bytes, dialect: Dialect) -> list[str]:
    """Mounts of running nydusd that have something else than a template says, in words; nydusd that do not
    answer are left out. Raises NydusdError where nobody can tell which run.
    """
    wanted = _backend_config(template)
    found: list[str] = []
    for socket in ports.nydusd.sockets(root) if wanted is not None else ():
        try:
            found += _differences(ports.nydusd.info(socket, deadline_s=CALL_S), wanted or {}, dialect)
        except NydusdError:
            continue
    return found


def _template(view: ProofView) -> Loose | None:
    fact = view.ports.files.read(paths.NYDUSD_TEMPLATE)
    return _backend_config(fact.content) if fact is not None else None


def _backend_config(template: bytes) -> Loose | None:
    try:
        config = json_value(template)["device"]["backend"]["config"]
    except (ValueError, KeyError, TypeError):
        return None
    return config if isinstance(config, dict) else None


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
    try:
        for mount in checks_read.mounts(view.ports, view.config.snapshotter.root):
            head = view.ports.files.head(mount.bootstrap, _HEAD)
            if head is not None and uncompressed(head):
                found.append(mount.image)
    except (HttpError, FileError, ValueError):
        pass
    return tuple(dict.fromkeys(found))


def uncompressed_warning(images: tuple[str, ...]) -> str:
    """For the end of a check's sentence; "" where there is nothing to warn of."""
    if not images:
        return ""
    named = ", ".join(images[:3]) + (f" and {len(images) - 3} more" if len(images) > 3 else "")
    return (
        f"; not compressed, so that wrong bytes from the mirror would reach its containers unnoticed: {named}"
    )
