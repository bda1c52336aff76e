"""Files and units of containerd's as others may have written them: what must hold, holds on all of them.

A world is made from its name, "VERSION/NUMBER", alone: whoever has the name makes it again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from agent import paths
from agent.config.model import Config, ContainerdConfig, ContainerdMode
from agent.containerd.dropin import NAME
from agent.containerd.view import CRI, GRPC_SERVER, IMAGES, RUNTIME
from tests.fakes.node import FakeNode
from tests.fakes.units import unit
from tests.unit.plan_node import CONTAINERD_CONFIG, node, plugins

VERSIONS = {"1.6.20": 2, "1.7.24": 2, "2.1.9": 3, "2.4.2": 4}
"""The newest version of a file that each containerd reads."""
PLACES = ("/etc/containerd", "/etc/other", "/conf.d")
"""All files of a world are below these; the last is where 1.6.20 looks for a relative glob."""
_OTHER = "/etc/other/config.toml"
_UNIT = "/usr/lib/systemd/system/containerd.service"
_DROP_IN = "/etc/systemd/system/containerd.service.d/50-site.conf"
_PROGRAM = "/usr/bin/containerd"

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class World:
    """containerd on a node, and what is wanted of it."""

    name: str
    version: str
    mode: ContainerdMode
    config: str
    """What our configuration names as containerd's root file."""
    files: Mapping[str, bytes]
    unit_files: Mapping[str, str]
    """The unit's own file, then its drop-ins."""
    root: str
    """What containerd takes for its root file once systemd has read them."""
    words: tuple[str, ...]
    """What containerd is given once systemd has read them."""
    loaded: tuple[str, ...]
    """What it is given by what systemd has read, variables as they are written."""
    kill_mode: str

    @property
    def wanted(self) -> Config:
        """Our configuration."""
        return Config(containerd=ContainerdConfig(mode=self.mode, config=self.config))

    def node(self) -> FakeNode:
        """The node, of fakes."""
        made = node(containerd=self.version)
        made.files.drop(CONTAINERD_CONFIG)
        texts = {path: text.encode() for path, text in self.unit_files.items()}
        for path, content in {**self.files, **texts}.items():
            made.files.put(path, content, mode=0o600, uid=0, gid=7)
        made.load_plugins = lambda: plugins(made, self.version, self.config)
        variables = "$OPTIONS" in self.loaded
        known = unit(paths.CONTAINERD_UNIT, active=True, pid=500)
        made.units.units[known.name] = replace(
            known, command=(_PROGRAM, *self.loaded), kill_mode=self.kill_mode, fragment_path=_UNIT,
            drop_in_paths=tuple(self.unit_files)[1:],
            needs_reload=not variables and self.loaded != self.words,
        )  # fmt: skip
        process = "\0".join((_PROGRAM, *(self.words if variables else self.loaded), ""))
        made.files.put("/proc/500/cmdline", process.encode())
        return made

    def told(self) -> str:
        """All of it."""
        head = f"{self.name}: mode {self.mode.value}, config {self.config}, KillMode={self.kill_mode}, "
        head += f"loaded {self.loaded}, then {self.words}\n"
        texts = {**self.unit_files, **{path: content.decode() for path, content in self.files.items()}}
        return head + "".join(f"--- {path}\n{text}\n" for path, text in texts.items())


def world(name: str) -> World:
    """The world of this name."""
    version = name.partition("/")[0]
    chance = random.Random(name)
    unit_files, words, loaded, kill_mode = _unit(chance)
    root = next((word.partition("=")[2] or words[-1] for word in words if "-c" in word), CONTAINERD_CONFIG)
    files = _files(chance, version, root)
    if root != CONTAINERD_CONFIG and chance.random() < 0.5:
        files |= {CONTAINERD_CONFIG: b"version = 2\n"}
    config = root if chance.random() < 0.85 else CONTAINERD_CONFIG
    # Mode runtime-class is refused before 1.7 (NNA0314).
    modes = [mode for mode in ContainerdMode if version >= "1.7" or mode is not ContainerdMode.RUNTIME_CLASS]
    mode = chance.choice((*modes, ContainerdMode.DEFAULT))
    return World(name, version, mode, config, files, unit_files, root, words, loaded, kill_mode)


def _unit(chance: random.Random) -> tuple[Mapping[str, str], tuple[str, ...], tuple[str, ...], str]:
    """(files, words that are given, words by what systemd has read, KillMode)."""
    form = chance.choice(("plain",) * 11 + ("own", "short", "drop-in", "not read", "variable", "kill"))
    other = ("-c", _OTHER) if form == "short" else ("--log-level", "info", f"--config={_OTHER}")
    own = "".join(f" {word}" for word in other) if form in ("own", "short") else ""
    own = " $OPTIONS" if form == "variable" else own
    files = {_UNIT: f"[Service]\nExecStart={_PROGRAM}{own}\nKillMode=process\n"}
    if form in ("drop-in", "not read"):
        files[_DROP_IN] = f"[Service]\nExecStart=\nExecStart={_PROGRAM} \\\n  {' '.join(other)}\n"
    kill_mode = chance.choice(("mixed", "control-group")) if form == "kill" else "process"
    if form == "kill":
        files[_DROP_IN] = f"[Service]\nKillMode={kill_mode}\n"
    words = () if form in ("plain", "kill") else other
    return files, words, {"not read": (), "variable": ("$OPTIONS",)}.get(form, words), kill_mode


