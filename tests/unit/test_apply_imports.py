"""An apply with nothing to do, the frequent one, does not wait for the loading of what only a change needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONLY_FOR_A_CHANGE = (
    "tomlkit", "lxml", "agent.apply.prove", "agent.apply.drift", "agent.apply.expected", "agent.apply.rollback",
    "agent.apply.unwind", "agent.plan.rollback", "agent.plan.toml_tree", "agent.ports_artifacts",
)  # fmt: skip
CODE = """
import sys, json
sys.path.insert(0, sys.argv[1])
from agent import wire
from agent.__main__ import main
from agent.commands import apply
from agent.config.model import Config
wire.root_ports(Config())
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", CODE, str(ROOT)], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("name", ONLY_FOR_A_CHANGE)
def test_what_only_a_change_needs_is_not_loaded(loaded: set[str], name: str) -> None:
    assert name not in loaded


def test_what_a_look_at_the_node_needs_is(loaded: set[str]) -> None:
    assert {"grpc", "agent.plan.diff", "agent.apply.change"} <= loaded
