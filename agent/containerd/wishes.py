"""Our keys in containerd's configuration and the values that they shall have on this node; and the root
files that another program writes: k3s, rke2, k0s and MicroK8s. Pure.

An edit of a file that its program renders is gone with that program's next start, so it is never made. k3s
and rke2 import a directory of drop-ins and leave containerd to its unit: a drop-in of ours is right there.
k0s and MicroK8s supervise containerd themselves; what changes under them is theirs, and the operator's, to
do.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from agent import paths
from agent.config.model import Config, ContainerdMode
from agent.containerd.files import Family
from agent.containerd.toml_edit import Value
from agent.containerd.view import (
    KEYS,
    PROXY_PLUGIN,
    ContainerdView,
    KeyPath,
    Keys,
    at,
    dotted,
    leaves,
    quoted,
)
from agent.facts.node import Version
from agent.steps import Refusal

_RUNC = "runc"
_RUNC_TYPE = "io.containerd.runc.v2"
_CONFIG_PATH_DEFAULT = (2, 2)
"""From here on an empty config_path means the usual directories (plugins/cri/images/plugin.go)."""

Wishes = Mapping[KeyPath, Value]


@dataclass(frozen=True, slots=True)
class Wished:
    """What shall hold in the one configuration, spelled as `config dump` shows it."""

    wishes: Wishes
    warnings: tuple[str, ...] = ()
    hosts_read: bool = True
    """Whether containerd then reads hosts.toml files."""


def wished(config: Config, version: Version, kind: Family, base: ContainerdView) -> Wished:
    """Our keys for a node whose configuration is `base` without us."""
    keys, mode = base.keys, config.containerd.mode
    wishes: dict[KeyPath, Value] = {
        (*PROXY_PLUGIN, "type"): "snapshot",
        (*PROXY_PLUGIN, "address"): paths.SNAPSHOTTER_SOCKET,
        # CRI tells the kubelet this path as the image file system; a wrong one stops image garbage
        # collection.
        (*PROXY_PLUGIN, "exports", "root"): config.snapshotter.root,
    }
    if base.cri_disabled:
        # containerd does not even read the tables of a plugin that is disabled.
        text = (
            "the CRI plugin is disabled in this configuration (disabled_plugins): only ctr and the like "
            "use nydus"
        )
        return Wished(wishes, (text,), hosts_read=False)
    warnings: list[str] = []
    if mode is not ContainerdMode.PLUGIN_ONLY:
        wishes[keys.disable_snapshot_annotations] = False
        wishes[keys.discard_unpacked_layers] = False
        if base.get(keys.discard_unpacked_layers) is True:
            warnings.append(
                "layers were discarded after unpacking so far (discard_unpacked_layers); they are kept from "
                "now on; images that lack some must be pulled again before they run under the nydus "
                "snapshotter"
            )
    if mode is ContainerdMode.DEFAULT:
        wishes[keys.snapshotter] = paths.PROXY_PLUGIN
    elif mode is ContainerdMode.RUNTIME_CLASS:
        wishes.update(_runtime(kind, base))
    conflict = registry_conflict(base)
    if conflict:
        warnings.append(conflict)
    elif _needs_config_path(version, base):
        wishes[(*keys.registry, "config_path")] = paths.CERTS_D
    return Wished(wishes, tuple(warnings), hosts_read=not conflict)


def certs_directory(base: ContainerdView) -> str:
    """Where our hosts.toml files go: the first directory that is named, else containerd's usual one."""
    value = base.get((*base.keys.registry, "config_path"))
    named = [part for part in value.split(":") if part] if isinstance(value, str) else []
    return named[0].rstrip("/") if named else paths.CERTS_D


def _needs_config_path(version: Version, base: ContainerdView) -> bool:
    return not base.get((*base.keys.registry, "config_path")) and version < _CONFIG_PATH_DEFAULT


