"""How big the code is: counts for `make lint`, and what is over the limits.

A function's length is that of its lines from `def` to its end, docstring and comments included. Declarations without a
body (the methods of a Protocol) are no functions here: they would only make the median look good.
"""

from __future__ import annotations

import ast
import statistics
import sys
from dataclasses import dataclass

from tests.lint.source import Module, modules

MODULE_LINES = 400
FUNCTION_LINES = 60
MEDIAN_LINES = 10


@dataclass(frozen=True)
class Function:
    """A function or method and its length in lines."""

    where: str
    lines: int


def functions(module: Module) -> list[Function]:
    """Every function of a module that does something."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_declaration(node):
            end = node.end_lineno or node.lineno
            found.append(Function(f"{module.path}:{node.lineno} {node.name}", end - node.lineno + 1))
    return found


def _is_declaration(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in node.body)


def main() -> int:
    """Print the counts of agent/ and of tests/."""
    for top in ("agent", "tests"):
        found = modules(top)
        all_functions = [function for module in found for function in functions(module)]
        if not all_functions:
            continue
        module = max(found, key=lambda module: module.lines)
        function = max(all_functions, key=lambda function: function.lines)
        median = statistics.median(function.lines for function in all_functions)
        print(
            f"{top}: {len(found)} modules, {sum(module.lines for module in found)} lines; "
            f"longest module {module.lines} ({module.path}); {len(all_functions)} functions, median {median:g} lines, "
            f"longest {function.lines} ({function.where})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
