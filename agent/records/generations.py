"""Accepted states: one JSON file per generation, with the undo records of all its steps.

A generation's file appears by rename: that is the moment at which a transaction is accepted. Files that
hold what was there before may hold secrets (containerd's registry credentials), so they are 0600. None is
ever thrown away: the oldest record of a file is what removal puts back. Beside them: what is recorded of a
change that waits for its confirmation, and of one that was taken back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from agent import __version__, paths
from agent.codec import ALWAYS, from_document, to_document
from agent.config.accepted import restored
from agent.config.model import Config
from agent.documents.status import EffectiveDocument
from agent.errors import ApplyError
from agent.facts.node import Effective, Moment
from agent.outside_json import json_value
from agent.ports import Files
from agent.records import journal, json_files
from agent.steps import Former, UnitVerb, WriteFile


@dataclass(frozen=True, slots=True)
class DoneStep:
    """A step that was carried out, and what undoes it."""

    what: str
    undo: journal.Undo


@dataclass(frozen=True, slots=True)
class Generation:
    """One accepted state."""

    KIND: ClassVar = "Generation"
    number: int
    id: str  # of the transaction; a journal with this id is one that was accepted
    at: float  # seconds since the epoch
    verb: str  # "apply", "rollback" or "remove"
    steps: tuple[DoneStep, ...]
    effective: Effective | None
    versions: Mapping[str, str] = field(default_factory=dict, metadata=ALWAYS)
    """Program -> version, as they were seen."""
    mirror: tuple[str, str] = field(default=("", ""), metadata=ALWAYS)
    """The mirror's url and ping_url that were applied: what the daemon probes and fences."""
    to: int | None = None
    """Of a rollback: the generation whose state this one is."""
    config: Mapping[str, object] | None = None
    """What the node was changed for (`agent.config.accepted`); None: a removal."""
    agent: str = field(default=__version__, metadata=ALWAYS)
    """The agent's version."""

    @property
    def state(self) -> int:
        """The generation that first had this state."""
        return self.number if self.to is None else self.to

    def files(self) -> Mapping[str, str]:
        """path -> SHA-256 of what this generation made of a file ("" = removed)."""
        return {
            one.undo.path: one.undo.after_sha256
            for one in self.steps
            if isinstance(one.undo, journal.PutBack)
        }


@dataclass(frozen=True, slots=True)
class FileHistory:
    """What our changes did to one file."""

    path: str
    changes: tuple[tuple[int, journal.PutBack], ...]
    """(generation, its undo record), the oldest first."""

    @property
    def first(self) -> journal.PutBack:
        """Knows the file as it was before we touched it."""
        return self.changes[0][1]

    @property
    def unbroken(self) -> bool:
        """Every generation found what the one before it had written: nobody else changed the file between."""
        backs = [back for _, back in self.changes]
        return all(found.before == made.after for made, found in itertools.pairwise(backs))


def numbers(files: Files) -> tuple[int, ...]:
    """The numbers of all generations, ascending."""
    stems = (
        name.removesuffix(".json") for name in files.listdir(paths.GENERATIONS) if name.endswith(".json")
    )
    return tuple(sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit()))


def newest(files: Files) -> Generation | None:
    """The newest generation; None where nothing was applied. Raises ApplyError NNA0410, FileError."""
    known = numbers(files)
    return read(files, known[-1]) if known else None


def applied(files: Files) -> Generation | None:
    """The newest generation, None where nothing was applied or all was removed again."""
    last = newest(files)
    return None if last is None or last.verb == "remove" else last


def hold(files: Files) -> str:
    """Why no change may begin by itself; "" where one may. A rollback holds until somebody says `apply`.

    Raises ApplyError NNA0410, FileError.
    """
    last = applied(files)
    if last is None or last.verb != "rollback":
        return ""
    return f"generation {last.number} is a rollback to {last.to}, which holds until nydus-agent apply"


def in_force(files: Files, present: Config | None) -> Config:
    """The configuration that the node was changed for: `present` is newer where it was not applied, or rolled
    back; None where it cannot be had.

    Raises ApplyError NNA0410, FileError.
    """
    last = applied(files)
    return restored(present, last.config if last is not None else None)


def history(files: Files, *, before: int | None = None) -> tuple[Generation, ...]:
    """All generations since the last removal, oldest first; with `before`, as it was when this number was not
    there.
    """
    since: list[Generation] = []
    for number in numbers(files):
        if number == before:
            break
        generation = read(files, number)
        since = [] if generation.verb == "remove" else [*since, generation]
    return tuple(since)


def read(files: Files, number: int) -> Generation:
    """One generation. Raises ApplyError NNA0410 where its file is damaged, FileError."""
    fact = files.read(_path(number))
    try:
        if fact is None:
            raise ValueError("it is not there")
        return from_document(Generation, json_value(fact.content))
    except (ValueError, TypeError) as error:
        raise ApplyError(
            "NNA0410", f"the record of generation {number} is damaged", cause=f"{_path(number)}: {error!r}",
            try_=f"ls -l {paths.GENERATIONS}",
        ) from None  # fmt: skip


def save(files: Files, generation: Generation) -> None:
    """Accept: after this the transaction is not undone any more. Raises FileError."""
    document = {**to_document(generation), "files": dict(generation.files())}
    json_files.replace(files, _path(generation.number), document, found=None, mode=0o600)


