"""What the download child is told, and what it tells. PURE: values and their form on the wire.

Root writes one JSON line (the job) to the child and passes the files that it may read and write; the child writes JSON
lines (events) back. The child trusts the job. Root trusts no event: it is parsed strictly, its text is made harmless,
and what was downloaded is hashed again by root while it is copied into the store.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from agent.artifacts.lock import PROGRAM, SHA256, Artifact, ArtifactName, Program
from agent.node.facts import Arch
from agent.outside_json import json_value

if TYPE_CHECKING:  # eighty reasons, for those who are refused
    from agent.artifacts.refusals import Refusal

LINE_CAP = 1 << 20
"""Bytes of a job or an event at most."""
CHECKSUM_SUFFIX = ".sha256sum"
"""What upstream adds to an archive's name for the file that holds its digest."""
SEEN_CAP = 300
"""Characters of a piece of evidence at most."""

PROGRAMS: Mapping[ArtifactName, tuple[str, ...]] = {
    ArtifactName.NYDUS: ("nydusd", "nydus-image", "nydusctl", "nydusify", "nydus-overlayfs"),
    ArtifactName.SNAPSHOTTER: ("containerd-nydus-grpc", "nydus-overlayfs", "optimizer-nri-plugin", "optimizer-server"),
}
"""The programs that are looked for in an archive whose lock entry is still to be made."""


class SourceKind(enum.StrEnum):
    """Where archives come from."""

    RELEASE = "release"
    """Each from the URL that the lock names."""
    MIRROR = "mirror"
    """Each from a base URL, below which it lies under the last part of its URL in the lock."""
    DIRECTORY = "directory"
    """Files with the last part of the URL as name."""
    BUNDLE = "bundle"
    """One tar file that holds them, with their lock (`nydus-agent artifacts bundle`)."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where archives come from."""

    kind: SourceKind
    place: str = ""
    """The base URL, or the path of the directory or file. Empty for a release."""
    authorization: str = field(default="", repr=False)
    """A mirror's Authorization header. It goes to the mirror's own scheme, host and port, and nowhere else."""
    ca: str = ""
    """Certificates (PEM) of authorities that are trusted besides the system's."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to give up, and how much is too much. Seconds, bytes, counts."""

    connect_s: float = 10.0
    silence_s: float = 20.0
    """Without a single byte, header or body."""
    slow_bytes_s: int = 4096
    """A slower rate over `slow_window_s` is no download (60 MB would take four hours)."""
    slow_window_s: float = 60.0
    archive: int = 512 << 20
    """Of an archive whose size no lock names yet: ten times the largest release."""
    unpacked: int = 2 << 30
    ratio: int = 50
    """Unpacked to packed; programs come to 3 or 4. Counted from `ratio_from` unpacked bytes on."""
    ratio_from: int = 16 << 20
    members: int = 10_000
    redirects: int = 5
    ranges: int = 4
    piece: int = 4 << 20
    """One range request. The rest waits in memory: ranges x piece at most, twice."""
    tries: int = 4
    """Connections in a row that bring nothing; one that brings bytes starts the count anew."""
    pause_s: float = 0.5
    """Before another try; doubled each time."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be fetched."""

    artifacts: tuple[Artifact, ...]
    source: Source
    limits: Limits = field(default_factory=Limits)
    trust_release_checksum: bool = False
    """Sizes, digests and programs of `artifacts` are not known yet: the release's .sha256sum names the archive's
    digest, the programs are those of PROGRAMS, and what was seen is the answer.
    """
    archives_only: bool = False
    """The archives themselves are wanted (for a bundle). They are taken apart and checked all the same."""
    others: tuple[Artifact, ...] = ()
    """What else the lock names: where its bytes come instead, the refusal says so. Root's own."""

    def __post_init__(self) -> None:
        if len({artifact.name for artifact in self.artifacts}) != len(self.artifacts):
            raise ValueError("a job has at most one artifact of each name: fetch one architecture after the other")


@dataclass(frozen=True, slots=True)
class Local:
    """What root adds to a job whose archives are on this node, in whole or in part; they are in the files with it."""

    places: tuple[tuple[int, int], ...] = ()
    """(offset, length) of each archive in its file, in the job's order."""
    checksums: tuple[str, ...] = ()
    """What the .sha256sum beside each archive says, unread, where that is to be trusted."""
    begun: tuple[int, ...] = ()
    """Bytes of each archive that an earlier run has left, for archives that are fetched; the files that come with it
    hold them, and take what follows."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One of many; at most some per second."""

    artifact: str
    received: int
    total: int
    """0: not known."""
    rate: float
    """Bytes per second, of late."""
    note: str = ""
    """Why it goes on in another way than it began ("one connection instead of 4: ...")."""


