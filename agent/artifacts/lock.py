"""The lock file: which upstream archives this node may take programs from, to the byte.

Upstream signs nothing (one .sha256sum beside each archive), so what an operator has seen once is pinned here: size and
sha256 of each archive and of each program in it. `serial` grows with every lock, so an old lock that somebody plays
back is seen; `expires` ends a lock that somebody keeps from being replaced (The Update Framework, "rollback" and
"indefinite freeze"). Pure.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.artifacts.names import ArtifactName as ArtifactName
from agent.artifacts.table import Table
from agent.config.fields import Complaints, as_toml, spell
from agent.errors import ArtifactError, Problem
from agent.node.facts import Arch

VERSION = 1
SIZE_CAP = 1 << 20
"""Bytes; a lock with two artifacts for two architectures has 4,000."""
ARCHIVE_CAP = 1 << 30
"""Bytes that an archive, and the programs of one, may have: nydus-static is 40 MB, its programs are 110."""
COUNT_CAP = 64
"""Artifacts in a lock, programs in an artifact."""
SERIAL_CAP = 9_999_999_999
"""A date and two digits. A serial beyond it would shut out every later lock."""
CLOCK_TOLERANCE = timedelta(days=1)
"""A lock may be younger than this node's clock by so much: clocks differ, and time zones are set wrongly."""

SHA256 = re.compile(r"[0-9a-f]{64}")
PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_RELEASE = re.compile(r"v(?:[0-9]{1,9}\.){2}[0-9]{1,9}(?:[-.][0-9A-Za-z.-]{1,64})?")
_MINIMUM = re.compile(r"(?:[0-9]{1,9}\.){2}[0-9]{1,9}(?:[~.+-][0-9A-Za-z.~+-]{1,64})?")
"""Of bounded length, because their parts become numbers: int() takes no more than 4300 digits."""
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+/(?:[A-Za-z0-9._~+%-]+/)*[A-Za-z0-9][A-Za-z0-9._+-]*")
"""No credentials, no query and no fragment: the last part is the archive's name, for a mirror or a directory too."""


PROGRAMS, RECORD = "programs", "set.json"
"""What a set has beside a link for each program: the directory of the programs themselves, and what it is."""
RESERVED = frozenset({PROGRAMS, RECORD})
"""Names that no program may have."""
_ARCHITECTURES = (Arch.AMD64, Arch.ARM64)


