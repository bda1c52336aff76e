"""containerd's files as one configuration: what the daemon of some version makes of them, as far as we
care, and where it keeps that: one table of key paths per version of the file.

The rules are containerd's own (docs/man/containerd-config.toml.5.md; mergeConfig in
cmd/containerd/server/config; the migrations in plugins/cri/{images,runtime}/plugin.go; for the key paths
docs/cri/config.md, docs/cri/registry.md and docs/containerd-2.0.md). Before anything goes live the real
program says what it makes of the same files (`CheckContainerdConfig`); this model is for deciding. Pure.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from agent import paths
from agent.containerd.files import Family, Loaded

Document = dict[str, Any]

_IMAGE_KEYS = ("snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers")


@dataclass(frozen=True, slots=True)
class ContainerdView:
    """The one configuration, with the key paths of the version that `config dump` shows."""

    document: Mapping[str, Any]
    keys: Keys

    def get(self, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - a TOML value
        """The value under a key path of `keys`; None where it is not set."""
        return at(self.document, path)

    @property
    def cri_disabled(self) -> bool:
        """Whether a plugin of CRI's is switched off, as in the file that Docker's packages bring."""
        parts = {"cri", CRI, *((IMAGES, RUNTIME) if self.keys is _SPLIT else ())}
        return any(name in parts for name in self.document.get("disabled_plugins", ()))

    @property
    def snapshotter_disabled(self) -> bool:
        """Whether ours is."""
        return SNAPSHOTTER in self.document.get("disabled_plugins", ())

    @property
    def address(self) -> str:
        """The socket's address; "" where no file names one."""
        value = at(self.document, ("plugins", GRPC_SERVER, "address")) or at(
            self.document, ("grpc", "address")
        )
        return value if isinstance(value, str) else ""

    @property
    def names_ours(self) -> bool:
        """Whether CRI would use our snapshotter, as its default or for a runtime."""
        tables = [
            self.get(self.keys.runtimes),
            self.get(self.keys.platforms) if self.keys.platforms else None,
        ]
        rows = [row for table in tables if isinstance(table, Mapping) for row in table.values()]
        named = [row.get("snapshotter") for row in rows if isinstance(row, Mapping)]
        return paths.PROXY_PLUGIN in (self.get(self.keys.snapshotter), *named)


def names_snapshotter(content: bytes | None) -> bool:
    """Whether a file names our snapshotter for CRI in the tables of any version; what does not parse names
    nothing.
    """
    try:
        document = tomllib.loads(content.decode()) if content is not None else {}
    except ValueError:
        return False
    return any(ContainerdView(document, keys).names_ours for keys in KEYS.values())


def view(kind: Family, loaded: Sequence[Loaded]) -> ContainerdView:
    """What a containerd of this family makes of these files (in their loading order)."""
    if kind is Family.REPLACING:
        return ContainerdView(_replacing(loaded), KEYS[2])
    return ContainerdView(
        _merging(loaded) if kind is Family.MERGING else _migrating(loaded), KEYS[kind.highest]
    )


def last_version(loaded: Sequence[Loaded]) -> int:
    """The last version that a file names, which 1.x and 2.0 to 2.2 take for all of them; 1 where none
    does.
    """
    return next((one.version for one in reversed(loaded) if one.version), 1)


def section(document: Mapping[str, Any], version: int) -> Mapping[str, Any] | None:
    """The CRI section of a file of version 1 or 2; None where it has none."""
    value = at(document, ("plugins", "cri" if version < 2 else CRI))
    return value if isinstance(value, Mapping) else None


def _replacing(loaded: Sequence[Loaded]) -> Document:
    version = last_version(loaded)
    out: Document = {"plugins": {}}
    for one in loaded:
        plugins = {**_table(out, "plugins"), **_table(one.document, "plugins")}
        out = _top(out, one.document)
        out["plugins"] = plugins
    if version < 2:  # a plugin's section has its short name then, and only that
        out["plugins"] = {CRI: out["plugins"]["cri"]} if "cri" in out["plugins"] else {}
        short = {"cri": CRI, paths.PROXY_PLUGIN: SNAPSHOTTER}
        disabled = out.get("disabled_plugins", ())
        out["disabled_plugins"] = [short[name] for name in disabled if name in short]
    return out


def _merging(loaded: Sequence[Loaded]) -> Document:
    version = Family.MERGING.highest
    out: Document = {"plugins": {}}
    for one in loaded:
        plugins = _table(one.document, "plugins")
        if one.version < 2:
            plugins = _renamed(plugins)  # and counts as a file of the version before it
        else:
            version = one.version
        plugins = _deep(_table(out, "plugins"), plugins)
        out = _top(out, one.document)
        out["plugins"] = plugins
    if version < 3:
        out["plugins"] = _migrated(out["plugins"])
    return out


def _migrating(loaded: Sequence[Loaded]) -> Document:
    out: Document = {"plugins": {}}
    for one in loaded:
        plugins = _table(one.document, "plugins")
        if one.version < 2:
            plugins = _renamed(plugins)
        if one.version < 4:
            plugins = _migrated(plugins)  # in a file of version 3 too, where version 2's tables do not belong
        address = at(one.document, ("grpc", "address"))
        if one.version < 4 and address:
            plugins = _deep(plugins, {GRPC_SERVER: {"address": address}})
        plugins = _deep(_table(out, "plugins"), plugins)
        out = _top(out, one.document)
        out["plugins"] = plugins
    return out


def _top(out: Mapping[str, Any], document: Mapping[str, Any]) -> Document:
    """Everything but the plugins: the same in all families."""
    merged = {**out, "proxy_plugins": {**_table(out, "proxy_plugins"), **_table(document, "proxy_plugins")}}
    disabled = document.get("disabled_plugins")
    if isinstance(disabled, list):
        names = [name for name in disabled if isinstance(name, str)]  # with others containerd does not start
        merged["disabled_plugins"] = [*out.get("disabled_plugins", ()), *names]
    address = at(document, ("grpc", "address"))
    if address:
        merged["grpc"] = {"address": address}
    return merged


def _table(document: Mapping[str, Any], key: str) -> Document:
    value = document.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _deep(to: Mapping[str, Any], source: Mapping[str, Any]) -> Document:
    out = dict(to)
    for key, value in source.items():
        there = out.get(key)
        out[key] = _deep(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return out


def _renamed(plugins: Mapping[str, Any]) -> Document:
    return {CRI if key == "cri" else key: value for key, value in plugins.items()}


def _migrated(plugins: Mapping[str, Any]) -> Document:
    """Version 2's CRI section as version 3 has it.

    Without a table of runtimes three keys are lost: so it is there.
    """
    source = plugins.get(CRI)
    if not isinstance(source, Mapping):
        return dict(plugins)
    images, runtime = _table(plugins, IMAGES), _table(plugins, RUNTIME)
    if "registry" in source:
        images["registry"] = source["registry"]
    containerd = _table(source, "containerd")
    if "runtimes" in containerd:
        images |= {key: containerd[key] for key in _IMAGE_KEYS if key in containerd}
    moved = {key: value for key, value in containerd.items() if key not in _IMAGE_KEYS}
    runtime["containerd"] = {**moved, **_table(runtime, "containerd")}
    return {**plugins, IMAGES: images, RUNTIME: runtime}


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
SNAPSHOTTER_TYPE = "io.containerd.snapshotter.v1"
SNAPSHOTTER = f"{SNAPSHOTTER_TYPE}.{paths.PROXY_PLUGIN}"


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