def registry_conflict(base: ContainerdView) -> str:
    """Why config_path cannot be set, "" where it can: CRI refuses it beside the older form
    (pkg/cri/config).
    """
    registry = base.keys.registry
    if base.get((*registry, "config_path")):
        return ""
    configs = base.get((*registry, "configs"))
    rows = configs.values() if isinstance(configs, Mapping) else ()
    tls = any(isinstance(one, Mapping) and one.get("tls") for one in rows)
    if not base.get((*registry, "mirrors")) and not tls:
        return ""
    return (
        f"plain images do not go through the mirror: {dotted(registry)} uses the older mirrors or "
        "configs.tls, which containerd refuses beside config_path; move them to hosts.toml files"
    )


def _runtime(kind: Family, base: ContainerdView) -> Mapping[KeyPath, Value]:
    """A runtime of our own, otherwise like the default one (its cgroup driver must be the kubelet's)."""
    keys = base.keys
    default = base.get(keys.default_runtime) or _RUNC
    like = base.get((*keys.runtimes, default))
    told = (
        {key: value for key, value in like.items() if value not in ("", [])}
        if isinstance(like, Mapping)
        else {}
    )
    ours: dict[str, Any] = {"runtime_type": _RUNC_TYPE, **told}
    ours["snapshotter"] = paths.PROXY_PLUGIN
    wishes: dict[KeyPath, Value] = dict(leaves(ours, (*keys.runtimes, paths.RUNTIME)))
    if keys.platforms is not None:
        wishes[(*keys.platforms, paths.RUNTIME, "snapshotter")] = paths.PROXY_PLUGIN
    if kind is Family.REPLACING and not base.get(keys.runtimes) and default == _RUNC:
        # A table of runtimes takes the place of the built-in one: without this line there would be no runc
        # any more.
        wishes[(*keys.runtimes, _RUNC, "runtime_type")] = _RUNC_TYPE
    return wishes


def respelled(wishes: Wishes, source: Keys, target: Keys) -> dict[KeyPath, Value]:
    """The same wishes with the key paths of another version; what that version has no place for is left
    out.
    """
    return {
        new: value for path, value in wishes.items() if (new := _respelled(path, source, target)) is not None
    }


def _respelled(path: KeyPath, source: Keys, target: Keys) -> KeyPath | None:
    places = sorted((one.name for one in fields(Keys)), key=lambda name: -len(getattr(source, name) or ()))
    for name in places:
        place = getattr(source, name)
        if place is not None and path[: len(place)] == place:
            there: KeyPath | None = getattr(target, name)
            return None if there is None else (*there, *path[len(place) :])
    return path


def possible_keys(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Value]]:
    """Everything of ours that may stand in a file that others own, in any version and mode, as we would write
    it.
    """
    for keys in KEYS.values():
        yield keys.snapshotter, paths.PROXY_PLUGIN
        yield keys.disable_snapshot_annotations, False
        yield keys.discard_unpacked_layers, False
        yield (*keys.registry, "config_path"), paths.CERTS_D
        for table in (keys.runtimes, keys.platforms):
            here = at(document, (*table, paths.RUNTIME)) if table is not None else None
            if (
                table is not None
                and isinstance(here, Mapping)
                and here.get("snapshotter") == paths.PROXY_PLUGIN
            ):
                yield from leaves(here, (*table, paths.RUNTIME))
                yield (*keys.runtimes, _RUNC, "runtime_type"), _RUNC_TYPE
    ours = at(document, PROXY_PLUGIN)
    if isinstance(ours, Mapping):
        yield from leaves(ours, PROXY_PLUGIN)


_HEAD_BYTES = 400
_RANCHER_MARK = re.compile(r"^# File generated by ([\w-]+)\. DO NOT EDIT", re.MULTILINE)
"""First line of k3s' and rke2's file (k3s' pkg/agent/templates)."""
_RANCHER = re.compile(r"/var/lib/rancher/([\w-]+)/agent/etc/containerd/")
_K0S_MARK = "# k0s_managed=true"
"""First line of k0s' file, after an empty one in earlier releases (k0s' pkg/component/worker/containerd).
Without it k0s leaves the file alone: then it is the operator's.
"""
_K0S = "/etc/k0s/containerd.toml"
_K0S_DROP_INS = "/etc/k0s/containerd.d"
_MICROK8S = re.compile(r"/var/snap/microk8s/[^/]+/args/containerd(-template)?\.toml")
_MICROK8S_TEMPLATE = "/var/snap/microk8s/current/args/containerd-template.toml"


