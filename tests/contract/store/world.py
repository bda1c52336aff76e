"""A store on real files, and programs that another user has unpacked for it."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from agent.adapters.artifact_store import DiskStore
from agent.artifacts.lock import Artifact, ArtifactName
from agent.artifacts.sets import InstalledSet
from agent.errors import ArtifactError
from tests.unit.artifacts import NOW, artifact, elf

STORE = "/var/lib/nydus-agent/artifacts"
ORIGIN = "https://example.org/download"
SNAPSHOTTER = ArtifactName.SNAPSHOTTER
NOBODY = 65534


class World:
    """A store, and a directory in which another user has unpacked programs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staged = root / "staged"
        self.store = DiskStore(STORE, str(root))
        self.programs = {
            version: {"nydusd": elf(f"nydusd {version}".encode() * 9), "nydus-image": elf(f"image {version}".encode())}
            for version in ("v2.3.0", "v2.4.4", "v2.5.0")
        }

    def artifact(self, version: str = "v2.4.4") -> Artifact:
        return artifact(version=version, programs=self.programs[version])

    def unpack(self, *artifacts: Artifact) -> None:
        for item in artifacts:
            place = self.staged / item.name
            place.mkdir(parents=True, exist_ok=True)
            os.chown(place, NOBODY, NOBODY)
            for program in item.programs:
                contents = self.programs.get(item.version, {})
                file = place / program.name
                file.unlink(missing_ok=True)
                file.write_bytes(
                    contents.get(program.name) or elf(f"{program.name} {item.version}".encode(), item.arch)
                )
                os.chown(file, NOBODY, NOBODY)

    def adopt(self, *artifacts: Artifact, days: int = 0) -> InstalledSet:
        with self.store.lock("install"):
            return self.store.adopt(str(self.staged), artifacts, origin=ORIGIN, now=NOW + timedelta(days=days))

    def install(self, version: str = "v2.4.4", days: int = 0) -> InstalledSet:
        self.unpack(self.artifact(version))
        installed = self.adopt(self.artifact(version), days=days)
        with self.store.lock("install"):
            self.store.switch(installed.id)
        return installed

    def refused(self, *artifacts: Artifact) -> ArtifactError:
        before = self.tree()
        with pytest.raises(ArtifactError) as caught:
            self.adopt(*artifacts)
        assert {**self.tree(), "lock": ""} == {**before, "lock": ""}
        return caught.value

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    @property
    def place(self) -> Path:
        return self.at(STORE)

    def tree(self) -> dict[str, str]:
        """Everything in the store: links by their target, files by content, inode and time."""
        found = {}
        for path in self.place.rglob("*") if self.place.exists() else ():
            status = path.lstat()
            what = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "directory"
            found[str(path.relative_to(self.place))] = f"{what!r} {status.st_ino} {status.st_mode:o}"
        return found


def remount(world: World, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", world.place], check=True)


def turn_into_link(file: Path) -> None:
    target = file.with_name("elsewhere")
    file.rename(target)
    file.symlink_to(target)


def change_bytes(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"!")


def rewrite(file: Path) -> None:
    file.chmod(0o755)
    change_bytes(file)
    file.chmod(0o555)


def lay_foreign(file: Path) -> None:
    file.with_name("sh").write_bytes(b"#!/bin/sh")


def upgrade_hot(file: Path) -> None:
    """What the snapshotter does at a hot upgrade: it renames its new file over nydusd_path."""
    link = file.parents[1] / file.name
    (file.parents[1] / "new").write_bytes(elf(b"newer"))
    os.rename(file.parents[1] / "new", link)
