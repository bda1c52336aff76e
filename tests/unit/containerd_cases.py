"""The golden cases of containerd's configuration, one directory each in tests/golden/containerd.

`before/` is the directory of the root file config.toml as its owner left it (absent: there is none), `after/`
has for each containerd, "VERSION+VERSION" or "VERSION@MODE", the files that differ then. `case.toml`, where a
case needs it, names the directory on the node, containerd's socket and its unit.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.config.model import Config, ContainerdConfig, ContainerdMode
from agent.containerd.files import Node
from tests.fakes.node import FakeNode
from tests.fakes.units import unit
from tests.unit.plan_node import GOLDEN, node, plugins

CASES = tuple(sorted((GOLDEN / "containerd").iterdir()))


@dataclass(frozen=True)
class Case:
    """One configuration, one containerd, one mode."""

    name: str
    version: str
    config: Config
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    """Everything that is there then."""

    @property
    def id(self) -> str:
        return f"{self.name}-{self.version}-{self.config.containerd.mode.value}"

    @property
    def root(self) -> str:
        return self.config.containerd.config

    @property
    def node(self) -> Node:
        return containerd(self.version, self.before)

    def fake_node(self) -> FakeNode:
        made = node(containerd=self.version)
        made.files.drop("/etc/containerd/config.toml")
        made.load_plugins = lambda: plugins(made, self.version, self.root)
        made.units.units[self.config.containerd.unit] = unit(
            self.config.containerd.unit, active=True, pid=500
        )
        for path, content in self.before.items():
            made.files.put(path, content, mode=0o600, uid=0, gid=7)
        return made


def containerd(version: str, files: Mapping[str, bytes]) -> Node:
    """A containerd of some version and its files."""
    return Node(tuple(int(part) for part in version.split(".")), files)


def stock(content: bytes | None, version: str = "1.7.24") -> Node:
    """A node with nothing but a root file."""
    return containerd(version, {} if content is None else {"/etc/containerd/config.toml": content})


def cases() -> tuple[Case, ...]:
    """All of them."""
    return tuple(case for directory in CASES for case in _of(directory))


def _of(directory: Path) -> tuple[Case, ...]:
    told = tomllib.loads((directory / "case.toml").read_text()) if (directory / "case.toml").exists() else {}
    place = told.get("directory", "/etc/containerd")
    before = _tree(directory / "before", place)
    found = []
    for after in sorted((directory / "after").iterdir()):
        versions, _, mode = after.name.partition("@")
        settings = ContainerdConfig(
            mode=ContainerdMode(mode or "default"), config=f"{place}/config.toml",
            **{key: told[key] for key in ("address", "unit") if key in told},
        )  # fmt: skip
        found += [
            Case(
                directory.name,
                version,
                Config(containerd=settings),
                before,
                {**before, **_tree(after, place)},
            )
            for version in versions.split("+")
        ]
    return tuple(found)


def _tree(directory: Path, place: str) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file()) if directory.is_dir() else ()
    return {f"{place}/{path.relative_to(directory)}": path.read_bytes() for path in files}
