"""The plan that brings a node back to what it was after an earlier generation. Pure.

It is made of what the generations recorded and of what is on the disk, never of the configuration, which
wants something else by now. Each file becomes what it was then. Where others edited containerd's
configuration since, only the keys that our own changes touched go back, and what others wrote stays.

The order is that of an apply: every state that is gone back to has the snapshotter up before containerd needs
it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.config.model import Config, RestartPolicy
from agent.containerd import dropin
from agent.containerd.toml_edit import FAILURES, remove
from agent.containerd.view import KeyPath, at, dotted, leaves
from agent.facts import node
from agent.facts.node import Facts, FileFact, Unknown
from agent.plan import decide, images, invariants, mounts
from agent.plan.order import Changes, changes_of, is_shared, ordered, removal_of, write
from agent.steps import Plan, Refusal, RemoveFile, WriteFile, refuse


@dataclass(frozen=True, slots=True)
class Touched:
    """What our changes did to one file."""

    path: str
    changes: tuple[tuple[bytes | None, bytes | None], ...]
    """(found, made) of each change, oldest first; None: no such file."""
    kept: int
    """How many of them belong to the generation that is gone back to, and to those before."""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    """As they were then. What is there now keeps its own, but for our file beside containerd's root file."""

    @property
    def then(self) -> bytes | None:
        """The file after the generation that is gone back to."""
        return self.changes[self.kept - 1][1] if self.kept else self.changes[0][0]

    @property
    def latest(self) -> bytes | None:
        """What we made of it last."""
        return self.changes[-1][1]

    @property
    def unbroken(self) -> bool:
        """Since then nobody else changed it between two changes of ours."""
        made = self.then
        for found, after in self.changes[self.kept :]:
            if found != made:
                return False
            made = after
        return True


@dataclass(frozen=True, slots=True)
class _Back:
    """What becomes of one file."""

    step: WriteFile | RemoveFile | None
    warning: str = ""
    refusal: Refusal | None = None


def rollback(config: Config, facts: Facts, touched: Sequence[Touched], notes: Sequence[str] = ()) -> Plan:
    """The steps back. `config` is the one of the generation that is gone back to.

    Raises PlanError: NNA0313 where others' edits cannot be kept, NNA0303, what `decide` refuses, NNA0390 (our
    bug).
    """
    backs = [_back(config, facts, one) for one in touched]
    refuse(
        (
            *decide.binary_refusals(facts),
            *decide.choose(config, facts)[1],
            *images.root_refusals(config, facts),
            *(back.refusal for back in backs if back.refusal is not None),
        )
    )
    changes = changes_of(config.containerd, facts, [back.step for back in backs if back.step is not None])
    made = Plan(ordered(changes), tuple(_warnings(config, changes, backs)), tuple(notes))
    refuse(mounts.ending_refusals(made, facts))
    if any(back.warning for back in backs):
        # What others made of the file may stand in the way, and that is no bug of ours.
        unsafe = invariants.violations(made, facts, config.containerd.config)
        refuse([_cannot(config.containerd.config, unsafe[0])] if unsafe else [])
    invariants.check(made, facts, config.containerd.config)
    return made


def same(touched: Sequence[Touched]) -> bool:
    """Whether no file is other now than it was then, as far as our own changes are concerned."""
    return all(one.then == one.latest for one in touched)


def _back(config: Config, facts: Facts, one: Touched) -> _Back:
    fact = facts.file(one.path)
    if isinstance(fact, Unknown):
        return _Back(
            None, refusal=Refusal("NNA0303", f"{one.path} could not be read: {fact.reason}", "ls -l")
        )
    now = fact.content if fact is not None else None
    if now == one.then:
        return _Back(None)
    if now != one.latest and fact is not None and _known_by_mark(one.path) and not node.marked(fact.content):
        return _Back(None, f"{one.path} was replaced since by somebody else and is left alone")
    written_into = now != one.latest or not one.unbroken
    if fact is not None and is_shared(one.path) and not _known_by_mark(one.path) and written_into:
        return _merged(facts, fact, one)
    return _Back(_step(config, facts, one, one.then), _told(one, now))


