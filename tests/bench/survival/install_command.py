"""The command `artifacts install` for killing: its own process, the download's, archives in a directory, real files."""

from __future__ import annotations

import hashlib
import io
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.artifacts.lock import Artifact, ArtifactName, Lock, render
from tests.bench.survival.artifacts import NEW, OLD, STORE, Installation, Scenario, Size, State
from tests.runner.stages import ROOT
from tests.unit.artifacts import program

_LOCK, _ARCHIVES = "/artifacts.lock.toml", "archives"
_SERIAL = 2026112701
_DEADLINE_S = 120
_PROGRAM = """
import os, sys
sys.path.insert(0, {modules!r})
from agent.__main__ import main
os._exit(main(["artifacts", "install", "--lock", {lock!r}, "--from", {archives!r}], root={root!r}))
"""


class Command:
    """The command in a process group of its own, so that a kill meets only itself, as the kernel's would."""

    def __init__(self, root: Path, archives: Path) -> None:
        code = _PROGRAM.format(modules=str(ROOT), lock=_LOCK, archives=str(archives), root=str(root))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, process_group=0,
        )  # fmt: skip

    def kill_after(self, seconds: float) -> int:
        """SIGKILL in so many seconds; its exit status, or -9."""
        time.sleep(seconds)
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
        return self._process.returncode

    def finish(self) -> None:
        """Wait until it has done its work."""
        _, said = self._process.communicate(timeout=_DEADLINE_S)
        assert self._process.returncode == 0, said


class Prepared:
    """A node with an old set, and the archives and the lock of a new one."""

    def __init__(self, size: Size, scratch: Path) -> None:
        self.archives = scratch / _ARCHIVES
        self.archives.mkdir(parents=True)
        staged, template, after = scratch / "staged", scratch / "template", scratch / "after"
        Path(f"{template}{STORE}").mkdir(parents=True)
        size.unpack(staged, OLD)
        Installation(size, staged, OLD)(template)
        made = datetime.now(UTC)
        artifacts = tuple(self._pack(name, size) for name in ArtifactName)
        lock = Lock(_SERIAL, made, made + timedelta(days=1), "0.1.0", artifacts)
        Path(f"{template}{_LOCK}").write_bytes(render(lock))
        shutil.copytree(template, after, symlinks=True)
        self._act(after)
        before, wanted = State.of(template), State.of(after)
        assert before.current != wanted.current
        self.scenario = Scenario("artifacts install", self._act, self._act, template, before, wanted, False, False)

    def start(self, root: Path) -> Command:
        """The command on a copy of the node."""
        return Command(root, self.archives)

    def _act(self, root: Path) -> None:
        self.start(root).finish()

    def _pack(self, name: ArtifactName, size: Size) -> Artifact:
        (artifact,) = (item for item in size.artifacts(NEW) if item.name is name)
        version = NEW if name is ArtifactName.NYDUS else "v0.16.1"
        archive = self.archives / f"{name}-{version}-linux-{artifact.arch}.tgz"
        held = {item.name: size.content(item.name, name, NEW) for item in artifact.programs}
        with tarfile.open(archive, "w:gz") as tar:
            for member, content in held.items():
                info = tarfile.TarInfo(f"programs/{member}")
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content))
        packed = archive.read_bytes()
        return replace(
            artifact, version=version, url=f"https://example.org/{archive.name}", size=len(packed),
            sha256=hashlib.sha256(packed).hexdigest(),
            programs=tuple(program(member, content) for member, content in held.items()),
        )  # fmt: skip
