"""Habits that hide faults: broad handlers, mocks, tests that may not run, tests that cannot fail."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from tests.lint.source import ROOT, Module, dotted, imports, modules, nodes

# Where any error must end: the command's exit code; the treatment of one event, a first look, the answer to
# one request and a publication, of which none may end the daemon; whatever ends a change, so that its undo
# runs, each part of it; and whatever fails once it was accepted, so that it is told that the change stands.
_LAST_RESORTS = Counter({
    "agent/__main__.py": 1, "agent/daemon/endpoint.py": 1, "agent/daemon/service.py": 1,
    "agent/daemon/session.py": 2,
    "agent/apply/change.py": 1, "agent/apply/recover.py": 3, "agent/commands/running.py": 1,
})  # fmt: skip

_MOCKS = ("unittest.mock", "mock", "pytest_mock")
_NOT_RUN = {
    "pytest.skip", "pytest.importorskip", "pytest.xfail", "pytest.mark.skip", "pytest.mark.skipif",
    "pytest.mark.xfail",
    "unittest.skip", "unittest.skipIf", "unittest.skipUnless",
}  # fmt: skip


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    if isinstance(kind, ast.Tuple):
        return any(_is_broad(part) for part in kind.elts)
    return dotted(kind).removeprefix("builtins.") in ("Exception", "BaseException")


def _broad_handlers(module: Module) -> Iterator[str]:
    for node in nodes(module):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type):
            last = node.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                # Clean up and raise on: nothing is hidden.
                yield f"{module.path}:{node.lineno}"
        elif (
            isinstance(node, ast.Call)
            and dotted(node.func).endswith("suppress")
            and any(map(_is_broad, node.args))
        ):
            yield f"{module.path}:{node.lineno}"


def test_errors_are_swallowed_in_named_places_only() -> None:
    found = [place for module in modules("agent") for place in _broad_handlers(module)]
    assert Counter(place.rpartition(":")[0] for place in found) - _LAST_RESORTS == Counter(), found


def test_json_has_one_reader() -> None:
    """Others take any depth of nesting, any length, and numbers that are none."""
    found = [
        f"{module.path}:{node.lineno}"
        for module in modules("agent")
        for node in nodes(module)
        if isinstance(node, ast.Call) and dotted(node.func) in ("json.loads", "json.load", "loads")
    ]
    assert [place.rpartition(":")[0] for place in found] == ["agent/outside_json.py"], found


def test_our_own_code_is_never_mocked() -> None:
    found = []
    for module in modules("tests"):
        found += [
            f"{module.path}:{line} imports {name}"
            for line, name in imports(module)
            if any(name == mock or name.startswith(mock + ".") for mock in _MOCKS)
        ]
        for node in nodes(module):
            if isinstance(node, ast.Call) and dotted(node.func) in ("monkeypatch.setattr", "mocker.patch"):
                found.append(f"{module.path}:{node.lineno} calls {dotted(node.func)}")
    assert found == []


def test_every_test_runs_on_every_machine() -> None:
    found = []
    for module in modules("tests"):
        names = [node for node in nodes(module) if isinstance(node, ast.Attribute | ast.Name)]
        found += [f"{module.path}:{node.lineno} {dotted(node)}" for node in names if dotted(node) in _NOT_RUN]
    assert found == []


def _tests(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def _can_fail(test: ast.AST, module: ast.Module) -> bool:
    """`repeated` alone shows nothing: what it repeats must hold something."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            if dotted(node.func).endswith("repeated"):
                tried = {argument.id for argument in node.args if isinstance(argument, ast.Name)}
                attempts = [
                    part for part in module.body if isinstance(part, ast.FunctionDef) and part.name in tried
                ]
                if any(_can_fail(attempt, module) for attempt in attempts):
                    return True
            name = dotted(node.func).rpartition(".")[2].lstrip("_")
            if name in ("raises", "fail", "within", "mostly") or name.startswith(
                ("assert_", "expect", "check", "wait_", "until")
            ):
                return True
    return False


def test_every_test_can_fail() -> None:
    mute = [
        f"{module.path}:{test.lineno} {test.name}"
        for module in modules("tests")
        for test in _tests(module)
        if not _can_fail(test, module.tree)
    ]
    assert mute == []


def test_a_test_that_repeats_what_holds_nothing_cannot_fail() -> None:
    holds, mute = (
        ast.parse(f"def attempt():\n    {does}\ndef test_it():\n    repeated(attempt)\n")
        for does in ("within(read(), 1.0, 'a read')", "read()")
    )
    assert _can_fail(holds.body[1], holds)
    assert not _can_fail(mute.body[1], mute)


def test_whatever_a_test_defines_it_uses() -> None:
    """Work that is written down and never run shows nothing."""
    found = []
    for module in modules("tests"):
        for test in _tests(module):
            inner = [
                node for node in ast.walk(test) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            used = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
            plain = [
                node
                for node in inner
                if node is not test and not node.decorator_list and node.name not in used
            ]
            methods = {
                id(node) for each in ast.walk(test) if isinstance(each, ast.ClassDef) for node in each.body
            }
            found += [f"{module.path}:{node.lineno} {node.name}" for node in plain if id(node) not in methods]
    assert found == []


def test_no_test_sleeps_and_hopes() -> None:
    """Waiting is polling with a deadline, in a loop, never a pause of a length that somebody guessed."""
    found = []
    for module in modules("tests"):
        for test in _tests(module):
            loops = [node for node in ast.walk(test) if isinstance(node, ast.While)]
            polls = {id(node) for loop in loops for node in ast.walk(loop)}
            pauses = [node for node in ast.walk(test) if isinstance(node, ast.Call) and id(node) not in polls]
            wrong = [node for node in pauses if dotted(node.func) in ("time.sleep", "sleep")]
            found += [f"{module.path}:{node.lineno} {test.name}" for node in wrong]
    assert found == []


def test_no_test_allows_every_warning() -> None:
    """A pattern that matches any line hides the one that nobody has thought of."""
    found = []
    for module in modules("tests"):
        marks = [node for node in nodes(module) if isinstance(node, ast.Call)]
        for mark in marks:
            patterns = [part.value for part in mark.args if isinstance(part, ast.Constant)]
            if dotted(mark.func).endswith("allow_warnings") and any(
                re.search(str(one), "") for one in patterns
            ):
                found.append(f"{module.path}:{mark.lineno}")
    assert found == []


def test_a_type_error_is_ignored_only_with_its_reason() -> None:
    marker, found = "type: " + "ignore", []
    for top in ("agent", "tests"):
        for module in modules(top):
            above = ""
            for number, line in enumerate(_lines(module), 1):
                after = line.partition(marker)[2]
                if marker in line and "#" not in after and not above.lstrip().startswith("#"):
                    found.append(f"{module.path}:{number}")
                above = line
    assert found == []


def _lines(module: Module) -> list[str]:
    return (ROOT / module.path).read_text().splitlines()
