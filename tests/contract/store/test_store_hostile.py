"""Whoever unpacks is not trusted: only bytes that the lock pins get a name, and no link is followed."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.artifacts.lock import ArtifactName
from agent.errors import ArtifactError
from agent.node.facts import Arch
from tests.contract.store.world import World, change_bytes, turn_into_link
from tests.unit.artifacts import elf


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _zero(file: Path) -> None:
    file.unlink()
    os.mknod(file, 0o600 | stat.S_IFCHR, os.makedev(1, 5))


@pytest.mark.parametrize(
    ("spoil", "code", "cause"),
    [
        (Path.unlink, "NNA1138", "No such file"),
        (turn_into_link, "NNA1138", "Too many levels of symbolic links"),
        (lambda file: os.link(file, file.with_name("twice")), "NNA1138", "hard link"),
        (_directory, "NNA1138", "not a regular file"),
        (_fifo, "NNA1138", "not a regular file"),
        (_zero, "NNA1138", "not a regular file"),
        (lambda file: file.write_bytes(file.read_bytes() + b"x"), "NNA1114", "length"),
        (lambda file: file.write_bytes(b""), "NNA1114", "length"),
        (change_bytes, "NNA1115", "not those that the lock pins"),
    ],
)  # fmt: skip
def test_whoever_unpacks_cannot_pass_off_anything_else(
    world: World, spoil: Callable[[Path], object], code: str, cause: str
) -> None:
    world.install("v2.3.0")
    world.unpack(world.artifact())
    spoil(world.staged / "nydus" / "nydusd")
    error = world.refused(world.artifact())
    assert (error.code, cause in error.cause) == (code, True), error.cause
    assert "nydusd" in error.what
    current = world.store.current()
    assert current is not None
    assert current.version(ArtifactName.NYDUS) == "v2.3.0"


def test_a_directory_that_is_a_link_is_not_entered(world: World) -> None:
    world.unpack(world.artifact())
    (world.staged / "nydus").rename(world.root / "elsewhere")
    (world.staged / "nydus").symlink_to(world.root / "elsewhere")
    assert world.refused(world.artifact()).code == "NNA1138"
    (world.root / "way").symlink_to(world.staged)
    world.staged = world.root / "way"
    assert world.refused(world.artifact()).code == "NNA1138"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"#!/bin/sh\nexec /usr/bin/nydusd\n", "it is a script"),
        (elf(b"x", Arch.ARM64), "it is no program for amd64"),
        (elf(b"x").replace(b"ELF\x02", b"ELF\x01"), "it is no program for amd64"),
        (b"MZ" + b"\0" * 100, "it is no program for amd64"),
        (b"\x7fELF", "it is no program for amd64"),
    ],
)
def test_a_program_for_another_machine_is_refused_even_where_the_lock_pins_it(
    world: World, content: bytes, cause: str
) -> None:
    world.programs["v2.4.4"]["nydusd"] = content
    world.unpack(world.artifact())
    error = world.refused(world.artifact())
    assert (error.code, error.cause) == ("NNA1120", cause)


def test_bytes_that_are_changed_while_they_are_read_never_get_a_name(world: World) -> None:
    """The writer goes on all the time: whatever was hashed is what was written, or nothing is."""
    content = elf(os.urandom(1 << 20) * 8)
    world.programs["v2.4.4"] = {"nydusd": content}
    world.unpack(world.artifact())
    done = threading.Event()

    def write() -> None:
        with open(world.staged / "nydus" / "nydusd", "r+b", buffering=0) as file:
            while not done.is_set():
                for byte in (b"!", content[-1:]):
                    file.seek(len(content) - 1)
                    file.write(byte)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            try:
                installed = world.adopt(world.artifact())
            except ArtifactError as error:
                assert error.code == "NNA1115"  # noqa: PT017 - either outcome is right
                assert world.store.sets() == ()
                continue
            assert world.at(f"{installed.directory}/programs/nydusd").read_bytes() == content
            with world.store.lock("prune"):
                world.store.prune(0, frozenset())
    finally:
        done.set()
        writer.join()
