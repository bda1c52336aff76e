"""What a set is, and the record that it carries (set.json). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.artifacts.lock import Artifact, ArtifactName, Program
from agent.artifacts.selection import members, set_id
from agent.node.facts import Arch
from agent.outside_json import json_value

RECORD_VERSION = 1


@dataclass(frozen=True, slots=True)
class Source:
    """An artifact that programs of a set were taken from."""

    name: ArtifactName
    version: str
    sha256: str
    url: str


@dataclass(frozen=True, slots=True)
class InstalledSet:
    """A complete set in a store. `made` is when it was taken over, `origin` where it came from."""

    id: str
    directory: str
    arch: Arch
    programs: tuple[Program, ...]
    sources: tuple[Source, ...]
    origin: str
    made: datetime

    @property
    def size(self) -> int:
        """Bytes of its programs together."""
        return sum(program.size for program in self.programs)

    def path(self, program: str) -> str | None:
        """The path that configurations name: a link of ours beside the verified programs. None: not in this set."""
        return f"{self.directory}/{program}" if any(item.name == program for item in self.programs) else None

    def version(self, name: ArtifactName) -> str | None:
        """The release's tag of an artifact of this set; None: the set has none of it."""
        return next((source.version for source in self.sources if source.name == name), None)


def described(artifacts: Iterable[Artifact], store: str, origin: str, made: datetime) -> InstalledSet:
    """The set that these artifacts make in a store. Raises ArtifactError (NNA1108)."""
    chosen = tuple(artifacts)
    found = members(chosen)
    arch, programs = found[0].artifact.arch, tuple(member.program for member in found)
    name = set_id(arch, programs)
    sources = tuple(Source(item.name, item.version, item.sha256, item.url) for item in chosen)
    return InstalledSet(name, f"{store}/{name}", arch, programs, sources, origin, made.astimezone(UTC))


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a program's file is known again without reading it."""

    size: int
    mtime_ns: int
    inode: int


def record(installed: InstalledSet, stamps: Mapping[str, Stamp]) -> bytes:
    """The content of set.json."""
    content = {
        "version": RECORD_VERSION,
        "arch": str(installed.arch),
        "made": installed.made.isoformat(),
        "origin": installed.origin,
        "artifacts": [
            {"name": str(source.name), "version": source.version, "sha256": source.sha256, "url": source.url}
            for source in installed.sources
        ],
        "programs": {
            program.name: {"size": program.size, "sha256": program.sha256, **_stamp(stamps[program.name])}
            for program in installed.programs
        },
    }
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def _stamp(stamp: Stamp) -> dict[str, int]:
    return {"mtime_ns": stamp.mtime_ns, "inode": stamp.inode}


def read_record(content: bytes, name: str, store: str) -> tuple[InstalledSet, dict[str, Stamp]] | None:
    """A set by its set.json; None where that is not the record of a set of this name.

    The name is the digest of what the record says, so a record that was changed is none.
    """
    try:
        tree = json_value(content)
        programs = tuple(
            Program(key, int(item["size"]), str(item["sha256"])) for key, item in sorted(tree["programs"].items())
        )
        stamps = {
            key: Stamp(int(item["size"]), int(item["mtime_ns"]), int(item["inode"]))
            for key, item in tree["programs"].items()
        }
        sources = tuple(
            Source(ArtifactName(item["name"]), str(item["version"]), str(item["sha256"]), str(item["url"]))
            for item in tree["artifacts"]
        )
        found = InstalledSet(
            name, f"{store}/{name}", Arch(tree["arch"]), programs, sources, str(tree["origin"]),
            datetime.fromisoformat(tree["made"]).astimezone(UTC),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    if tree.get("version") != RECORD_VERSION or set_id(found.arch, programs) != name:
        return None
    return found, stamps


def latest_first(sets: Iterable[InstalledSet]) -> tuple[InstalledSet, ...]:
    """By the time at which they were made; those of one moment by their names, so that it is always the same order."""
    return tuple(sorted(sets, key=lambda item: (item.made, item.id), reverse=True))


def to_prune(sets: Iterable[InstalledSet], keep: int, needed: frozenset[str]) -> tuple[InstalledSet, ...]:
    """The sets that may go: all but those needed and the `keep` latest. Needed ones count among the latest."""
    return tuple(item for item in latest_first(sets)[max(keep, 0) :] if item.id not in needed)