def _files(chance: random.Random, version: str, root: str) -> dict[str, bytes]:
    if chance.random() < 0.04:
        return {}
    place = root.rpartition("/")[0]
    imports, others = _imports(chance, place)
    highest = VERSIONS[version]
    number = chance.choice((0, 1, *range(2, highest + 1), *range(2, highest + 1), highest))
    files = {root: _text(chance, _document(chance, number, imports, whole=chance.random() < 0.6))}
    for path in others:
        drifted = chance.choice((0, highest)) if chance.random() < 0.1 else number
        nested: list[str] = []
        if chance.random() < 0.15:
            nested = [chance.choice(("../more/*.toml", f"{place}/more/*.toml", "../more/a.toml"))]
            files[f"{place}/more/a.toml"] = _text(chance, _document(chance, number, []))
        files[path] = _text(chance, _document(chance, drifted, nested))
    if others and chance.random() < 0.05:  # somebody's own, with the name of ours
        files[f"{place}/conf.d/{NAME}"] = _text(chance, _document(chance, number, []))
    return files


def _imports(chance: random.Random, place: str) -> tuple[list[str], list[str]]:
    """(the root file's imports, the paths of drop-ins)."""
    form = chance.randrange(9)
    names = [f"{place}/conf.d/{name}.toml" for name in chance.choice((("10-a",), ("10-a", "zzz-last")))]
    match form:
        case 0 | 1:
            return [], []
        case 2:
            return [f"{place}/conf.d/*.toml"], names
        case 3:
            return ["conf.d/*.toml"], [*names, "/conf.d/cwd.toml"][chance.randrange(2) :]
        case 4:
            return [name.removeprefix(f"{place}/") for name in names], names
        case 5:
            return [f"{place}/*.d/1*.toml", "./conf.d/zzz*"], names
        case 6:
            return [names[0], f"{place}/conf.d/*.toml", f"{place}/none/*.toml"], names
        case 7:
            return [f"{place}//conf.d/../conf.d/[0-9]?-*.toml"], names
        case _:
            return [*names, *([f"{place}/gone.toml"] if chance.random() < 0.2 else [])], names


def _document(chance: random.Random, number: int, imports: list[str], *, whole: bool = False) -> Document:
    made: Document = {"version": number} if number else {}
    if imports:
        made["imports"] = imports
    if chance.random() < 0.12:
        made["disabled_plugins"] = chance.choice(_DISABLED[number >= 2])
    if chance.random() < 0.2:
        made["oom_score"] = -999
    spelled = number if chance.random() < 0.9 else chance.randrange(5)
    if whole or chance.random() < 0.5:
        made["plugins"] = _cri(chance, spelled)
    if chance.random() < 0.1:
        made.setdefault("plugins", {})["io.containerd.internal.v1.opt"] = {"path": "/var/lib/containerd/opt"}
    address = ContainerdConfig().address
    if number == 4 and chance.random() < 0.2:
        made.setdefault("plugins", {})[GRPC_SERVER] = {"address": address}
    elif chance.random() < 0.2:
        made["grpc"] = {"address": address, "uid": 0}
    if chance.random() < 0.2:
        other = chance.choice(("stargz", paths.PROXY_PLUGIN))
        made["proxy_plugins"] = {other: {"type": "snapshot", "address": f"/run/{other}.sock"}}
    if chance.random() < 0.1:
        made["timeouts"] = {"io.containerd.timeout.shim.load": "5s"}
    if chance.random() < 0.04 and (key := chance.choice(tuple(made) or ("",))):
        made = {key.capitalize() if one == key else one: value for one, value in made.items()}
    return made


_SNAPSHOTTER = "io.containerd.snapshotter.v1"
_DISABLED: tuple[tuple[list[str], ...], ...] = (
    (["cri"], ["btrfs", "zfs"], ["nydus"], [CRI], []),
    ([CRI], [IMAGES], [RUNTIME], [f"{_SNAPSHOTTER}.nydus"], [f"{_SNAPSHOTTER}.btrfs"], []),
)  # fmt: skip
"""Before version 2 by short names."""