@dataclass(frozen=True, slots=True)
class Program:
    """One program of an archive: the basename of its member, its bytes, and the sha256 of them in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """One archive of one release for one architecture. `version` is the release's tag ("v2.4.4")."""

    name: ArtifactName
    version: str
    arch: Arch
    url: str
    size: int
    sha256: str
    programs: tuple[Program, ...]

    @property
    def archive(self) -> str:
        """The archive's file name, which ends its URL."""
        return self.url.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.arch})"


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lock file. Times are UTC."""

    serial: int
    made: datetime
    expires: datetime
    minimum_agent: str
    artifacts: tuple[Artifact, ...] = ()


def parse(content: bytes, path: str) -> Lock:
    """The lock in `content`, which was read from `path`.

    Raises ArtifactError: NNA1101 where it is not TOML at all, NNA1102 with every problem at once.
    """
    complaints = Complaints(path)
    lock = _lock(Table(_toml(content, path), "", complaints))
    if not complaints.problems:
        _look_for_twins(lock, complaints)
    if complaints.problems:
        count = len(complaints.problems)
        what = f"{path} is wrong ({count} problem{'s' if count > 1 else ''}), nothing was touched"
        raise ArtifactError("NNA1102", what, problems=tuple(complaints.problems))
    return lock


def _toml(content: bytes, path: str) -> dict[str, object]:
    try:
        if len(content) > SIZE_CAP:
            raise ValueError(f"it is longer than {SIZE_CAP >> 20} MiB")
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8 and not TOML are both
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ArtifactError("NNA1101", f"{path} is not a lock file, nothing was touched", cause=cause) from None


def _lock(table: Table) -> Lock:
    if table.number("version", 0, 1 << 31) != VERSION and not table.is_wrong("version"):
        table.complain("version", "is a format that this version of the agent does not know",
                       f"write version = {VERSION}, or upgrade the package")  # fmt: skip
    lock = Lock(
        serial=table.number("serial", 1, SERIAL_CAP),
        made=table.moment("made"),
        expires=table.moment("expires"),
        minimum_agent=table.text("minimum_agent", _MINIMUM, "0.1.0"),
        artifacts=tuple(_artifact(item) for item in table.tables("artifact", COUNT_CAP, optional=True)),
    )
    if lock.expires <= lock.made and not table.is_wrong("made", "expires"):
        table.complain("expires", "is not later than `made`", "make the lock anew: nydus-agent artifacts lock")
    table.end("version", "serial", "made", "expires", "minimum_agent", "artifact")
    return lock


def _artifact(table: Table) -> Artifact:
    name = table.choice("name", ArtifactName)
    programs = tuple(
        Program(item.name, item.number("size", 1, ARCHIVE_CAP), item.text("sha256", SHA256, "64 hexadecimal digits"))
        for item in table.named("programs", PROGRAM, RESERVED, COUNT_CAP)
    )
    artifact = Artifact(
        name=name or ArtifactName.NYDUS,
        version=table.text("version", _RELEASE, "the release's tag, such as v2.4.4"),
        arch=table.choice("arch", Arch, _ARCHITECTURES) or Arch.OTHER,
        url=table.text("url", _URL, "https://HOST/PATH/ARCHIVE, without credentials and query"),
        size=table.number("size", 1, ARCHIVE_CAP),
        sha256=table.text("sha256", SHA256, "64 hexadecimal digits"),
        programs=programs,
    )
    if name and not table.is_wrong("programs") and name.main_program not in {item.name for item in programs}:
        table.complain("programs", f"holds no {name.main_program}", f"is this an archive of {name}?")
    if sum(item.size for item in programs) > ARCHIVE_CAP:
        table.complain("programs", f"are more than {ARCHIVE_CAP >> 30} GiB together", "leave out what is not needed")
    table.end("name", "version", "arch", "url", "size", "sha256", "programs")
    return artifact


def _look_for_twins(lock: Lock, complaints: Complaints) -> None:
    """Two entries for one thing would let the order decide what is installed."""
    seen: dict[tuple[str, str, str], int] = {}
    for index, artifact in enumerate(lock.artifacts):
        first = seen.setdefault((artifact.name, artifact.version, artifact.arch), index)
        if first != index:
            complaints.add(f"artifact[{index}]", str(artifact), f"is there already, as artifact[{first}]", "keep one")


def render(lock: Lock) -> bytes:
    """The file that `parse` reads back to the same lock."""
    lines = [
        f"version = {VERSION}", f"serial = {lock.serial}", f"made = {_moment(lock.made)}",
        f"expires = {_moment(lock.expires)}", f"minimum_agent = {spell(lock.minimum_agent)}",
    ]  # fmt: skip
    for artifact in lock.artifacts:
        lines += ["", "[[artifact]]"]
        lines += [f"{key} = {spell(str(getattr(artifact, key)))}" for key in ("name", "version", "arch", "url")]
        lines += [f"size = {artifact.size}", f"sha256 = {spell(artifact.sha256)}", "[artifact.programs]"]
        lines += [
            f"{spell(program.name)} = {{ size = {program.size}, sha256 = {spell(program.sha256)} }}"
            for program in artifact.programs
        ]
    return ("\n".join(lines) + "\n").encode()


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a lock that is well-formed is not used: the catalogue's code of that class, and the words."""

    code: str
    problem: Problem


def checks(lock: Lock, path: str, *, now: datetime, floor: int, agent_version: str) -> tuple[Objection, ...]:
    """Everything that speaks against using this lock here and now; empty: it may be used.

    `floor` is the highest serial that this node has accepted (0: none yet), `agent_version` this program's version.
    """
    found: list[Objection] = []

    def object_(code: str, key: str, value: object, reason: str, action: str) -> None:
        found.append(Objection(code, Problem(path, key, as_toml(value), reason, action)))

    if now >= lock.expires:
        object_("NNA1103", "expires", _moment(lock.expires), f"the lock has expired (it is {_moment(now)} here)",
                "get a newer lock, or make one: nydus-agent artifacts lock")  # fmt: skip
    if now < lock.made - CLOCK_TOLERANCE:
        object_("NNA1104", "made", _moment(lock.made),
                f"lies in the future of this node's clock ({_moment(now)}): whether it has expired cannot be told",
                "set the clock: timedatectl")  # fmt: skip
    if lock.serial < floor:
        object_("NNA1105", "serial", lock.serial, f"is older than {floor}, which this node has accepted before",
                "get the newer lock, or give --allow-older where going back is meant")  # fmt: skip
    if _numbers(agent_version) < _numbers(lock.minimum_agent):
        object_("NNA1106", "minimum_agent", lock.minimum_agent, f"this is nydus-node-agent {agent_version}",
                "upgrade nydus-node-agent first")  # fmt: skip
    return tuple(found)


def demand(lock: Lock, path: str, *, now: datetime, floor: int, agent_version: str) -> None:
    """Raises ArtifactError with the first objection's code and all of them as problems."""
    objections = checks(lock, path, now=now, floor=floor, agent_version=agent_version)
    if objections:
        problems = tuple(objection.problem for objection in objections)
        cause = problems[0].reason if len(problems) == 1 else f"{len(problems)} things speak against it"
        raise ArtifactError(objections[0].code, f"{path} cannot be used, nothing was touched",
                            cause=cause, problems=problems, try_=problems[0].action)  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    """(0, 1, 0) of "0.1.0~dev": what comes after the numbers does not count."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", re.split(r"[~+-]", version)[0]))
