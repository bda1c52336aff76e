"""What lies in the repository: nothing generated, nothing of the machine it was written on, shell that shellcheck accepts."""

from __future__ import annotations

import re
import subprocess
from pathlib import PurePosixPath

import pytest

from tests.lint.source import ROOT, files

_GENERATED = re.compile(
    r"(^|/)(_pb|build|__pycache__)/|_pb2(_grpc)?\.pyi?$|\.(pyc|deb|changes|buildinfo|o|so|whl|[1-8])$|\.egg-info/|debian/(files|.*\.substvars)$"
)

# Written so that this file does not itself name what it looks for.
_NOT_OURS_TO_NAME = (
    (re.compile(r"(?<![\w$}])/" + r"work/(main|shared|\.)"), "a path of the machine it was written on"),
    (re.compile(r"(?<![\w$}])/(root|home|tmp)/" + r"(helpers|\.pyenv|\.cargo/registry)"), "a path of the machine it was written on"),
    (re.compile(r"\b(files\.pythonhosted|pypi|npmjs|repo1\.maven|static\.rust-lang|index\.crates|(proxy|sum)\.golang|(deb|security|snapshot)\.debian)\.(org|io|com)\b"), "a package registry's host"),
    (re.compile(r"\bfacts/" + r"[a-z-]+\.md\b"), "notes that are not in the repository"),
)  # fmt: skip


def _text(path: str) -> str | None:
    data = (ROOT / path).read_bytes()
    return None if b"\0" in data else data.decode()


def test_nothing_generated_or_downloaded_is_committed() -> None:
    assert [path for path in files() if _GENERATED.search(path)] == []


def test_every_file_is_text_that_a_reviewer_can_read() -> None:
    assert [path for path in files() if _text(path) is None] == []


@pytest.mark.parametrize(
    ("pattern", "what"), _NOT_OURS_TO_NAME, ids=lambda part: part.replace(" ", "-") if isinstance(part, str) else ""
)
def test_nothing_names_the_place_where_it_was_written(pattern: re.Pattern[str], what: str) -> None:
    found = [f"{path}: {what}: {match[0]}" for path in files() if (match := pattern.search(_text(path) or ""))]
    assert found == []


def _shell_scripts() -> list[str]:
    found = []
    for path in files():
        first = (_text(path) or "").partition("\n")[0]
        if re.match(r"#!\s*/(usr/)?bin/(env )?(ba|da)?sh\b", first) or PurePosixPath(path).suffix == ".sh":
            found.append(path)
    return found


def test_shell_scripts_have_no_known_traps() -> None:
    scripts = _shell_scripts()
    done = subprocess.run(
        ["shellcheck", "--severity=warning", "--format=gcc", *scripts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert len(scripts) > 5


def test_scripts_with_an_interpreter_may_be_executed() -> None:
    """And what has none may not: a mode that lies breaks a fresh clone."""
    wrong = []
    for path in files():
        starts = (_text(path) or "").startswith("#!")
        executable = bool((ROOT / path).stat().st_mode & 0o111)
        template = path.startswith("debian/") and path.rpartition(".")[2] in (
            "postinst",
            "prerm",
            "postrm",
            "preinst",
            "config",
        )
        recipe = path.startswith("tests/node/recipes/")
        if starts != executable and not template and not recipe:
            wrong.append(path)
    assert wrong == []
