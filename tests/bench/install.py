"""`make bench-install`: what installing costs past the download, beside what anybody would do by hand.

Method: 100 MB of real programs of the build root, as two archives in upstream's form, on the disk that holds the
checkout. In each round, one after the other: root's part of an installation (what a download has just left is copied,
hashed, held against the lock, brought to the disk and made current), `tar xzf` of the same archives, and `tar xzf` with
`sha256sum --check` and `sync` of what it made. Then a whole installation over loopback at the rate of a network, timed
from the server's last byte until the set is current; and one where nothing is to be done, in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent import paths
from agent.adapters.artifact_fetch import SandboxedSource
from agent.adapters.artifact_store import DiskStore
from agent.artifacts.fetching import Job, Source, SourceKind
from agent.artifacts.lock import Artifact, ArtifactName, Lock, Program, render
from agent.node.elf import HEADER, architecture
from agent.node.facts import Arch
from tests.bench.paced import Paced
from tests.bench.report import Goal, publish, quick, row
from tests.node.layout import digest_of
from tests.node.upstream import FOLDERS
from tests.runner.stages import ROOT

METHOD = "real programs, two archives, the checkout's disk; every case in each round, one after the other"
ROUNDS, QUICK_ROUNDS = 21, 5
SIZE = 100 << 20
SERIAL = 2026112701
LIMIT_S, NOOP_MS = 0.3, 50.0
RATE = 125_000_000
"""Bytes a second: a gigabit."""
LOCK = "/artifacts.lock.toml"
_NAMES = {
    "nydusd": ArtifactName.NYDUS,
    "nydus-image": ArtifactName.NYDUS,
    "containerd-nydus-grpc": ArtifactName.SNAPSHOTTER,
}
_VERSIONS = {ArtifactName.NYDUS: "v2.4.4", ArtifactName.SNAPSHOTTER: "v0.15.15"}


def main() -> int:
    """Measure and publish."""
    short = quick()
    place = ROOT / "build"
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix="bench-install-") as scratch:
        rig = Rig(Path(scratch))
        times = measured(rig, QUICK_ROUNDS if short else ROUNDS)
    rows = [row(name, values, "ms") for name, values in times.items()]
    past, by_hand, plain = (statistics.median(times[name]) for name in (ADOPT, BY_HAND, TAR))
    noop = statistics.median(times[NOOP]) - statistics.median(times[START])
    print(f"{rig.size / 1e6:.0f} MB of programs, {rig.packed / 1e6:.0f} MB of archives; load {os.getloadavg()[0]:.1f}")
    goals = (
        Goal("median past the download, verified, on the disk and current", past / 1000, LIMIT_S, "s"),
        Goal("... against tar + sha256sum + sync", past / by_hand, 1, "of its time"),
        Goal("... against tar alone", past / plain, 1, "of its time"),
        Goal("median with nothing to do, beyond interpreter start", noop, NOOP_MS, "ms"),
    )
    return publish("install", METHOD, rows, quick=short, goals=goals)


ADOPT, TAR, BY_HAND = "past the download", "tar xzf", "tar xzf, sha256sum, sync"
WHOLE, VERIFY = "from the last byte of a gigabit's download", "verify (read all again)"
NOOP, START = "artifacts install, nothing to do", "interpreter start"


def measured(rig: Rig, rounds: int) -> dict[str, list[float]]:
    """Case -> milliseconds of each round; the first round only warms up."""
    cases: dict[str, Callable[[], float]] = {
        ADOPT: rig.adopt, TAR: rig.tar, BY_HAND: rig.by_hand, WHOLE: rig.whole, VERIFY: rig.verify, NOOP: rig.noop,
        START: rig.start,
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            took = case() * 1000
            if number:
                times[name].append(took)
    return times


@dataclass(frozen=True)
class Unpacked:
    """A program of this machine that plays one of upstream's."""

    name: str
    path: Path


