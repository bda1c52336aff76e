"""Which artifacts of a lock are meant, and which programs a set of them has. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.artifacts.lock import Artifact, ArtifactName, Lock, Program
from agent.artifacts.pairs import tag
from agent.errors import ArtifactError
from agent.node.facts import Arch


@dataclass(frozen=True, slots=True)
class Member:
    """A program of a set, and the artifact that it is taken from."""

    artifact: Artifact
    program: Program


def chosen(lock: Lock, arch: Arch, wanted: Mapping[ArtifactName, str | None]) -> tuple[Artifact, ...]:
    """The artifact for each wanted name: of that version ("2.4.4" and "v2.4.4" are the same), or the newest (None).

    Raises ArtifactError (NNA1107) with what the lock does hold.
    """
    return tuple(_one(lock, arch, name, version) for name, version in sorted(wanted.items()))


def _one(lock: Lock, arch: Arch, name: ArtifactName, version: str | None) -> Artifact:
    here = [artifact for artifact in lock.artifacts if (artifact.name, artifact.arch) == (name, arch)]
    fitting = [artifact for artifact in here if version is None or tag(version) == artifact.version]
    if fitting:
        return max(fitting, key=lambda artifact: age(artifact.version))
    wish = str(name) if version is None else f"{name} {tag(version)}"
    others = tuple(str(artifact) for artifact in lock.artifacts if artifact.name == name)
    raise ArtifactError(
        "NNA1107", f"the lock holds no {wish} for {arch}", seen=others,
        cause=f"it holds {len(others)} of {name}" if others else f"it holds nothing of {name}",
    )  # fmt: skip


def age(version: str) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
    """What tags are sorted by: the numbers, then whether it is a release (v2.4.0-rc.1 is older than v2.4.0)."""
    numbers, _, rest = version.removeprefix("v").partition("-")
    return _integers(numbers), not rest, _integers(rest)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"[0-9]+", text)))


def members(artifacts: Iterable[Artifact]) -> tuple[Member, ...]:
    """The programs of a set, by name. Both archives bring a nydus-overlayfs: the snapshotter's is taken, because the
    snapshotter writes what it reads.

    Raises ArtifactError (NNA1108) for artifacts that do not make one set: two of a name, or of two architectures.
    """
    chosen_ = sorted(artifacts, key=lambda artifact: artifact.name)
    names = [artifact.name for artifact in chosen_]
    if len(set(names)) != len(names) or len({artifact.arch for artifact in chosen_}) != 1:
        raise ArtifactError("NNA1108", "these artifacts do not make one set", seen=tuple(map(str, chosen_)),
                            cause="a set has one architecture and at most one artifact of each name")  # fmt: skip
    found = {program.name: Member(artifact, program) for artifact in chosen_ for program in artifact.programs}
    return tuple(found[name] for name in sorted(found))


def set_id(arch: Arch, programs: Iterable[Program]) -> str:
    """The sha256 that names a set: of its architecture and of its programs' names and digests, as canonical JSON.

    Versions, URLs and times are not in it: the same bytes are the same set, wherever they came from.
    """
    content = {"arch": str(arch), "programs": sorted([program.name, program.sha256] for program in programs)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
