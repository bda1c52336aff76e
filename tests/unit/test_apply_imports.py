"""An apply with nothing to do, the frequent one, does not wait for the loading of what it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("difflib", "tempfile", "uuid", "lxml", "tomlkit", "structlog")
"""What takes milliseconds and no command needs that has nothing to tell."""
ONLY_FOR_A_CHANGE = (
    "agent.apply.prove", "agent.apply.drift", "agent.apply.expected", "agent.apply.rollback", "agent.apply.unwind",
    "agent.plan.rollback", "agent.plan.toml_tree", "agent.adapters.alarms",
    "agent.adapters.trial",
)  # fmt: skip
APPLY = """
from agent import wire
from agent.__main__ import main
from agent.commands import apply
from agent.config.model import Config
ports = wire.root_ports(Config())
"""
ASKED = """
import contextlib
from agent.errors import ContainerdError
with contextlib.suppress(ContainerdError):
    ports.containerd.plugins(deadline_s=1)
"""
CHANGED = "\nports.load()\n"


def loaded(code: str, *arguments: str) -> set[str]:
    """The modules that a process has at the end of this code."""
    code = f"import sys, json\nsys.path.insert(0, sys.argv[1])\n{code}\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    argv = [sys.executable, "-I", "-c", code, str(ROOT), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def apply() -> set[str]:
    return loaded(APPLY)


@pytest.fixture(scope="module")
def asked() -> set[str]:
    return loaded(APPLY + ASKED)


@pytest.mark.parametrize("name", ONLY_FOR_A_CHANGE)
def test_what_only_a_change_needs_is_not_loaded(apply: set[str], name: str) -> None:
    assert name not in apply


@pytest.mark.parametrize("name", HEAVY)
def test_an_apply_does_not_load_what_is_heavy_for_a_look_at_the_node(asked: set[str], name: str) -> None:
    assert name not in asked


def test_what_a_look_at_the_node_needs_is_there_once_containerd_was_asked(asked: set[str]) -> None:
    assert {"grpc", "agent.adapters.containerd", "agent.plan.diff", "agent.apply.change"} <= asked


def test_a_change_has_loaded_every_port_before_its_first_act() -> None:
    ports = {"containerd", "alarms", "http", "nydusd", "tls", "trial"}
    assert {f"agent.adapters.{name}" for name in ports} <= loaded(APPLY + CHANGED)
