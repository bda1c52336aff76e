"""containerd's files as one configuration: what the daemon of some version makes of them, as far as we care.

The rules are containerd's own (docs/man/containerd-config.toml.5.md; mergeConfig in
cmd/containerd/server/config; the migrations in plugins/cri/{images,runtime}/plugin.go). Before anything goes
live the real program says what it makes of the same files (`CheckContainerdConfig`); this model is for
deciding. Pure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent import paths
from agent.containerd.files import Family, Loaded
from agent.containerd.keys import CRI, GRPC_SERVER, IMAGES, KEYS, RUNTIME, Keys, at

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
        """Whether the CRI plugin is switched off, as in the file that Docker's packages bring."""
        names = self.document.get("disabled_plugins")
        return isinstance(names, list) and any(str(name).rpartition(".")[2] == "cri" for name in names)

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
        merged["disabled_plugins"] = [*out.get("disabled_plugins", ()), *disabled]
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
