"""What lies in the repository: nothing generated, nothing of the machine it was written on, shell without
traps.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import PurePosixPath

import pytest

from tests.lint.source import ROOT, files

_GENERATED = re.compile(
    r"(^|/)(_pb|build|__pycache__)/|_pb2(_grpc)?\.pyi?$|\.(pyc|deb|changes|buildinfo|o|so|whl|[1-8])$"
    r"|\.egg-info/|debian/(files|.*\.substvars)$"
)

# Written so that this file does not itself name what it looks for.
_REGISTRIES = (
    r"files\.pythonhosted", "pypi", "npmjs", r"repo1\.maven", r"static\.rust-lang", r"index\.crates",
    r"proxy\.golang",
    r"sum\.golang", r"deb\.debian", r"security\.debian", r"snapshot\.debian",
)  # fmt: skip
_NOT_OURS_TO_NAME = {
    "a path of the machine it was written on": r"(?<![\w$}])/work/(main|shared|\.)|/tmp/helpers|/\.pyenv/",
    "a package registry's host": rf"\b({'|'.join(_REGISTRIES)})\.(org|io|com)\b",
    "notes that are not in the repository": r"\bfacts/[a-z-]+\.md\b",
}


def _text(path: str) -> str | None:
    data = (ROOT / path).read_bytes()
    return None if b"\0" in data else data.decode()


def test_nothing_generated_or_downloaded_is_committed() -> None:
    assert [path for path in files() if _GENERATED.search(path)] == []


def test_every_file_is_text_that_a_reviewer_can_read() -> None:
    assert [path for path in files() if _text(path) is None] == []


@pytest.mark.parametrize("what", _NOT_OURS_TO_NAME)
def test_nothing_names_the_place_where_it_was_written(what: str) -> None:
    pattern = re.compile(_NOT_OURS_TO_NAME[what])
    others = [path for path in files() if path != "tests/lint/test_files.py"]
    assert [f"{path}: {match[0]}" for path in others if (match := pattern.search(_text(path) or ""))] == []


def test_no_file_holds_both_sides_of_a_merge() -> None:
    marker = re.compile(r"^(<{7}|>{7}) ", re.M)
    assert [path for path in files() if marker.search(_text(path) or "")] == []


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