def _told(one: Touched, now: bytes | None) -> str:
    """What others did to a file of ours, which is undone with the rest."""
    if now == one.latest:
        return ""
    if now is None:
        return f"{one.path} was removed since; it is put back"
    return f"{one.path} was edited since; the edit is replaced, and the new generation's record keeps it"


def _step(config: Config, facts: Facts, one: Touched, content: bytes | None) -> WriteFile | RemoveFile | None:
    """The step that makes the file hold `content`; `_back` has seen that it does not."""
    reason = "it was not there then" if content is None else "as it was then"
    if content is None:
        return removal_of(facts, one.path, reason)
    step = write(facts, one.path, content, reason)
    if step is not None and step.content_before is None:
        return WriteFile(
            one.path, content, one.mode, reason, "", None, uid=one.uid, gid=one.gid,
            owned=one.path != config.containerd.config,
        )  # fmt: skip
    # Our file may hold a copy of what others keep secret: it gets the rights that it had with this content.
    return replace(step, mode=one.mode) if step is not None and dropin.is_drop_in(one.path) else step


def _known_by_mark(path: str) -> bool:
    """Files that are ours while they carry our mark, and somebody's own where they do not."""
    read_at_each_pull = path.endswith("/hosts.toml") and not node.read_by_snapshotter(path)
    return read_at_each_pull or dropin.is_drop_in(path)


def _cannot(path: str, why: str) -> Refusal:
    return Refusal(
        "NNA0313", f"{path} was edited since, and cannot be brought back: {why}", "nydus-agent plan"
    )


def _merged(facts: Facts, fact: FileFact, one: Touched) -> _Back:
    """Others edited the file: only the keys that our changes touched go back."""
    try:
        undo, theirs = _undo(tomllib.loads(fact.content.decode()), one)
        text = remove(fact.content.decode(), undo, _parsed(one.then)) if undo else fact.content.decode()
    except FAILURES as error:
        return _Back(None, refusal=_cannot(one.path, str(error)))
    told = f"{one.path} was edited since: only ours goes back ({', '.join(map(dotted, undo)) or 'nothing'})"
    if theirs:
        told += f"; left, because others gave it another value: {', '.join(map(dotted, theirs))}"
    return _Back(write(facts, one.path, text.encode(), "what is ours in it as it was then"), told)


def _undo(now: Mapping[str, Any], one: Touched) -> tuple[dict[KeyPath, Any], tuple[KeyPath, ...]]:
    """Our keys with the values that they had then (None: not there), and those that others have changed
    since.
    """
    then: dict[KeyPath, Any] = {}
    latest: dict[KeyPath, Any] = {}
    for number, (found, made) in enumerate(one.changes):
        before, after = dict(leaves(_parsed(found))), dict(leaves(_parsed(made)))
        for path in before.keys() | after.keys():
            if before.get(path) == after.get(path):
                continue
            if number < one.kept:
                then[path] = after.get(path)
            else:
                then.setdefault(path, before.get(path))
            latest[path] = after.get(path)
    differ = {path: value for path, value in sorted(then.items()) if at(now, path) != value}
    # What is gone went with a file that somebody replaced as a whole; it is set again, as apply would.
    ours = {path: value for path, value in differ.items() if at(now, path) in (latest[path], None)}
    return ours, tuple(path for path in differ if path not in ours)


def _parsed(content: bytes | None) -> dict[str, Any]:
    """Raises ValueError."""
    return tomllib.loads(content.decode()) if content is not None else {}


def _warnings(config: Config, changes: Changes, backs: Sequence[_Back]) -> Iterator[str]:
    yield from (back.warning for back in backs if back.warning)
    if changes.containerd_reason and config.containerd.restart is RestartPolicy.NEVER:
        yield (
            "containerd has to restart, which is left to you (containerd.restart = never): nothing of this "
            "is done before `nydus-agent rollback --now`"
        )