def _cri(chance: random.Random, spelled: int) -> Document:
    """CRI's tables as a version of the file spells them; what is in them is by chance."""
    image: Document = {}
    if chance.random() < 0.5:
        key = "Snapshotter" if chance.random() < 0.04 else "snapshotter"
        image[key] = chance.choice(("native", "overlayfs"))
    for key in ("disable_snapshot_annotations", "discard_unpacked_layers"):
        if chance.random() < 0.25:
            image[key] = chance.random() < 0.7
    runtimes: Document = {}
    if chance.random() < 0.6:
        runtimes["runc"] = {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}
    if chance.random() < (0.4 if runtimes else 0.05):
        runtimes["kata"] = {"runtime_type": "io.containerd.kata.v2", "privileged_without_host_devices": True}
    if chance.random() < (0.15 if runtimes else 0.02):
        runtimes["nydus"] = {"runtime_type": "io.containerd.runc.v2", "snapshotter": "native"}
    containerd: Document = {"runtimes": runtimes} if runtimes else {}
    if runtimes and chance.random() < 0.4:
        containerd["default_runtime_name"] = chance.choice(tuple(runtimes))
    registry = chance.choice(
        (
            {}, {}, {"config_path": paths.CERTS_D}, {"config_path": "/etc/a/certs.d:/etc/b"},
            {"mirrors": {"docker.io": {"endpoint": ["https://mirror.example"]}}},
        )
    )  # fmt: skip
    if spelled >= 3:
        images = {**image, **({"registry": registry} if registry else {})}
        if chance.random() < 0.3:
            images["pinned_images"] = {"sandbox": "registry.example/pause:3.9"}
        runtime = {**({"containerd": containerd} if containerd else {}), "max_container_log_line_size": 32768}
        return {IMAGES: images, RUNTIME: runtime} if chance.random() < 0.8 else {IMAGES: images}
    section: Document = {"sandbox_image": "registry.example/pause:3.9"}
    if containerd or image:
        section["containerd"] = {**image, **containerd}
    if registry:
        section["registry"] = registry
    return {CRI if spelled == 2 else "cri": section}


def _text(chance: random.Random, document: Document) -> bytes:
    """The document in some style."""
    lines = list(_lines(chance, document))
    for _ in range(chance.randrange(3)):
        lines.insert(
            chance.randrange(len(lines) + 1), chance.choice(("", "# [plugins.cri]", "  # imports = 1", "\t"))
        )
    end = "\r\n" if chance.random() < 0.08 else "\n"
    text = end.join(lines) + (end if chance.random() < 0.9 else "")
    return (b"\xef\xbb\xbf" if chance.random() < 0.03 else b"") + text.encode()


def _lines(chance: random.Random, document: Document) -> Iterator[str]:
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    for key, value in document.items():
        if key not in tables:
            gap, note = chance.choice((" ",) * 9 + ("    ",)), chance.choice(("", "", "  # ours"))
            yield f"{key}{gap}= {_value(chance, value)}{note}"
    headed: list[tuple[tuple[str, ...], Document]] = []
    for key, value in tables.items():
        form = chance.randrange(12)
        if form == 0:
            yield f"{key} = {_value(chance, value)}"
        elif form == 1:
            yield from _dotted(chance, (key,), value)
        elif form == 2 and key == "plugins":
            headed += [((key, name), inner) for name, inner in value.items()]
        else:
            headed.append(((key,), value))
    for path, value in headed:
        yield from _headed(chance, path, value)


def _headed(chance: random.Random, path: tuple[str, ...], table: Document) -> Iterator[str]:
    indent = "  " * (len(path) - 1) if chance.random() < 0.5 else ""
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    inlined = {key for key in inner if chance.random() < 0.08}
    dotted = {key for key in inner if chance.random() < 0.08} - inlined
    if len(inner) < len(table) or inlined or dotted or not table or chance.random() < 0.4:
        yield f"{indent}[{_path(chance, path)}]"
    for key, value in table.items():
        if key not in inner or key in inlined:
            yield f"{indent}{_path(chance, (key,))} = {_value(chance, value)}"
        elif key in dotted:
            yield from (f"{indent}{line}" for line in _dotted(chance, (key,), value))
    for key, value in inner.items():
        if key not in inlined | dotted:
            yield from _headed(chance, (*path, key), value)


def _dotted(chance: random.Random, path: tuple[str, ...], table: Document) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _dotted(chance, (*path, key), value)
        else:
            yield f"{_path(chance, (*path, key))} = {_value(chance, value)}"


def _path(chance: random.Random, path: tuple[str, ...]) -> str:
    mark = chance.choice('""\'')
    return ".".join(key if key.replace("_", "").isalnum() else f"{mark}{key}{mark}" for key in path)


def _value(chance: random.Random, value: object) -> str:
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{_path(chance, (key,))} = {_value(chance, one)}" for key, one in value.items())
            + " }"
        )
    if isinstance(value, list):
        spread = len(value) > 1 and chance.random() < 0.4
        parts = [_value(chance, one) for one in value]
        return "[\n  " + ",\n  ".join(parts) + ",\n]" if spread else f"[{', '.join(parts)}]"
    return f"'{value}'" if isinstance(value, str) and chance.random() < 0.2 else json.dumps(value)
