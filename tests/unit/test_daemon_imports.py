"""The daemon's process stays small: what only root's verbs need is not even imported, and it has one
thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED = ("grpc", "google.protobuf", "requests", "urllib3", "pystemd", "lxml", "tomlkit")
CODE = """
import sys, json, threading
sys.path.insert(0, sys.argv[1])
import agent.__main__  # as the launcher does
import asyncio
from agent import cli, wire
cli.build_parser([verb for verb in cli.VERBS if verb.name == "daemon"])
from agent.config.load import load
from agent.daemon.service import Service
from agent.daemon.settings import Places
ports = wire.daemon_ports({})
ports.fence.available()  # loads libnftables
Service(lambda: load("/no/such/file", "/no/such/directory").config, ports, Places.below("/tmp"))
async def work():
    await asyncio.sleep(0)
asyncio.run(work())
print(json.dumps([sorted(sys.modules), threading.active_count()]))
"""


@pytest.fixture(scope="module")
def loaded() -> tuple[set[str], int]:
    argv = [sys.executable, "-I", "-c", CODE, str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    names, threads = json.loads(done.stdout)
    return set(names), threads


@pytest.mark.parametrize("banned", BANNED)
def test_what_costs_much_is_not_imported(loaded: tuple[set[str], int], banned: str) -> None:
    assert not [name for name in loaded[0] if name == banned or name.startswith(banned + ".")]


def test_what_it_is_made_of_is_there(loaded: tuple[set[str], int]) -> None:
    assert {"asyncio", "nftables", "structlog", "watchdog.observers.inotify_c"} <= loaded[0]


def test_it_has_one_thread(loaded: tuple[set[str], int]) -> None:
    assert loaded[1] == 1
