"""Which lock says what may be installed: the operator's, the package's, a bundle's, or what was trusted once."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent import __version__, paths
from agent.artifacts import lock as locks
from agent.artifacts.lock import Artifact, Lock
from agent.config.model import ArtifactsConfig
from agent.errors import ArtifactError, FileError
from agent.ports_artifacts import ArtifactStore
from agent.ports_files import Files

LIFETIME = timedelta(days=365)
"""Of a lock that we make: a year without anybody looking for newer programs is too long."""


@dataclass(frozen=True, slots=True)
class Found:
    """A lock and where it was found."""

    lock: Lock
    path: str
    seen: bool = False
    """It was made by trusting releases' checksums on this node; its serial is no floor for others' locks."""


def find(files: Files, store: ArtifactStore, artifacts: ArtifactsConfig, path: str = "") -> Found | None:
    """The lock at `path`, else the first of the search order that there is; None: there is none.

    Raises ArtifactError (NNA1101, NNA1102) for one that cannot be read or is wrong, also where a later one would do:
    whoever damages a lock must not choose another.
    """
    for one, needed in _places(artifacts, path):
        content = _read(files, one, needed=needed)
        lock = locks.parse(content, one) if content is not None else None
        if lock is not None and (lock.artifacts or needed):
            return Found(lock, one)
    return seen(store)


def seen(store: ArtifactStore) -> Found | None:
    """What was pinned by trusting releases' checksums. Raises ArtifactError."""
    content = store.seen_lock()
    path = posixpath.join(store.directory, "seen.lock.toml")
    return Found(locks.parse(content, path), path, seen=True) if content is not None else None


def _places(artifacts: ArtifactsConfig, path: str) -> Iterator[tuple[str, bool]]:
    """(path, whether it must be there)."""
    if path or artifacts.lock:
        yield path or artifacts.lock, True
    else:
        yield paths.ARTIFACTS_LOCK, False
        yield paths.SHIPPED_ARTIFACTS_LOCK, False


def _read(files: Files, path: str, *, needed: bool) -> bytes | None:
    try:
        fact = files.read(path)
    except FileError as error:
        raise ArtifactError("NNA1101", f"{path} cannot be read", cause=error.cause or error.what) from None
    if fact is None and needed:
        raise ArtifactError("NNA1101", f"{path} cannot be read", cause="it is not there")
    return fact.content if fact is not None else None


def demand(found: Found, store: ArtifactStore, now: datetime, *, allow_older: bool) -> None:
    """Raises ArtifactError NNA1103 to NNA1106 where the lock is not to be used here and now."""
    floor = 0 if allow_older or found.seen else store.floor()
    locks.demand(found.lock, found.path, now=now, floor=floor, agent_version=__version__)


def made(artifacts: tuple[Artifact, ...], now: datetime, *, after: int = 0, lifetime: timedelta = LIFETIME) -> Lock:
    """A lock of these, with a serial of today that is higher than `after`."""
    serial = max(int(now.strftime("%Y%m%d")) * 100 + 1, after + 1)
    return Lock(serial, now, now + lifetime, "0.1.0", artifacts)


def same(one: Artifact, other: Artifact) -> bool:
    """Whether both are of one release for one architecture."""
    return (one.name, one.version, one.arch) == (other.name, other.version, other.arch)


def refuse_another(known: Lock | None, path: str, artifacts: tuple[Artifact, ...]) -> None:
    """Raises ArtifactError NNA1124 where a release has other bytes now than a lock that is there has pinned."""
    for artifact in artifacts:
        for pinned in known.artifacts if known is not None else ():
            if same(pinned, artifact) and pinned.sha256 != artifact.sha256:
                raise ArtifactError(
                    "NNA1124", f"{artifact} is not what was pinned before", cause=f"{path} pins other bytes",
                    seen=(f"pinned: {pinned.sha256}", f"now: {artifact.sha256}"),
                )  # fmt: skip


def utc(seconds: float) -> datetime:
    """Seconds since the epoch as a time."""
    return datetime.fromtimestamp(seconds, UTC)
