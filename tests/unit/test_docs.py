"""What the manual pages, the example and the completions say is what the code does."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from docutils.core import publish_string

from agent import cli
from agent.catalogue import CATALOGUE
from agent.config.fields import settings
from agent.config.model import Config, RegistryHost, Scheme
from agent.config.parse import TomlDocument, parse
from agent.errors import Exit

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/man/nydus-agent.8.rst").read_text()
ERRORS = (ROOT / "docs/man/nydus-agent-errors.7.rst").read_text()
KEYS = (ROOT / "docs/man/agent.toml.5.rst").read_text()
EXAMPLE = ROOT / "packaging/agent.toml.example"
PAGES = ("docs/man/nydus-agent.8.rst", "docs/man/nydus-agent-errors.7.rst", "docs/man/agent.toml.5.rst")


def _outdated(root: Path) -> set[str]:
    """Names of the files below `root` that are not what the code says."""
    argv = [sys.executable, str(ROOT / "packaging/make-docs.py"), "--check", "--root", str(root)]
    done = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    named = {Path(line.rpartition(": ")[2]).name for line in done.stderr.splitlines()}
    assert done.returncode == bool(named), done.stderr
    return named


def test_the_documentation_is_up_to_date() -> None:
    """Else: packaging/make-docs.py --write"""
    assert _outdated(ROOT) == set()


def test_an_outdated_page_is_noticed(tmp_path: Path) -> None:
    for path in (*(ROOT / page for page in PAGES), EXAMPLE):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text().replace("interval", "intervall"))
    assert _outdated(tmp_path) == {"agent.toml.5.rst", "agent.toml.example"}


def test_a_manual_page_names_the_defaults_that_help_names() -> None:
    assert "(default artifacts.lock.toml)" in PAGE
    assert "%(" not in PAGE


@pytest.mark.parametrize("page", PAGES)
def test_a_manual_page_can_be_made_without_a_complaint(page: str) -> None:
    complaints = io.StringIO()
    made = publish_string(
        (ROOT / page).read_text(), writer_name="manpage",
        settings_overrides={"warning_stream": complaints, "report_level": 1, "halt_level": 5},
    )  # fmt: skip
    assert complaints.getvalue() == ""
    assert b".SH NAME" in made


def test_every_option_key_code_and_exit_code_is_documented() -> None:
    for verb in cli.public_verbs():
        assert f"nydus-agent {verb.name}\n" in PAGE
    for option in (
        "--format",
        "--color",
        "--config",
        "--conf-d",
        "--show",
        "--exit-code",
        "--for",
        "--reason",
    ):
        assert re.search(rf"^ *{option}(=|$)", PAGE, re.M), option
    for code in CATALOGUE:
        assert f"**{code}**" in ERRORS
    for exit_code in Exit:
        assert f"**{int(exit_code)}**\n" in PAGE
    for setting in settings():
        name = f"[[{setting.key}]]" if setting.is_tables else setting.key.rpartition(".")[2]
        assert f"**{name}**" in KEYS


@pytest.mark.parametrize("heading", ["FILES", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO"])
def test_the_page_has_what_administrators_look_for(heading: str) -> None:
    assert f"\n{heading}\n===" in PAGE


def test_the_example_as_it_is_changes_nothing() -> None:
    parsed = parse([TomlDocument("example", EXAMPLE.read_text())])
    assert (parsed.problems, parsed.warnings, parsed.config) == ((), (), Config())


def test_the_example_without_its_comment_signs_is_a_right_configuration_with_every_key() -> None:
    text = re.sub(r"^#(?! )", "", EXAMPLE.read_text(), flags=re.M)
    parsed = parse([TomlDocument("example", text)])
    assert parsed.problems == ()
    assert set(parsed.origins) == {setting.key for setting in settings()}
    assert parsed.config.registries.hosts == (
        RegistryHost("registry.example.org:5000", Scheme.HTTPS, "/etc/ssl/certs/site.pem"),
    )
    assert tomllib.loads(text)["version"] == 1


@pytest.mark.parametrize(("shell", "check"), [("bash", ["bash", "-n"]), ("zsh", [])])
def test_completions_are_made_and_know_the_verbs(shell: str, check: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "packaging/make-completions.py"), shell],
        stdout=subprocess.PIPE, text=True, timeout=60, check=True, cwd=tmp_path,
    )  # fmt: skip
    script = tmp_path / "completion"
    script.write_text(done.stdout)
    if check:
        subprocess.run([*check, str(script)], timeout=30, check=True)
    verbs = [
        "check",
        "plan",
        "apply",
        "status",
        "events",
        "generations",
        "doctor",
        "route",
        "drill",
        "version",
    ]
    for word in (*verbs, "--format", "mirror", "origin", "--why", "mirror-down", "--force"):
        assert word in done.stdout, word
    for hidden in ("after-dpkg", "recover", "--in-turn", "--by-itself", "--if-applied", "--on-install"):
        assert hidden not in done.stdout, hidden


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("nydus-agent st", "status"), ("nydus-agent route p", "pin"), ("nydus-agent route pin o", "origin"),
     ("nydus-agent ev", "events"), ("nydus-agent drill mirror-h", "mirror-hang"), ("nydus-agent status --w",
         "--why"),
     ("nydus-agent status --fo", "--format"), ("nydus-agent status --format j", "json")],
)  # fmt: skip
def test_tab_completes_in_a_real_bash(typed: str, offered: str, tmp_path: Path) -> None:
    completion = subprocess.run(
        [sys.executable, str(ROOT / "packaging/make-completions.py"), "bash"], stdout=subprocess.PIPE,
        text=True,
        timeout=60, check=True,
    ).stdout  # fmt: skip
    (tmp_path / "completion").write_text(completion)
    words = typed.split(" ")
    script = (
        f"source {tmp_path}/completion; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        f"COMP_LINE='{typed}'; COMP_POINT={len(typed)}; "
        "$(complete -p nydus-agent | sed 's/.*-F \\([^ ]*\\).*/\\1/') nydus-agent "
        f"'{words[-1]}' '{words[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    assert offered in done.stdout.split()