@dataclass(frozen=True, slots=True)
class Done:
    """All of the job: the artifacts as they were seen, in the job's order."""

    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing of the job counts."""

    refusal: Refusal
    artifact: str
    """The name of the artifact in question."""
    seen: tuple[str, ...] = ()


Event: TypeAlias = Progress | Done | Failed


def outputs(job: Job) -> tuple[tuple[ArtifactName, str], ...]:
    """The files that the child writes, in the order in which it is handed them: (artifact, name)."""
    found: list[tuple[ArtifactName, str]] = []
    for artifact in job.artifacts:
        found += [(artifact.name, name) for name in wanted(job, artifact)]
        if job.archives_only:
            found.append((artifact.name, artifact.archive))
    return tuple(found)


def wanted(job: Job, artifact: Artifact) -> tuple[str, ...]:
    """The programs that are taken out of one archive."""
    if job.trust_release_checksum:
        return PROGRAMS[artifact.name]
    return tuple(program.name for program in artifact.programs)


def encode_job(job: Job, local: Local) -> bytes:
    """One line. It holds the credential: for the child's socket only."""
    return json.dumps({**asdict(replace(job, others=())), **asdict(local)}).encode() + b"\n"


def decode_job(line: bytes) -> tuple[Job, Local]:
    """What `encode_job` wrote."""
    told = json_value(line)
    job = Job(
        tuple(map(_artifact, told["artifacts"])),
        Source(**{**told["source"], "kind": SourceKind(told["source"]["kind"])}),
        Limits(**told["limits"]),
        trust_release_checksum=told["trust_release_checksum"],
        archives_only=told["archives_only"],
    )
    places = tuple((place[0], place[1]) for place in told["places"])
    return job, Local(places, tuple(told["checksums"]), tuple(told["begun"]))


def encode_event(event: Event) -> bytes:
    """One line."""
    return json.dumps({"event": type(event).__name__.lower(), **asdict(event)}).encode() + b"\n"


def decode_event(line: bytes) -> Event:
    """What a child wrote, which may be anything. Raises ValueError."""
    try:
        told = json_value(line)
        match told.pop("event"):
            case "progress":
                rate = float(told["rate"])
                return Progress(
                    harmless(_text(told, "artifact")), _count(told, "received"), _count(told, "total"),
                    rate if 0 <= rate < 1e15 else 0.0, harmless(_text(told, "note")),
                )  # fmt: skip
            case "done":
                return Done(tuple(_strict_artifact(one) for one in told["artifacts"]))
            case "failed":
                seen = tuple(harmless(str(piece)) for piece in list(told["seen"])[:8])
                from agent.artifacts.refusals import Refusal

                return Failed(Refusal(told["refusal"]), harmless(_text(told, "artifact")), seen)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    raise ValueError("unknown event")


def answer(job: Job, done: Done) -> tuple[Artifact, ...]:
    """What a child says that it has fetched, held against what it was told to fetch. Raises ValueError."""
    if job.trust_release_checksum:
        seen = [replace(one, size=0, sha256="", programs=()) for one in done.artifacts]
        kept = all({program.name for program in one.programs} <= set(PROGRAMS[one.name]) for one in done.artifacts)
        fits = kept and seen == [replace(one, size=0, sha256="", programs=()) for one in job.artifacts]
    else:
        fits = done.artifacts == job.artifacts
    if not fits:
        raise ValueError("it says that it has fetched something else than it was told to")
    return done.artifacts


def harmless(text: str) -> str:
    """A server's or a child's text for a terminal: one line, short, printable characters only."""
    shown = "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text[:SEEN_CAP])
    return shown if len(text) <= SEEN_CAP else f"{shown}…"


def _artifact(told: Mapping[str, Any]) -> Artifact:
    programs = tuple(Program(**one) for one in told["programs"])
    return Artifact(**{**told, "name": ArtifactName(told["name"]), "arch": Arch(told["arch"]), "programs": programs})


def _strict_artifact(told: Mapping[str, Any]) -> Artifact:
    artifact = _artifact(told)
    entries: tuple[Artifact | Program, ...] = (artifact, *artifact.programs)
    for entry in entries:
        size: object = entry.size
        plausible = isinstance(size, int) and size > 0 and SHA256.fullmatch(entry.sha256)
        if not plausible or not PROGRAM.fullmatch(entry.name):
            raise ValueError(f"implausible entry {harmless(str(entry.name))}")
    return artifact


def _text(told: Mapping[str, object], key: str) -> str:
    value = told[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is no text")
    return value


def _count(told: Mapping[str, object], key: str) -> int:
    value = told[key]
    if not isinstance(value, int) or value < 0:
        raise TypeError(f"{key} is no count")
    return value
