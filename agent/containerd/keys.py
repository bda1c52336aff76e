"""Where containerd's configuration keeps what we care about: one table of key paths per version of the file.

Read only; `render` edits. Sources: containerd's docs/cri/config.md, docs/cri/registry.md and,
for the versions, docs/containerd-2.0.md and cmd/containerd/server/config. `at` and `KeyPath` serve any TOML
document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from agent import paths

KeyPath: TypeAlias = tuple[str, ...]

CRI = "io.containerd.grpc.v1.cri"
"""The CRI plugin in versions 1 (as "cri") and 2, and what is left of it in 3 and 4."""
IMAGES, RUNTIME = "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
"""CRI's parts in versions 3 and 4."""
GRPC_SERVER = "io.containerd.server.v1.grpc"
"""Version 4 keeps the socket's address there."""


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
    platforms: KeyPath | None = None
    """Table of runtimes that unpack with another snapshotter; before version 3 a runtime's own key is all
    there is.
    """


def _of_cri(name: str) -> Keys:
    cri = ("plugins", name)
    return Keys(
        snapshotter=(*cri, "containerd", "snapshotter"),
        disable_snapshot_annotations=(*cri, "containerd", "disable_snapshot_annotations"),
        discard_unpacked_layers=(*cri, "containerd", "discard_unpacked_layers"),
        runtimes=(*cri, "containerd", "runtimes"),
        default_runtime=(*cri, "containerd", "default_runtime_name"),
        registry=(*cri, "registry"),
    )


_SPLIT = Keys(
    snapshotter=("plugins", IMAGES, "snapshotter"),
    disable_snapshot_annotations=("plugins", IMAGES, "disable_snapshot_annotations"),
    discard_unpacked_layers=("plugins", IMAGES, "discard_unpacked_layers"),
    runtimes=("plugins", RUNTIME, "containerd", "runtimes"),
    default_runtime=("plugins", RUNTIME, "containerd", "default_runtime_name"),
    registry=("plugins", IMAGES, "registry"),
    platforms=("plugins", IMAGES, "runtime_platforms"),
)
KEYS: Mapping[int, Keys] = {1: _of_cri("cri"), 2: _of_cri(CRI), 3: _SPLIT, 4: _SPLIT}
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


def leaves(
    table: Mapping[str, Any], above: KeyPath = (), *, empty: bool = False
) -> Iterator[tuple[KeyPath, Any]]:
    """(key path, value) of all that is no table, also of empty tables where they count, in a table found at
    `above`.
    """
    for key, value in table.items():
        path = (*above, key)
        if isinstance(value, Mapping) and (value or not empty):
            yield from leaves(value, path, empty=empty)
        else:
            yield path, value


# Dict or tomlkit's tables.
def take(document: Any, path: KeyPath, before: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Take a key out, and its tables where they are empty then and were not there before."""
    tables = [document]
    for key in path[:-1]:
        if key not in tables[-1]:
            return
        tables.append(tables[-1][key])
    for depth in range(len(path) - 1, -1, -1):
        table, key = tables[depth], path[depth]
        inner = depth < len(path) - 1
        if key not in table or (inner and (len(table[key]) > 0 or at(before, path[: depth + 1]) is not None)):
            return
        del table[key]


def dotted(path: KeyPath) -> str:
    """A key path as TOML writes it."""
    return ".".join(key if key.replace("_", "").replace("-", "").isalnum() else f'"{key}"' for key in path)


def quoted(text: str) -> str:
    """`text` as a TOML basic string. JSON's escapes are a subset of TOML's (toml.io, v1.0.0, "String")."""
    return json.dumps(text, ensure_ascii=False)