class Rig:
    """Archives, a store, and what a download has left."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.archives = scratch / "archives"
        self.archives.mkdir()
        chosen = [Unpacked(name, path) for name, path in zip(_NAMES, largest(len(_NAMES)), strict=True)]
        self.artifacts = tuple(self._artifact(name, chosen) for name in ArtifactName)
        self.size = sum(program.size for artifact in self.artifacts for program in artifact.programs)
        self.packed = sum(artifact.size for artifact in self.artifacts)
        assert self.size >= SIZE, f"{self.size} bytes of programs are fewer than {SIZE}"
        self.sums = scratch / "sums"
        self.sums.write_text("".join(
            f"{program.sha256}  {FOLDERS[artifact.name]}/{program.name}\n"
            for artifact in self.artifacts for program in artifact.programs
        ))  # fmt: skip
        self.staged = scratch / "staged"
        self.root = scratch / "root"
        self.root.mkdir()
        self.store = DiskStore(paths.ARTIFACTS, str(self.root))
        made = datetime.now(UTC)
        self.lock = Lock(SERIAL, made, made + timedelta(days=1), "0.1.0", self.artifacts)
        (self.root / LOCK.lstrip("/")).write_bytes(render(self.lock))

    def _artifact(self, name: ArtifactName, chosen: list[Unpacked]) -> Artifact:
        programs = [item for item in chosen if _NAMES[item.name] is name]
        version = _VERSIONS[name]
        archive = self.archives / f"{name}-{version}-linux-amd64.tgz"
        with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
            for item in programs:
                tar.add(item.path, f"{FOLDERS[name]}/{item.name}")
        seen = tuple(Program(item.name, item.path.stat().st_size, digest_of(item.path)) for item in programs)
        url = f"https://example.org/download/{archive.name}"
        return Artifact(name, version, Arch.AMD64, url, archive.stat().st_size, digest_of(archive), seen)

    def adopt(self) -> float:
        """Root's part: from what has just been unpacked to a set that is current."""
        self._forget()
        for artifact in self.artifacts:
            (self.staged / artifact.name).mkdir(parents=True)
            with tarfile.open(self.archives / artifact.archive) as tar:
                for program in artifact.programs:
                    member = tar.extractfile(f"{FOLDERS[artifact.name]}/{program.name}")
                    assert member is not None
                    with open(self.staged / artifact.name / program.name, "wb") as file:
                        shutil.copyfileobj(member, file, 1 << 20)
        began = time.perf_counter()
        with self.store.lock("install"):
            self._make_current(str(self.staged))
        took = time.perf_counter() - began
        shutil.rmtree(self.staged)
        return took

    def _make_current(self, staged: str) -> None:
        installed = self.store.adopt(staged, self.artifacts, origin="a bench", now=datetime.now(UTC))
        self.store.set_floor(SERIAL)
        self.store.switch(installed.id)

    def _forget(self) -> None:
        shutil.rmtree(f"{self.root}{paths.ARTIFACTS}", ignore_errors=True)
        os.sync()  # what came before does not count

    def whole(self) -> float:
        """From the last byte that a server sends until the set is current, with the download's own process."""
        self._forget()
        with self.store.lock("install"), self.store.staging(self.size) as staged, Paced(self.archives, RATE) as server:
            job = Job(self.artifacts, Source(SourceKind.MIRROR, server.url))
            SandboxedSource(booted=False).fetch(job, staged, lambda _: None, deadline_s=60)
            self._make_current(staged)
            return time.monotonic() - server.last_byte()

    def tar(self) -> float:
        """What anybody would do, without looking at what came."""
        return self._by_hand(*self._unpack())

    def by_hand(self) -> float:
        """What anybody would do who does."""
        made = [
            f"{FOLDERS[artifact.name]}/{program.name}" for artifact in self.artifacts for program in artifact.programs
        ]
        check = ["sha256sum", "--check", "--quiet", str(self.sums)]
        return self._by_hand(*self._unpack(), check, ["sync", *made, *FOLDERS.values(), "."])

    def _unpack(self) -> Iterator[list[str]]:
        for artifact in self.artifacts:
            yield ["tar", "xzf", str(self.archives / artifact.archive)]

    def _by_hand(self, *commands: list[str]) -> float:
        os.sync()
        place = self.scratch / "by-hand"
        place.mkdir()
        began = time.perf_counter()
        for command in commands:
            subprocess.run(command, cwd=place, check=True)
        took = time.perf_counter() - began
        shutil.rmtree(place)
        return took

    def verify(self) -> float:
        """Every byte of the current set, from the page cache."""
        current = self.store.current()
        assert current is not None
        began = time.perf_counter()
        assert self.store.verify(current.id) == ()
        return time.perf_counter() - began

    def noop(self) -> float:
        """The command, which finds the set there and current."""
        return process(_NOOP.format(modules=str(ROOT), lock=LOCK, root=str(self.root)))

    def start(self) -> float:
        """The interpreter alone."""
        return process("pass")


_NOOP = """
import gc, os, sys
sys.path.insert(0, {modules!r})
from agent.__main__ import main
gc.disable()
os._exit(main(["artifacts", "install", "--lock", {lock!r}], root={root!r}))
"""
"""What packaging/nydus-agent does."""


def process(program: str) -> float:
    """Seconds that a program takes in an interpreter of its own."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-I", "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    took = time.perf_counter() - began
    assert program == "pass" or "is there already" in done.stdout, done.stdout
    return took


def largest(count: int) -> list[Path]:
    """The largest programs of this machine that are built for it."""
    found: list[tuple[int, Path]] = []
    for path in Path("/usr").rglob("*"):
        if path.is_symlink() or not path.is_file() or path.stat().st_size < (8 << 20) or not os.access(path, os.X_OK):
            continue
        with open(path, "rb") as file:
            if architecture(file.read(HEADER)) is Arch.AMD64:
                found.append((path.stat().st_size, path))
    return [path for _, path in sorted(found, reverse=True)[:count]]


if __name__ == "__main__":
    sys.exit(main())
