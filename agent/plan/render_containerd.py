"""containerd's configuration with our keys in it, and everything else as it was, byte for byte.

A file that `toml_edit` cannot edit exactly is refused, never written.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent import paths
from agent.config.model import Config, ContainerdMode
from agent.plan.containerd_keys import KEYS, PROXY_PLUGIN, KeyPath, Keys, at, certs_directory
from agent.plan.refusal import Refusal
from agent.plan.toml_edit import FAILURES, Value, dotted, insert, remove

_RUNTIME = "nydus"
_RUNC = "runc"
_RUNC_TYPE = "io.containerd.runc.v2"


@dataclass(frozen=True, slots=True)
class Candidate:
    """The new file (equal to the old one where nothing is to do), or why there can be none."""

    content: bytes
    wishes: Mapping[KeyPath, Value]
    needs_restart: bool = False
    hosts_read: bool = False
    """Whether containerd reads hosts.toml files with this configuration."""
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def expect(self) -> tuple[tuple[str, str], ...]:
        """(dotted key, value) pairs that `containerd config dump` must show."""
        return tuple((dotted(path), _shown(value)) for path, value in self.wishes.items())


def candidate(config: Config, before: bytes | None) -> Candidate:
    """The file as it shall be; `before` is what is there (None: nothing, containerd runs on its defaults)."""
    content = before if before is not None else _EMPTY
    try:
        document = tomllib.loads(content.decode())
    except ValueError as error:
        reason = f"{config.containerd.config} does not parse: {error}"
        return _refused(content, "NNA0311", reason, "containerd config dump")
    version = document.get("version", 1)
    keys = KEYS.get(version)
    if keys is None:
        known = ", ".join(str(one) for one in KEYS)
        written = f"version {version}" if "version" in document else "no version, which means 1"
        return _refused(
            content, "NNA0312", f"{config.containerd.config} has {written}; not yet supported (supported: {known})",
            "containerd config default",
        )  # fmt: skip
    wishes, warnings = wished(config, keys, document, content)
    edited = _edited(config, content, document, wishes, warnings)
    read = not edited.refusals and not cri_disabled(document) and not registry_conflict(document, keys)
    return replace(edited, hosts_read=read)


def wished(
    config: Config, keys: Keys, document: Mapping[str, Any], content: bytes
) -> tuple[dict[KeyPath, Value], tuple[str, ...]]:
    """Our keys and their values for this file, and what the operator should know."""
    wishes: dict[KeyPath, Value] = {
        (*PROXY_PLUGIN, "type"): "snapshot",
        (*PROXY_PLUGIN, "address"): paths.SNAPSHOTTER_SOCKET,
        # CRI tells the kubelet this path as the image file system; a wrong one stops image garbage collection.
        (*PROXY_PLUGIN, "exports", "root"): config.snapshotter.root,
    }
    if cri_disabled(document):
        # containerd does not even read the tables of a plugin that is disabled.
        return wishes, ("the CRI plugin is disabled in this file (disabled_plugins): only ctr and the like use nydus",)
    warnings: list[str] = []
    if config.containerd.mode is not ContainerdMode.PLUGIN_ONLY:
        wishes[keys.disable_snapshot_annotations] = False
        wishes[keys.discard_unpacked_layers] = False
        if at(document, keys.discard_unpacked_layers) is True:
            warnings.append(
                "layers of images that were pulled so far were discarded after unpacking; those images must be pulled "
                "again before they run under the nydus snapshotter"
            )
    if config.containerd.mode is ContainerdMode.DEFAULT:
        wishes[keys.snapshotter] = paths.PROXY_PLUGIN
    elif config.containerd.mode is ContainerdMode.RUNTIME_CLASS:
        wishes.update(_runtime(keys, document))
    conflict = registry_conflict(document, keys)
    if conflict:
        warnings.append(conflict)
    elif not at(document, (*keys.registry, "config_path")):
        wishes[(*keys.registry, "config_path")] = certs_directory(content)
    return wishes, tuple(warnings)


def registry_conflict(document: Mapping[str, Any], keys: Keys) -> str:
    """Why config_path cannot be set, "" where it can: CRI refuses it beside the older form (pkg/cri/config)."""
    if at(document, (*keys.registry, "config_path")):
        return ""
    configs = at(document, (*keys.registry, "configs")) or {}
    tls = any(isinstance(one, Mapping) and one.get("tls") for one in configs.values())
    if not at(document, (*keys.registry, "mirrors")) and not tls:
        return ""
    return (
        f"plain images do not go through the mirror: {dotted(keys.registry)} uses the older mirrors or configs.tls, "
        "which containerd refuses beside config_path; move them to hosts.toml files"
    )


def _runtime(keys: Keys, document: Mapping[str, Any]) -> dict[KeyPath, Value]:
    """A runtime of our own, otherwise like the default one (its cgroup driver must be the kubelet's)."""
    default = at(document, keys.default_runtime) or _RUNC
    base = at(document, (*keys.runtimes, default)) or {}
    ours = (*keys.runtimes, _RUNTIME)
    wishes: dict[KeyPath, Value] = {
        (*ours, "runtime_type"): base.get("runtime_type", _RUNC_TYPE),
        (*ours, "snapshotter"): paths.PROXY_PLUGIN,
    }
    if not at(document, keys.runtimes) and default == _RUNC:
        # A table of runtimes takes the place of the built-in one: without this line there would be no runc any more.
        wishes[(*keys.runtimes, _RUNC, "runtime_type")] = _RUNC_TYPE
    for key, value in (base.get("options") or {}).items():
        wishes[(*ours, "options", key)] = value
    return wishes


def cri_disabled(document: Mapping[str, Any]) -> bool:
    """Whether the CRI plugin is switched off, as in the file that Docker's packages bring."""
    names = document.get("disabled_plugins")
    return isinstance(names, list) and any(str(name).rpartition(".")[2] == "cri" for name in names)


def _edited(
    config: Config, content: bytes, document: dict[str, Any], wishes: dict[KeyPath, Value], warnings: tuple[str, ...]
) -> Candidate:
    missing = {path: value for path, value in wishes.items() if at(document, path) != value}
    leftover = _leftover(config, KEYS[document["version"]], document)
    if not missing and not leftover:
        return Candidate(content, wishes, warnings=warnings)
    try:
        text = remove(content.decode(), dict.fromkeys(leftover), document) if leftover else content.decode()
        text = insert(text, missing) if missing else text
    except FAILURES as error:
        return _refused(
            content, "NNA0313", f"{config.containerd.config} cannot be edited without changing other lines: {error}",
            f"set by hand: {', '.join(dotted(path) for path in missing)}",
        )  # fmt: skip
    return Candidate(text.encode(), wishes, needs_restart=True, warnings=warnings)


def _leftover(config: Config, keys: Keys, document: Mapping[str, Any]) -> tuple[KeyPath, ...]:
    """Keys of a mode that is no longer wanted: containerd's own default takes their place."""
    default = at(document, keys.snapshotter) == paths.PROXY_PLUGIN
    return (keys.snapshotter,) if default and config.containerd.mode is not ContainerdMode.DEFAULT else ()


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refused(content: bytes, code: str, reason: str, try_: str) -> Candidate:
    return Candidate(content, {}, refusals=(Refusal(code, reason, try_),))


_EMPTY = f"# {paths.MARK}: there was no configuration file, containerd ran on its defaults.\nversion = 2\n".encode()
