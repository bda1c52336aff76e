"""Arrows between the layers go one way, so that what decides can be tested without a node.

The rooms and their layers are drawn in docs/design.md, and the picture is held to the imports here.
"""

from __future__ import annotations

import ast
import re

import pytest

from tests.lint.layers import LAYERS
from tests.lint.source import ROOT, Module, dotted, imports, modules, nodes

_EDGES = ("agent.system", "agent.netfilter")
"""The rooms that touch the machine. What decides and what acts meets them as ports alone."""
_MAY_USE_EDGES = {
    "agent.wire": _EDGES,
    "agent.system": ("agent.system",),
    "agent.netfilter": ("agent.netfilter",),
    # A conversion drives programs, and nothing of a node: what it does is these programs.
    "agent.images": (
        "agent.system.followed",
        "agent.system.nydusd",
        "agent.system.process",
        "agent.system.walk",
    ),
}
_EDGES_MAY = (
    "agent.bench",
    "agent.config",
    "agent.errors",
    "agent.facts",
    "agent.outside_json",
    "agent.paths",
    "agent.ports",
    "agent.registry",
    *_EDGES,
)
"""An edge says what is there: it neither judges nor plans."""
_GENERATED = "agent._pb"

_PURE = (
    "agent.bench",
    "agent.containerd",
    "agent.documents",
    "agent.dragonfly",
    "agent.facts",
    "agent.health",
    "agent.plan",
    "agent.programs.lock",
    "agent.programs.versions",
    "agent.registry",
    "agent.steps",
)
_PURE_MAY_USE = (
    *_PURE,
    "agent.catalogue",
    "agent.codec",
    "agent.config",
    "agent.console",
    "agent.durations",
    "agent.errors",
    "agent.outside_json",
    "agent.paths",
)
"""Of our own. config reads files and console writes: what is pure takes the values and the words of them."""
_PURE_MAY_IMPORT = {
    "__future__", "abc", "base64", "bisect", "collections", "copy", "dataclasses", "datetime", "difflib",
    "enum",
    "functools", "hashlib", "ipaddress", "itertools", "json", "math", "operator", "posixpath", "re", "shlex",
    "stat",
    "string", "textwrap", "tomlkit", "tomllib", "types", "typing", "urllib.parse", "yaml", "zlib",
}  # fmt: skip
_PURE_MAY_NOT_CALL = {
    "datetime.now",
    "datetime.utcnow",
    "open",
    "print",
    "input",
    "exec",
    "eval",
    "__import__",
}


def _layer(name: str) -> int | None:
    """The number of the most particular layer that a name belongs to."""
    best: tuple[int, int] | None = None
    for number, layer in enumerate(LAYERS):
        for member in layer:
            if _within(name, member) and (best is None or len(member) > best[0]):
                best = (len(member), number)
    return None if best is None else best[1]


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _target(name: str) -> str:
    """The module behind `from a.b import c`: a.b, unless a.b.c is a module itself."""
    path = ROOT / name.replace(".", "/")
    is_module = (
        path.with_suffix(".py").is_file() or (path / "__init__.py").is_file() or _within(name, "agent._pb")
    )
    return name if is_module else name.rpartition(".")[0]


def _forbidden(module: Module) -> list[str]:
    found = []
    for line, name in imports(module):
        if not _within(name, "agent"):
            continue
        target = _target(name)
        if not _may(module.name, target):
            found.append(f"{module.path}:{line} imports {target}")
    return found


def _room(name: str) -> str:
    """The directory of agent/ that a module lies in; "agent" for the modules beside the directories."""
    top = ".".join(name.split(".")[:2])
    return top if (ROOT / top.replace(".", "/")).is_dir() else "agent"


def _may(source: str, target: str) -> bool:
    if _within(target, _GENERATED):
        return _within(source, "agent.system")
    if any(_within(target, edge) for edge in _EDGES):
        allowed = next((may for user, may in _MAY_USE_EDGES.items() if _within(source, user)), ())
        return any(_within(target, one) for one in allowed)
    if any(_within(source, edge) for edge in _EDGES) and not any(_within(target, one) for one in _EDGES_MAY):
        return target == "agent"
    here, there = _layer(source), _layer(target)
    if here is None or there is None:
        return False
    return there < here or (there == here and _room(source) == _room(target))


