"""The project's files as the lint tests see them."""

from __future__ import annotations

import ast
import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, eq=False)
class Module:
    """One Python file, parsed."""

    path: str
    """Relative to the checkout."""
    name: str
    """As it is imported: agent.plan.diff."""
    lines: int
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.path.endswith("/__init__.py") else self.name.rpartition(".")[0]


@functools.cache
def files() -> tuple[str, ...]:
    """Every file of the project that is or may be committed; build results are not among them."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=60,
    ).stdout.decode()  # fmt: skip
    return tuple(sorted(name for name in set(listed.split("\0")) if name and (ROOT / name).is_file()))


@functools.cache
def modules(top: str) -> tuple[Module, ...]:
    """All modules below a directory such as agent or tests/unit."""
    found = []
    for path in files():
        if path.startswith(top + "/") and path.endswith(".py"):
            text = (ROOT / path).read_text()
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            found.append(Module(path, name, len(text.splitlines()), ast.parse(text, path)))
    return tuple(found)


@functools.cache
def nodes(module: Module) -> tuple[ast.AST, ...]:
    """Every node of a module's tree."""
    return tuple(ast.walk(module.tree))


def imports(module: Module) -> list[tuple[int, str]]:
    """(line, dotted name) of every import, wherever it stands; `from a import b` gives a.b."""
    found = []
    for node in nodes(module):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.package.split(".")
                above = ".".join(parts[: len(parts) - node.level + 1])
                base = f"{above}.{base}" if base else above
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def dotted(node: ast.AST) -> str:
    """The text of a name or attribute: pytest.mark.skip; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return ""
