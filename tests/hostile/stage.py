"""What a hostile source must not touch: a store with a current set, and everything around it."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.adapters.artifact_fetch import SandboxedSource
from agent.adapters.artifact_store import DiskStore
from agent.apply import locks
from agent.artifacts.fetching import Job, Limits, Progress, Source, SourceKind
from agent.artifacts.lock import Artifact, ArtifactName, Lock, render
from agent.artifacts.sandbox import FALLBACK_ID
from agent.artifacts.sets import InstalledSet
from agent.node.facts import Arch
from tests.hostile import tars
from tests.unit.artifacts import NOW, elf, program

LIMITS = Limits(
    connect_s=1.0, silence_s=0.7, slow_window_s=2.5, archive=4 << 20, unpacked=16 << 20, ratio_from=1 << 20,
    piece=64 << 10, tries=2, pause_s=0.02,
)  # fmt: skip
DEADLINE_S = 120.0
"""Of a whole installation. None of the cases comes near it, also on a machine that is busy with other tests."""
GRACE_S = 20.0
"""For the end of a process on a busy machine."""
_OPEN_TO_ALL = ("/tmp", "/var/tmp", "/run", "/dev/shm")
_OF_THE_MACHINE = "/dev/shm"
"""Others write there too."""

_CHANCE = random.Random(20261127)
NYDUSD, IMAGE = elf(_CHANCE.randbytes(400_000)), elf(b"nydus-image" * 1000)
PROGRAMS: Mapping[str, bytes] = {"nydusd": NYDUSD, "nydus-image": IMAGE}
OLD = {"nydusd": elf(b"the version before"), "nydus-image": elf(b"and its nydus-image")}


def release(programs: Mapping[str, bytes] = PROGRAMS) -> bytes:
    """A tar archive as upstream makes it."""
    members = [tars.member(f"nydus-static/{name}", content) for name, content in programs.items()]
    config = tars.member("nydus-static/configs/nydusd-config.json", b"{}", mode=0o644)
    return tars.archive(tars.header("nydus-static/", kind=b"5"), *members, config)


GOOD = tars.gz(release())
SMALL = tars.gz(release(OLD))
"""Fits into one part."""


def pinned(content: bytes, url: str, programs: Mapping[str, bytes] = PROGRAMS, *, size: int | None = None) -> Artifact:
    """What a lock says of an archive with this content."""
    return Artifact(
        ArtifactName.NYDUS, "v2.4.4", Arch.AMD64, url, len(content) if size is None else size,
        hashlib.sha256(content).hexdigest(),
        tuple(program(name, one) for name, one in programs.items()),
    )  # fmt: skip


def lock_of(*artifacts: Artifact) -> bytes:
    """A lock file with these."""
    return render(Lock(1, NOW, NOW + timedelta(days=3650), "0.1.0", artifacts))


def lock_made_now(*artifacts: Artifact) -> Lock:
    """A lock that an operator makes of these today, for what looks at the clock."""
    return locks.made(artifacts, datetime.now(UTC).replace(microsecond=0))


def blank(url: str) -> Artifact:
    """An artifact that is still to be pinned."""
    return replace(pinned(b"", url, {}), size=0, sha256="")


@dataclass
class Stage:
    """A node's store with a set in it that is current."""

    root: Path
    source: SandboxedSource = field(default_factory=lambda: SandboxedSource(booted=False))
    heard: list[Progress] = field(default_factory=list)
    took_s: float = 0.0

    def __post_init__(self) -> None:
        self.store = DiskStore("/store", str(self.root))
        (self.root / "store").mkdir(mode=0o755)
        (self.root / "anybody").mkdir()
        (self.root / "anybody").chmod(0o1777)
        self.old = self._take_old()

    def _take_old(self) -> InstalledSet:
        with self.store.lock("test"), self.store.staging() as staged:
            for name, content in OLD.items():
                (Path(staged) / "nydus").mkdir(exist_ok=True)
                (Path(staged) / "nydus" / name).write_bytes(content)
            artifact = replace(pinned(b"old", "https://example.org/old.tgz", OLD), version="v2.3.0")
            old = self.store.adopt(staged, [artifact], origin="test", now=NOW)
            self.store.switch(old.id)
        return old

    def install(
        self,
        artifact: Artifact,
        source: Source | None = None,
        *,
        others: Sequence[Artifact] = (),
        trust: bool = False,
        limits: Limits = LIMITS,
        deadline_s: float = DEADLINE_S,
    ) -> InstalledSet:
        """As the verb does it: fetch, take over, switch."""
        source = source or Source(SourceKind.RELEASE)
        job = Job((artifact,), source, limits, trust_release_checksum=trust, others=tuple(others))
        began = time.monotonic()
        try:
            with self.store.lock("test"), self.store.staging() as staged:
                found = self.source.fetch(job, staged, self.heard.append, deadline_s=deadline_s)
                taken = self.store.adopt(staged, found, origin="test", now=NOW)
                self.store.switch(taken.id)
        finally:
            self.took_s = time.monotonic() - began
        return taken

    def fetch(self, artifact: Artifact, into: str) -> tuple[Artifact, ...]:
        """Only that."""
        job = Job((artifact,), Source(SourceKind.RELEASE), LIMITS)
        return self.source.fetch(job, into, self.heard.append, deadline_s=DEADLINE_S)

    def tree(self) -> dict[str, str]:
        """All that is in the store and where anybody may write."""
        others = str(self.root.parent.parent)  # where the other tests have theirs
        found = {path: _told(path) for path in _below(str(self.root))}
        found |= {path: _told(path) for top in _OPEN_TO_ALL for path in _below(top, others)}
        found.pop(f"{self.root}/store/lock", None)  # says who held it
        ours = {path: told for path, told in found.items() if not path.startswith(_OF_THE_MACHINE)}
        return ours | {path: told for path, told in found.items() if f" {FALLBACK_ID} " in told}


def _below(top: str, without: str = "") -> list[str]:
    found = []
    for place, names, files in os.walk(top):
        names[:] = [name for name in names if os.path.join(place, name) != without]
        found += [os.path.join(place, name) for name in (*names, *files)]
    return found


def _told(path: str) -> str:
    status = os.lstat(path)
    shown = f"{status.st_mode:o} {status.st_uid} {status.st_ino}"
    if stat.S_ISDIR(status.st_mode):  # what was made in it and is gone again left its time
        return shown
    target = os.readlink(path) if os.path.islink(path) else ""
    return f"{shown} {status.st_size} {status.st_mtime_ns} {target}"


def children() -> dict[int, str]:
    """The processes of the user that downloads run as, in this network namespace: (pid, command line)."""
    found, network = {}, os.readlink("/proc/self/ns/net")
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            ours = f"\nUid:\t{FALLBACK_ID}\t" in status.read_text()
            if ours and os.readlink(status.parent / "ns/net") == network:
                found[int(status.parent.name)] = (status.parent / "cmdline").read_text()
        except OSError:
            continue
    return found