def test_every_import_goes_down_the_layers() -> None:
    assert [line for module in modules("agent") for line in _forbidden(module)] == []


@pytest.mark.parametrize(
    ("source", "target", "allowed"),
    [
        ("agent.commands.apply", "agent.apply.execute", True),
        ("agent.apply.execute", "agent.plan.order", True),
        ("agent.plan.order", "agent.steps", True),
        ("agent.node.observe", "agent.containerd.view", True),
        ("agent.wire", "agent.system.files", True),
        ("agent.system.files", "agent.ports", True),
        ("agent.images.skopeo", "agent.system.process", True),
        ("agent.__main__", "agent.cli", True),
        ("agent.images.skopeo", "agent.system.files", False),
        ("agent.plan.order", "agent.node.observe", False),
        ("agent.apply.execute", "agent.system.files", False),
        ("agent.commands.apply", "agent.system.files", False),
        ("agent.wire", "agent.netfilter.fence", True),
        ("agent.daemon.session", "agent.netfilter.fence", False),
        ("agent.commands.apply", "agent._pb.cri_pb2", False),
        ("agent.plan.order", "agent.apply.execute", False),
        ("agent.proof.inspection", "agent.apply.execute", False),
        ("agent.containerd.render", "agent.plan.diff", False),
        ("agent.facts.node", "agent.node.observe", False),
        ("agent.system.files", "agent.plan.order", False),
        ("agent.errors", "agent.catalogue", False),
        ("agent.netfilter.fence", "agent.health.machine", False),
        ("agent.system.files", "agent.containerd.view", False),
    ],
)
def test_the_layers_say_what_the_design_says(source: str, target: str, allowed: bool) -> None:
    assert _may(source, target) is allowed


def test_what_decides_touches_nothing_outside() -> None:
    """The pure rooms: no port, no clock, no socket, no file; a plan is a value, and so is a health
    state.
    """
    found = []
    for module in modules("agent"):
        pure = any(_within(module.name, package) for package in _PURE)
        if not pure:
            continue
        for line, name in imports(module):
            ours = _within(name, "agent")
            if _target(name) == "agent":
                continue
            if not any(_within(name, one) for one in (_PURE_MAY_USE if ours else _PURE_MAY_IMPORT)):
                found.append(f"{module.path}:{line} imports {name}")
        calls = [node for node in nodes(module) if isinstance(node, ast.Call)]
        wrong = [node for node in calls if dotted(node.func) in _PURE_MAY_NOT_CALL]
        found += [f"{module.path}:{node.lineno} calls {dotted(node.func)}" for node in wrong]
    assert found == []


def test_only_one_module_spawns_processes() -> None:
    spawners = {
        module.path
        for module in modules("agent")
        for _, name in imports(module)
        if _within(name, "subprocess")
    }
    assert spawners <= {"agent/system/process.py"}


def test_the_picture_of_the_design_shows_every_room_in_its_layer() -> None:
    drawn = [re.findall(r"\b([a-z]+)/(?= |$)", line) for line in _picture() if "│" in line]
    assert [sorted(row) for row in drawn if row] == [sorted(row) for row in reversed(_rooms())]


def _picture() -> list[str]:
    """The lines of the picture of the rooms."""
    text = (ROOT / "docs/design.md").read_text()
    return text.partition("## The rooms")[2].split("```")[1].splitlines()


def _rooms() -> list[list[str]]:
    """The directories of each layer that has any."""
    directories = {
        each.parent.name for each in (ROOT / "agent").glob("*/__init__.py") if each.parent.name != "_pb"
    }
    layers = [[name.rpartition(".")[2] for name in layer] for layer in LAYERS]
    rows = [[name for name in layer if name in directories] for layer in layers]
    assert sorted(name for row in rows for name in row) == sorted(directories)
    return [row for row in rows if row]
