"""Where containerd's configuration keeps what we care about: one table of key paths per version of the file.

Read only; `plan.render_containerd` edits. Sources: containerd's docs/cri/config.md, docs/cri/registry.md and, for the
versions, docs/containerd-2.0.md. Only version 2 on containerd 1.x is supported so far: a daemon of 2.x drops the
snapshotter of a version 2 file that has no runtimes table (migrateConfig in plugins/cri/images/plugin.go).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from agent import paths

KeyPath: TypeAlias = tuple[str, ...]

_CRI = ("plugins", "io.containerd.grpc.v1.cri")


@dataclass(frozen=True, slots=True)
class Keys:
    """Key paths of one version of the file."""

    snapshotter: KeyPath
    disable_snapshot_annotations: KeyPath
    discard_unpacked_layers: KeyPath
    runtimes: KeyPath
    """Table of runtimes; a runtime of ours takes its options from the default one there."""
    default_runtime: KeyPath
    registry: KeyPath
    """Table with config_path, mirrors and configs."""


KEYS: Mapping[int, Keys] = {
    2: Keys(
        snapshotter=(*_CRI, "containerd", "snapshotter"),
        disable_snapshot_annotations=(*_CRI, "containerd", "disable_snapshot_annotations"),
        discard_unpacked_layers=(*_CRI, "containerd", "discard_unpacked_layers"),
        runtimes=(*_CRI, "containerd", "runtimes"),
        default_runtime=(*_CRI, "containerd", "default_runtime_name"),
        registry=(*_CRI, "registry"),
    )
}
PROXY_PLUGIN: KeyPath = ("proxy_plugins", paths.PROXY_PLUGIN)
"""The same in every version."""


def at(document: Mapping[str, Any], path: KeyPath) -> Any:  # noqa: ANN401 - a TOML value
    """The value under a key path; None where it is not there."""
    found: Any = document
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            return None
        found = found[key]
    return found


def certs_directories(content: bytes) -> tuple[str, ...]:
    """The directories of hosts.toml files that this configuration names; empty where it names none or is not TOML."""
    try:
        document = tomllib.loads(content.decode())
    except ValueError:
        return ()
    keys = KEYS.get(document.get("version", 1))
    value = at(document, (*keys.registry, "config_path")) if keys else None
    return tuple(part for part in value.split(":") if part) if isinstance(value, str) else ()


def certs_directory(content: bytes | None) -> str:
    """Where our hosts.toml files go: the first directory that is named, else containerd's usual one."""
    named = certs_directories(content) if content is not None else ()
    return named[0].rstrip("/") if named else paths.CERTS_D


def default_snapshotter(content: bytes) -> str | None:
    """The snapshotter that this configuration gives CRI, "" where it names none; None where that cannot be told."""
    try:
        document = tomllib.loads(content.decode())
    except ValueError:
        return None
    keys = KEYS.get(document.get("version", 1))
    if keys is None or "imports" in document:  # another file may name one
        return None
    value = at(document, keys.snapshotter)
    return value if isinstance(value, str) else ""
