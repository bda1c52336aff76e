"""A store of one's own for each test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.store.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def small_disk(world: World) -> Iterator[World]:
    """The store's own file system, with room for 8 MiB."""
    world.place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0755", "tmpfs", world.place], check=True)
    yield world
    subprocess.run(["umount", "--lazy", world.place], check=True)
