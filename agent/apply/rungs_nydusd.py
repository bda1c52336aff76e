"""Rung 8: what each running nydusd really has, against what the template says.

nydusd ignores keys that it does not know, the snapshotter drops keys that its struct does not have, and a mount keeps
the configuration that it was made with: only the daemon itself knows what is in force (GET /api/v1/daemon, whose
answer is in nydusd's second schema with credentials blanked).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent import paths
from agent.apply import rafs
from agent.apply.climb import Rung, failed, failed_by, not_proved, ok, unknown
from agent.apply.rungs_runtime import CALL_S, View
from agent.config.model import Config, Dialect
from agent.console import counted
from agent.errors import FileError, NydusdError
from agent.node.facts import Effective
from agent.outside_json import json_value, mapping
from agent.ports import NydusdInfo, Ports

Loose = Mapping[str, Any]
_NAME = "running nydusd"
_NUMBER = 8


def running(view: View, effective: Effective) -> Rung:
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
            return failed_by(_NUMBER, _NAME, "NNA0742", error, f"journalctl -u {paths.SNAPSHOTTER_UNIT} -n 50")
        mounts += len(info.backends)
        wrong += _differences(info, wanted, effective.dialect)
    if wrong:
        return failed(
            _NUMBER, _NAME, "NNA0743", f"{len(wrong)} of {mounts} mounts differ from the template", cause=wrong[0],
            evidence=tuple(wrong[1:5]),
            try_="start the containers of these images anew: a mount keeps the configuration that it was made with",
        )  # fmt: skip
    have = "has" if mounts == 1 else "have"
    told = f"{counted(mounts, 'mount')} of {counted(len(sockets), 'daemon')} {have} what the template says"
    return ok(_NUMBER, _NAME, told + rafs.warning(rafs.uncompressed_images(view)))


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
    """Mounts of running nydusd that have something else than a template says, in words; nydusd that do not answer are
    left out. Raises NydusdError where nobody can tell which run.
    """
    wanted = _backend_config(template)
    found: list[str] = []
    for socket in ports.nydusd.sockets(root) if wanted is not None else ():
        try:
            found += _differences(ports.nydusd.info(socket, deadline_s=CALL_S), wanted or {}, dialect)
        except NydusdError:
            continue
    return found


def _template(view: View) -> Loose | None:
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
    """The registry part of an effective configuration, in nydusd's second schema or (a JSON template) in its first."""
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
        return f"it has {len(has)} mirrors, the template says {len(wanted)} (this nydusd or snapshotter drops them?)"
    for one, other in zip(has, wanted, strict=True):
        for key in ("host", "ping_url", "headers", "failure_limit"):
            if key in other and one.get(key) != other[key]:
                return f"mirrors: {key} is {_text(one.get(key))}, the template says {_text(other[key])}"
    return ""


def _text(value: object) -> str:
    return json.dumps(value) if value != "" else "not set"