class _Kind(enum.Enum):
    RANCHER = "takes drop-ins that its file imports"
    K0S = "takes drop-ins, and restarts containerd itself"
    MICROK8S = "renders its file from a template of its own"


@dataclass(frozen=True, slots=True)
class _Owner:
    kind: _Kind
    name: str


def refusals(
    path: str, content: bytes | None, changed: frozenset[str] | None, missing: Mapping[KeyPath, Value]
) -> tuple[Refusal, ...]:
    """Why files of containerd's cannot be changed, where another program writes the root file `path`.

    `content` is what is in it now (None: it is not there). `changed` are the paths of files that would be
    other than they are, None where the root file cannot be edited at all. `missing` are the keys that they
    lack.
    """
    owner = _owner(path, content)
    if owner is None:
        return ()
    if owner.kind is _Kind.RANCHER:
        return (_rancher(owner.name, path, content),) if changed and path in changed else ()
    if changed is not None and not changed:
        return ()
    keys = ", ".join(f"{dotted(key)} = {_spelled(value)}" for key, value in missing.items())
    return (_k0s(path, content, keys) if owner.kind is _Kind.K0S else _microk8s(path, keys),)


def _owner(path: str, content: bytes | None) -> _Owner | None:
    head = (content or b"")[:_HEAD_BYTES].decode(errors="replace")
    place = _RANCHER.match(path)
    match = _RANCHER_MARK.search(head)
    if match is not None or place is not None:
        return _Owner(_Kind.RANCHER, match[1] if match is not None else place[1] if place is not None else "")
    if _K0S_MARK in head.splitlines() or (path == _K0S and content is None):
        return _Owner(_Kind.K0S, "k0s")
    return _Owner(_Kind.MICROK8S, "MicroK8s") if _MICROK8S.fullmatch(path) else None


def _spelled(value: Value) -> str:
    return quoted(value) if isinstance(value, str) else str(value).lower()


def _rancher(who: str, path: str, content: bytes | None) -> Refusal:
    if content is None:
        reason = f"{path} is not there: {who} renders it when it starts"
        return Refusal("NNA0318", reason, f"start {who} once, then: nydus-agent plan")
    reason = (
        f"{path} is rendered by {who} at each of its starts, and what is there imports no directory of "
        f"drop-ins beside it: an edit would be lost, and a template with an import would keep a later {who} "
        f"from starting"
    )
    return Refusal("NNA0318", reason, f"upgrade {who} to a release that imports config-v3.toml.d")


def _k0s(path: str, content: bytes | None, keys: str) -> Refusal:
    marked = f' and begins with "{_K0S_MARK}"' if content is not None else " and is not there yet"
    reason = (
        f"{path} is k0s' own{marked}: k0s writes it at each start, watches {_K0S_DROP_INS} and restarts "
        f"containerd itself, which the agent does not support yet; missing are {keys}"
    )
    by_hand = f"put these keys into {_K0S_DROP_INS}/nydus.toml by hand, then: nydus-agent plan"
    return Refusal("NNA0318", reason, by_hand)


def _microk8s(path: str, keys: str) -> Refusal:
    template = path.rpartition("/")[0] + "/containerd-template.toml"
    reason = (
        f"{path} is MicroK8s' own: MicroK8s renders containerd.toml from {template} at each start of "
        f"containerd, which the agent does not support yet; missing are {keys}"
    )
    by_hand = f"put these keys into {_MICROK8S_TEMPLATE} by hand, restart MicroK8s, then: nydus-agent plan"
    return Refusal("NNA0318", reason, by_hand)
