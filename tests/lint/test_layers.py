"""Arrows between the layers go one way, so that what decides can be tested without a node.

commands, daemon -> apply, node -> plan, health -> config, node.facts, plan.steps, errors; adapters know only
the ports.
"""

from __future__ import annotations

import ast

import pytest

from tests.lint.layers import LAYERS
from tests.lint.source import ROOT, Module, dotted, imports, modules, nodes

_ADAPTERS_MAY = (
    "agent.bench.picture",
    "agent.errors",
    "agent.paths",
    "agent.config",
    "agent.node.facts",
    "agent.node.facts_daemon",
    "agent.node.moment",
    "agent.node.transfer",
    "agent.plan.steps",
    "agent.outside_json",
    "agent.ports",
    "agent.registry",
    "agent.adapters",
    "agent.netfilter",
    "agent._pb",
)
_ADAPTERS = ("agent.adapters", "agent.netfilter")
_WIRE_MAY = _ADAPTERS
_IMAGES_MAY = (
    "agent.adapters.followed",
    "agent.adapters.private_nydusd",
    "agent.adapters.process",
    "agent.adapters.walk",
)
"""A conversion drives programs, and nothing of a node: what it does is these programs."""
_ROOT = "agent.wire"
"""The composition root."""

_PURE = (
    "agent.bench",
    "agent.plan",
    "agent.health",
    "agent.dragonfly",
    "agent.node.facts",
    "agent.node.facts_daemon",
    "agent.node.transfer",
    "agent.programs.lock",
    "agent.programs.release",
    "agent.registry",
)
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


def _may(source: str, target: str) -> bool:
    if any(_within(source, package) for package in _ADAPTERS):
        return target == "agent" or any(_within(target, allowed) for allowed in _ADAPTERS_MAY)
    if source == _ROOT and any(_within(target, allowed) for allowed in _WIRE_MAY):
        return True
    if _within(source, "agent.images") and target in _IMAGES_MAY:
        return True
    here, there = _layer(source), _layer(target)
    if (
        here is None
        or there is None
        or any(_within(target, package) for package in (*_ADAPTERS, "agent._pb"))
    ):
        return False
    return there < here or (there == here and source.split(".")[1:2] == target.split(".")[1:2])


def test_every_import_goes_down_the_layers() -> None:
    assert [line for module in modules("agent") for line in _forbidden(module)] == []


@pytest.mark.parametrize(
    ("source", "target", "allowed"),
    [
        ("agent.commands.apply", "agent.apply.execute", True),
        ("agent.apply.execute", "agent.plan.order", True),
        ("agent.plan.order", "agent.plan.steps", True),
        ("agent.wire", "agent.adapters.files", True),
        ("agent.adapters.files", "agent.ports", True),
        ("agent.images.skopeo", "agent.adapters.process", True),
        ("agent.images.skopeo", "agent.adapters.files", False),
        ("agent.plan.order", "agent.ports", False),
        ("agent.apply.execute", "agent.adapters.files", False),
        ("agent.commands.apply", "agent.adapters.files", False),
        ("agent.wire", "agent.netfilter.fence", True),
        ("agent.daemon.session", "agent.netfilter.fence", False),
        ("agent.commands.apply", "agent._pb.cri_pb2", False),
        ("agent.plan.order", "agent.apply.execute", False),
        ("agent.plan.order", "agent.health.machine", False),
        ("agent.node.facts", "agent.node.observe", False),
        ("agent.adapters.files", "agent.plan.order", False),
        ("agent.errors", "agent.catalogue", False),
        ("agent.programs.package", "agent.programs.lock", True),
        ("agent.programs.lock", "agent.programs.download", False),
    ],
)
def test_the_layers_say_what_the_design_says(source: str, target: str, allowed: bool) -> None:
    assert _may(source, target) is allowed


def test_what_decides_touches_nothing_outside() -> None:
    """plan/ and health/: no port, no clock, no socket, no file; a plan is a value, and so is a health
    state.
    """
    found = []
    for module in modules("agent"):
        pure = any(_within(module.name, package) for package in _PURE)
        if not pure:
            continue
        for line, name in imports(module):
            outside = not _within(name, "agent") and not any(
                _within(name, allowed) for allowed in _PURE_MAY_IMPORT
            )
            if outside or _within(name, "agent.ports"):
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
    assert spawners <= {"agent/adapters/process.py"}
