"""Credential helpers as real programs: one that answers, one that hangs with children of its own, one that
floods.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import CredentialError
from agent.registry.names import CredentialPlaces
from agent.system.credentials import DockerCredentials
from agent.system.files import RootFiles
from agent.system.process import ChildProcesses
from tests.contract.waiting import ENDS_S

SECRET = "s3cr3t-of-the-fleet"
PROGRAM = Path("/usr/local/bin/docker-credential-nnatest")


@pytest.fixture
def helper() -> Iterator[Path]:
    """The program; a test writes what it does."""
    yield PROGRAM
    PROGRAM.unlink(missing_ok=True)


def find(tmp_path: Path, helper: Path, script: str, *, deadline_s: float = 5) -> object:
    helper.parent.mkdir(parents=True, exist_ok=True)
    helper.write_text(f"#!/bin/sh\n{script}\n")
    helper.chmod(0o755)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credsStore": "nnatest"}))
    config.chmod(0o600)
    os.chown(config, 0, 0)
    port = DockerCredentials(RootFiles(str(tmp_path)), ChildProcesses(), CredentialPlaces(("/config.json",)))
    return port.find("reg.test", deadline_s=deadline_s).credential


def test_a_helper_gets_the_registry_and_a_clean_environment(
    tmp_path: Path, helper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("DOCKER_CONFIG", "/elsewhere")
    script = (
        'test "$1" = get; read -r asked; test "$asked" = reg.test || exit 9; '
        f'printf \'{{"Username":"%s","Secret":"{SECRET}"}}\' "$(env | cut -d= -f1 | sort | tr \'\\n\' \' \')"'
    )
    found = find(tmp_path, helper, script)
    names = set(getattr(found, "username", "").split())
    assert {"HOME", "LANG", "PATH"} <= names
    assert not names & {"DOCKER_CONFIG", "LD_PRELOAD", "PYTHONPATH"}
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (f"echo {SECRET} >&2; sleep 60 & sleep 60", "killed after 0.5 s"),
        (f"yes {SECRET}", "killed after 0.5 s"),
        (f"echo {SECRET}; exit 3", "exit code 3"),
        (f"echo {SECRET}; kill -9 $$", "killed by signal 9"),
        ("yes | head -c 3000000", "JSON"),
    ],
)
def test_a_helper_that_misbehaves_is_given_up_and_its_words_are_not_repeated(
    tmp_path: Path, helper: Path, script: str, cause: str
) -> None:
    began = time.monotonic()
    with pytest.raises(CredentialError) as caught:
        find(tmp_path, helper, script, deadline_s=0.5 if "killed after" in cause else 20)
    assert time.monotonic() - began < ENDS_S
    assert caught.value.code == "NNA1203"
    assert cause in caught.value.cause
    assert SECRET not in " ".join([str(caught.value), *caught.value.seen])


def test_a_helper_that_is_not_installed_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credHelpers": {"reg.test": "no-such-helper"}}))
    port = DockerCredentials(RootFiles(str(tmp_path)), ChildProcesses(), CredentialPlaces(("/config.json",)))
    config.chmod(0o600)
    with pytest.raises(CredentialError) as caught:
        port.find("reg.test", deadline_s=5)
    assert "docker-credential-no-such-helper" in caught.value.what
    assert "no such program" in caught.value.cause