def withdraw(files: Files, number: int) -> None:
    """Take back a generation whose `save` failed when its file was there already. Raises FileError."""
    json_files.drop(files, _path(number))


def publish(files: Files, accepted: Generation) -> None:
    """Write effective.json where it does not say so already; a removal removes it.

    Reasons alone (they may hold figures of this very minute) are no news.
    """
    chosen = accepted.effective
    if chosen is None:
        json_files.drop(files, paths.EFFECTIVE)
        return
    fact = files.read(paths.EFFECTIVE)
    before = json_files.parsed(fact)
    url, ping_url = accepted.mirror
    document = EffectiveDocument(
        accepted.number, accepted.at, chosen.switch, chosen.dialect, chosen.use_http, chosen.scheme,
        chosen.reasons, chosen.not_accelerated, url, ping_url, accepted.to, _texts(before, "origins"),
    )  # fmt: skip
    ignored = ["generation", "at", "reasons", "origins"]
    if _hosts(_texts(before, "not_accelerated")) == _hosts(chosen.not_accelerated):
        ignored.append("not_accelerated")
    json_files.update(files, paths.EFFECTIVE, to_document(document), fact, ignored=ignored)


_MOST_ORIGINS = 32


def note_origins(files: Files, hosts: Sequence[str]) -> None:
    """Add registries that nydusd reads from to effective.json: the daemon asks them before it fences the
    mirror. They are only ever added, up to _MOST_ORIGINS: each is asked by every node. Raises FileError.
    """
    fact = files.read(paths.EFFECTIVE)
    before = json_files.parsed(fact)
    known = _texts(before, "origins")
    new = [host for host in dict.fromkeys(hosts) if host and host not in known]
    if before and new:
        most = [*known, *new][:_MOST_ORIGINS]
        json_files.update(files, paths.EFFECTIVE, {**before, "origins": most}, fact)


def _texts(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = document.get(key)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def _hosts(not_accelerated: Iterable[str]) -> set[str]:
    return {text.partition(": ")[0] for text in not_accelerated}


def file_histories(generations: Sequence[Generation]) -> tuple[FileHistory, ...]:
    """Every file that they have touched, in the order in which files were first touched."""
    found: dict[str, list[tuple[int, journal.PutBack]]] = {}
    for generation in generations:
        for one in generation.steps:
            if isinstance(one.undo, journal.PutBack):
                found.setdefault(one.undo.path, []).append((generation.number, one.undo))
    return tuple(FileHistory(path, tuple(changes)) for path, changes in found.items())


def records(generations: Sequence[Generation]) -> tuple[WriteFile, ...]:
    """Our writes for the removal plan, one per file, in the order in which they were first made.

    Where others edited a file between two generations, the content is the one that we wrote first: so the
    file counts as edited, and only what is ours is taken out of it.
    """
    found = []
    for one in file_histories(generations):
        first = one.first
        content = one.changes[-1][1].after if one.unbroken else first.after
        if content is None:
            continue
        step = WriteFile(
            one.path, content, first.mode, "as applied", first.before_sha256, first.before, first.mode,
            first.uid, first.gid, first.owned,
        )  # fmt: skip
        found.append(step)
    return tuple(found)


def former_unit(generations: tuple[Generation, ...]) -> Former:
    """What the snapshotter's unit was before the first generation.

    Our first change leaves alone only what is as we want it: without a record it ran, or was enabled,
    already.
    """
    steps = generations[0].steps if generations else ()
    backs = [one.undo for one in steps if isinstance(one.undo, journal.UnitBack)]
    ours = [back for back in backs if back.unit == paths.SNAPSHOTTER_UNIT]
    started = next((back for back in ours if back.verb in (UnitVerb.START, UnitVerb.RESTART)), None)
    enabled = next((back for back in ours if back.verb is UnitVerb.ENABLE), None)
    return Former(
        active=started is None or started.was_active, enabled=enabled is None or enabled.was_enabled
    )


def _path(number: int) -> str:
    return f"{paths.GENERATIONS}/{number}.json"


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that waits for its confirmation."""

    KIND: ClassVar = "Unconfirmed"
    id: str
    """Of the transaction."""
    generation: int
    """The number that it has once it was accepted."""
    seconds: int
    """How long it waits, from before its first act."""
    at: float
    boot: str
    boottime: float
    """When that began, by each clock."""
    pid: int
    """The process that carries it out."""

    def same_boot(self, now: Moment) -> bool:
        """Whether its alarm can still be there."""
        began = 0.0 if now.up_s is None else now.boottime - now.up_s
        return self.boot == now.boot and self.boottime >= began

    def left_s(self, now: Moment) -> float:
        """Seconds until it is taken back; by the boot's clock, so that no stepped clock moves it."""
        return max(0.0, -self.late_s(now))

    def late_s(self, now: Moment) -> float:
        """Seconds since it should have been taken back; negative before."""
        if self.same_boot(now):
            return now.boottime - self.boottime - self.seconds
        return now.boottime if now.up_s is None else now.up_s


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What became of a change that was not confirmed."""

    KIND: ClassVar = "TakenBack"
    id: str
    generation: int
    at: float
    newest: int
    """The newest generation after that; 0: none."""
    why: str
