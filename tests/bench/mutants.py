"""`make bench-mutants`: would the tests of the health machine notice a wrong decision? A quarter of an hour.

Method: each comparison, boolean, sign, limit, default of a decision, asked effect and kept field of
agent/health is changed, one at a time; the health machine's unit tests are run against it in a fresh process,
until one fails. A mutant that none notices survives. Dataclasses' defaults and texts are left alone: what the
policy's numbers are is no decision of the code. Some survivors are no faults (the mutant decides the same);
they are counted all the same.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.abc
import importlib.machinery
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from tests.bench.report import Goal, Row, publish, quick, row
from tests.bench.sim.spread import each

METHOD = "one change at a time in agent/health, its unit tests in a fresh process until one fails"
ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "agent" / "health"
SURVIVE = 15.0
"""Percent of the mutants, at most."""
EACH_QUICK = 25
_DEADLINE_S = 180

_COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt,
        ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
_SIGNS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}  # fmt: skip
_LIMITS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """The number of the change within its module, and what it is."""

    module: str
    number: int
    where: str
    what: str


class _Changer(ast.NodeTransformer):
    """Counts all changes; makes the one that is wanted."""

    def __init__(self, wanted: int = -1) -> None:
        self.found: list[tuple[int, str]] = []
        self._wanted = wanted
        self._within = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._within += 1
        node.body = [self.visit(statement) for statement in node.body]
        self._within -= 1
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if self._within and node.value is not None:
            node.value = self.visit(node.value)
        return node

    def _is_it(self, node: ast.expr, what: str) -> bool:
        if not self._within:
            return False
        self.found.append((node.lineno, what))
        return len(self.found) - 1 == self._wanted

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        for at, operator in enumerate(list(node.ops)):
            for other in _COMPARE.get(type(operator), ()):
                if self._is_it(node, f"{type(operator).__name__} -> {other.__name__}"):
                    node.ops[at] = other()
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        if self._is_it(node, f"{type(node.op).__name__} -> {other.__name__}"):
            node.op = other()
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        drop = isinstance(node.op, ast.Not) and self._is_it(node, "not x -> x")
        return node.operand if drop else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        other = _SIGNS.get(type(node.op))
        if other is not None and self._is_it(node, f"{type(node.op).__name__} -> {other.__name__}"):
            node.op = other()
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if self._is_it(node, "a if x else b -> b if x else a"):
            node.body, node.orelse = node.orelse, node.body
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            changed: object = not node.value
        elif isinstance(node.value, int | float):
            changed = node.value + 1
        else:
            return node
        return (
            ast.copy_location(ast.Constant(changed), node)
            if self._is_it(node, f"{node.value} -> {changed}")
            else node
        )

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        """What is asked for: each effect once left out."""
        self.generic_visit(node)
        for at, element in enumerate(list(node.elts)):
            asked = isinstance(element, ast.Call) and isinstance(element.func, ast.Name)
            if asked and self._is_it(node, f"without {ast.unparse(element)}"):
                del node.elts[at]
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        other = _LIMITS.get(name)
        if other is not None and self._is_it(node, f"{name} -> {other}"):
            node.func = ast.copy_location(ast.Name(other), node.func)
        if name == "replace":
            for keyword in list(node.keywords):
                if self._is_it(node, f"{keyword.arg} is not kept"):
                    node.keywords.remove(keyword)
        return node


def mutants(module: str) -> list[Mutant]:
    """All changes of a module of agent/health."""
    changer = _Changer()
    changer.visit(ast.parse(_text(module)))
    return [
        Mutant(module, number, f"agent/health/{module}.py:{line}", what)
        for number, (line, what) in enumerate(changer.found)
    ]


def changed(mutant: Mutant) -> ast.Module:
    """The module with this change."""
    tree = ast.parse(_text(mutant.module))
    _Changer(mutant.number).visit(tree)
    return ast.fix_missing_locations(tree)


def _text(module: str) -> str:
    return (SOURCES / f"{module}.py").read_text()


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the mutant in its module's place."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name = name
        self._code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def survives(tests: Sequence[str], mutant: Mutant) -> bool:
    """Whether these tests pass all the same.

    They run in a process of their own, which starts without agent.health.
    """
    child = os.fork()
    if child == 0:
        signal.alarm(_DEADLINE_S)  # a mutant that never ends is noticed
        os._exit(_test(tests, mutant))
    _, status = os.waitpid(child, 0)
    return status == 0


def _test(tests: Sequence[str], mutant: Mutant) -> int:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    code = compile(changed(mutant), f"mutant of {mutant.module}", "exec")
    sys.meta_path.insert(0, _Instead(f"agent.health.{mutant.module}", code))
    with contextlib.suppress(SystemExit):
        return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=1", *tests]))
    return 1


def health_tests() -> list[str]:
    """The tests of agent/health, those that try many random runs last."""
    found = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "unit").glob("test_health_*.py"))
    return sorted(found, key=lambda path: "model" in path)


def main() -> int:
    """Change, test, publish."""
    short = quick()
    every = [mutant for path in sorted(SOURCES.glob("[a-z]*.py")) for mutant in mutants(path.stem)]
    chosen = every[::EACH_QUICK] if short else every
    lives = each(partial(survives, health_tests()), chosen, worth_it=2)
    left = [mutant for mutant, alive in zip(chosen, lives, strict=True) if alive]
    for mutant in left:
        print(f"survives: {mutant.where}: {mutant.what}")
    percent = 100 * len(left) / len(chosen)
    goal = Goal(f"mutants of agent/health that survive, of {len(chosen)}", percent, SURVIVE, "%")
    return publish("mutants", METHOD, list(_rows(chosen, left)), quick=short, goals=[goal])


def _rows(chosen: Sequence[Mutant], left: Sequence[Mutant]) -> Iterator[Row]:
    for module in sorted({mutant.module for mutant in chosen}):
        alive = [float(mutant in left) for mutant in chosen if mutant.module == module]
        extra = {"survive": sum(alive), "noticed %": round(100 - 100 * sum(alive) / len(alive), 1)}
        yield row(f"agent/health/{module}.py", alive, "mutants", extra=extra)


if __name__ == "__main__":
    sys.exit(main())
