"""The budgets of the code: what `make lint` prints, and what fails where a limit is passed.

The limit is where the code stands now, and the goal is where it is to go. A change that needs less lowers the
limit; nothing raises it.

A function's length is that of its lines from `def` to its end, docstring and comments included. The methods
of a Protocol have no body and are no functions here: they would only make the median look good.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.lint.layers import LAYERS
from tests.lint.source import ROOT, Module, modules, nodes

COLUMNS = 110
SMALLEST_MODULE = 40
FORBIDDEN = {
    "turning", "eyes", "loose", "story", "hedge", "beat", "undone", "undoing", "leave", "forget", "past",
    "look", "one",
    "told", "found",
}  # fmt: skip
"""Names that are riddles: a reader cannot tell what they stand for."""
_SHOWN = 8


@dataclass(frozen=True)
class Function:
    """A function or method and its length in lines."""

    where: str
    lines: int


@dataclass(frozen=True)
class Figure:
    """What was measured, and where it stands: the worst places first."""

    value: float
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Budget:
    """One figure with its limit of now and its goal."""

    what: str
    limit: float
    goal: float
    measure: Callable[[], Figure]


def functions(module: Module) -> list[Function]:
    """Every function of a module that does something."""
    listed = []
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_declaration(node):
            end = node.end_lineno or node.lineno
            listed.append(Function(f"{module.path}:{node.lineno} {node.name}", end - node.lineno + 1))
    return listed


def _is_declaration(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in node.body)


def lines_of(top: str) -> Figure:
    """Lines of all modules; the longest are named."""
    longest = sorted(modules(top), key=lambda module: -module.lines)
    return Figure(
        sum(module.lines for module in longest), tuple(f"{each.path}: {each.lines}" for each in longest)
    )


def modules_of(top: str) -> Figure:
    """Modules, those of packages too that hold more than their docstring."""
    return Figure(sum(len(module.tree.body) > 1 for module in modules(top)))


def largest_module() -> Figure:
    """Lines of the longest module of both trees."""
    longest = sorted((*modules("agent"), *modules("tests")), key=lambda module: -module.lines)
    return Figure(longest[0].lines, tuple(f"{each.path}: {each.lines}" for each in longest))


def small_modules() -> Figure:
    """Modules of agent/ that are too small to stand alone."""
    short = [each for each in modules("agent") if len(each.tree.body) > 1 and each.lines < SMALLEST_MODULE]
    return Figure(len(short), tuple(f"{each.path}: {each.lines}" for each in short))


def largest_directory() -> Figure:
    """Modules of the fullest directory of agent/."""
    counted = Counter(
        module.path.rpartition("/")[0] for module in modules("agent") if len(module.tree.body) > 1
    )
    fullest = counted.most_common()
    return Figure(fullest[0][1], tuple(f"{directory}: {count}" for directory, count in fullest))


def layers() -> Figure:
    """Rows of the table of layers."""
    return Figure(len(LAYERS))


def repeated_classes() -> Figure:
    """Names of public classes that stand in more than one module of agent/."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for module in modules("agent"):
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(module.name)
    twice = sorted(
        (name for name in homes if len(homes[name]) > 1), key=lambda name: (-len(homes[name]), name)
    )
    return Figure(len(twice), tuple(f"{name}: {', '.join(homes[name])}" for name in twice))


def forbidden_names() -> Figure:
    """Modules, public classes, functions and attributes of agent/ whose name is a riddle."""
    places = []
    for module in modules("agent"):
        if module.name.rpartition(".")[2] in FORBIDDEN:
            places.append(f"{module.path}: its own name")
        places += [
            f"{module.path}:{line} {name}" for line, name in _declared(module.tree.body) if name in FORBIDDEN
        ]
    return Figure(len(places), tuple(places))


def _declared(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """(line, name) of what a module or a class declares, and of what its methods give an instance."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
            yield from _given(node)
        elif isinstance(node, ast.ClassDef):
            yield node.lineno, node.name
            yield from _declared(node.body)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id
        elif isinstance(node, ast.Assign):
            yield from ((node.lineno, target.id) for target in node.targets if isinstance(target, ast.Name))


def _given(method: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[int, str]]:
    for node in ast.walk(method):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
        ):
            yield node.lineno, node.attr


def wide_lines() -> Figure:
    """Lines of both trees that are wider than a page."""
    places = [
        f"{module.path}:{number}"
        for top in ("agent", "tests")
        for module in modules(top)
        for number, line in enumerate((ROOT / module.path).read_text().splitlines(), 1)
        if len(line) > COLUMNS
    ]
    return Figure(len(places), tuple(places))


def longest_function() -> Figure:
    """Lines of the longest function of both trees."""
    every = [
        function for top in ("agent", "tests") for module in modules(top) for function in functions(module)
    ]
    longest = sorted(every, key=lambda function: -function.lines)
    return Figure(longest[0].lines, tuple(f"{function.where}: {function.lines}" for function in longest))


def median_function() -> Figure:
    """Lines of the function in the middle, of agent/."""
    return Figure(statistics.median(each.lines for module in modules("agent") for each in functions(module)))


BUDGETS = (
    Budget("lines of agent/", 39_950, 25_000, lambda: lines_of("agent")),
    Budget("modules of agent/", 180, 180, lambda: modules_of("agent")),
    Budget("modules of the largest directory of agent/", 20, 20, largest_directory),
    Budget(f"modules of agent/ under {SMALLEST_MODULE} lines", 4, 0, small_modules),
    Budget("lines of tests/", 61_731, 38_000, lambda: lines_of("tests")),
    Budget("layers", 12, 12, layers),
    Budget("public class names that stand twice", 0, 0, repeated_classes),
    Budget("forbidden names", 0, 0, forbidden_names),
    Budget(f"lines over {COLUMNS} columns", 0, 0, wide_lines),
    Budget("longest module, lines", 410, 400, largest_module),
    Budget("longest function, lines", 60, 60, longest_function),
    Budget("median of the functions of agent/, lines", 10, 10, median_function),
)


def main() -> int:
    """Print each figure with its limit and its goal, and where the most is."""
    for budget in BUDGETS:
        figure = budget.measure()
        note = "  (lower the limit)" if figure.value < budget.limit > budget.goal else ""
        print(f"{budget.what:45} {figure.value:8g}  limit {budget.limit:8g}  goal {budget.goal:6g}{note}")
        if figure.value > budget.goal:
            for place in figure.places[:_SHOWN]:
                print(f"    {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
