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
PAGES = sorted((ROOT / "docs/man").glob("*.rst"))
TEXTS = {page.name: page.read_text() for page in PAGES}
OVERVIEW, KEYS = TEXTS["nydus-agent.8.rst"], TEXTS["agent.toml.5.rst"]
EXAMPLE = ROOT / "packaging/agent.toml.example"
OVERVIEW_LINES = 300


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
    for path in (*PAGES, EXAMPLE):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text().replace("interval", "intervall"))
    assert _outdated(tmp_path) == {"agent.toml.5.rst", "agent.toml.example"}


def test_a_manual_page_names_the_defaults_that_help_names() -> None:
    assert "(default artifacts.lock.toml)" in TEXTS["nydus-agent-images.8.rst"]
    assert "%(" not in "".join(TEXTS.values())


def test_the_overview_can_be_read_in_one_go() -> None:
    assert len(OVERVIEW.splitlines()) <= OVERVIEW_LINES


def test_every_verb_is_on_the_page_of_one_group() -> None:
    for verb in cli.public_verbs():
        title = f"nydus-agent {verb.name}"
        heading = f"\n{title}\n{'-' * len(title)}\n"
        assert sum(text.count(heading) for text in TEXTS.values()) == 1, verb.name


@pytest.mark.parametrize("page", TEXTS)
def test_a_manual_page_can_be_made_without_a_complaint(page: str) -> None:
    complaints = io.StringIO()
    made = publish_string(
        TEXTS[page], writer_name="manpage",
        settings_overrides={"warning_stream": complaints, "report_level": 1, "halt_level": 5},
    )  # fmt: skip
    assert complaints.getvalue() == ""
    assert b".SH NAME" in made


def test_every_option_key_code_and_exit_code_is_documented() -> None:
    verbs = "".join(text for name, text in TEXTS.items() if name.startswith("nydus-agent"))
    for option in ("--format", "--color", "--config", "--conf-d", "--exit-code", "--for", "--reason"):
        assert re.search(rf"^ *{option}(=|$)", verbs, re.M), option
    for code in CATALOGUE:
        assert f"**{code}**" in TEXTS["nydus-agent-errors.7.rst"]
    for exit_code in Exit:
        assert f"**{int(exit_code)}**\n" in OVERVIEW
    for setting in settings():
        name = f"[[{setting.key}]]" if setting.is_tables else setting.key.rpartition(".")[2]
        assert f"**{name}**" in KEYS


@pytest.mark.parametrize("heading", ["FILES", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO"])
def test_the_page_has_what_administrators_look_for(heading: str) -> None:
    assert f"\n{heading}\n===" in OVERVIEW


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


def _completion(shell: str) -> str:
    argv = [sys.executable, str(ROOT / "packaging/make-completions.py"), shell]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completions_know_the_verbs_and_options_for_people_alone(shell: str) -> None:
    script = _completion(shell)
    verbs = [verb.name for verb in cli.public_verbs()]
    for word in (*verbs, "--format", "mirror", "origin", "--why", "mirror-down", "--force"):
        assert word in script, word
    for hidden in ("after-dpkg", "recover", "--in-turn", "--by-itself", "--if-applied", "--on-install"):
        assert hidden not in script, hidden


def test_tab_completes_in_a_real_bash(tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(_completion("bash"))
    offered = {
        "nydus-agent st": "status", "nydus-agent route p": "pin", "nydus-agent route pin o": "origin",
        "nydus-agent drill mirror-h": "mirror-hang", "nydus-agent status --w": "--why",
        "nydus-agent status --format j": "json",
    }  # fmt: skip
    for typed, wanted in offered.items():
        words = typed.split(" ")
        script = (
            f"source {tmp_path}/completion; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            f"COMP_LINE='{typed}'; COMP_POINT={len(typed)}; "
            "$(complete -p nydus-agent | sed 's/.*-F \\([^ ]*\\).*/\\1/') nydus-agent "
            f"'{words[-1]}' '{words[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run(
            ["bash", "-c", script], stdout=subprocess.PIPE, text=True, timeout=30, check=True
        )
        assert wanted in done.stdout.split(), typed
