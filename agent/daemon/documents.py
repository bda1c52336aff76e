"""What root's verbs have left for the daemon: the mode (effective.json), the operator's pin (pin.json), the
last proof (proof.json). Only files of root count, links are not followed, and each is read again only when it
changed.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agent.codec import DocumentError, from_json
from agent.config.forms import endpoint_of
from agent.documents.status import CheckState, EffectiveDocument, PinStatus, ProofDocument
from agent.durations import in_words
from agent.facts.node import Moment
from agent.health.evidence import Mode, Pinned, Route
from agent.outside_json import json_object

_SIZE_CAP = 1 << 20
_LARGEST = 1e15  # beyond every time in seconds; infinity and NaN are beyond it too

RELEASED = "auto"
"""The route in a pin.json that ends a pin: with whoever asked for that."""

Loose: TypeAlias = Mapping[str, object]


class Document:
    """One JSON file. `owner` is the uid that it must belong to."""

    def __init__(self, path: str, owner: int = 0) -> None:
        self._path = path
        self._owner = owner
        self._stamp: tuple[int, int, int] | None = None
        self._content: Loose | None = None
        self.problem = ""
        """Why the file does not count, where it is there and does not."""

    @property
    def last(self) -> Loose | None:
        """The object as it was the last time that somebody looked."""
        return self._content

    def load(self) -> Loose | None:
        """The object as it is now; None where it is not there or does not count."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            self._stamp, self._content, self.problem = None, None, ""
            return None
        except (OSError, ValueError) as error:  # ValueError: its path is no file name
            self._content, self.problem = None, getattr(error, "strerror", "") or str(error)
            return None
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            self._stamp = stamp
            self._content, self.problem = self._read()
        return self._content

    def _read(self) -> tuple[Loose | None, str]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return None, error.strerror or str(error)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != self._owner:
            os.close(descriptor)  # a directory too, of which no file can be made
            return None, f"is not a regular file of uid {self._owner}"
        with open(descriptor, "rb") as file:
            content = file.read(_SIZE_CAP + 1)
        try:
            return json_object(content, _SIZE_CAP), ""
        except ValueError:
            return None, "is not a JSON object of at most 1 MiB"


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` has set up."""

    mode: Mode
    reason: str
    mirror_url: str = ""
    ping_url: str = ""
    origins: tuple[str, ...] = ()


_WATCHED = ("switch", "reasons", "mirror_url", "ping_url", "origins")
"""The fields of effective.json that matter here: nothing else in it may keep the daemon from its mode."""


def applied(effective: Loose | None) -> Applied:
    """From effective.json; its absence means that nothing was applied."""
    if effective is None:
        return Applied(Mode.UNKNOWN, "nothing was applied on this node yet (nydus-agent apply)")
    try:
        found = from_json(EffectiveDocument, {key: effective[key] for key in _WATCHED if key in effective})
        for key, url in (("mirror_url", found.mirror_url), ("ping_url", found.ping_url)):
            if url and endpoint_of(url) is None:
                raise DocumentError(key, "is no URL")
    except DocumentError as error:
        return Applied(Mode.UNKNOWN, f"effective.json: {error}")
    # The first reason is that of the switch; the others are told by `status`, which reads the same document.
    reason = _text(next(iter(found.reasons), "applied"))
    mode = {"fence": Mode.FENCE, "native": Mode.NATIVE}.get(found.switch, Mode.UNKNOWN)
    if mode is Mode.UNKNOWN:
        reason = f"effective.json names the unknown switch {found.switch!r}"
    return Applied(mode, reason, found.mirror_url, found.ping_url, found.origins)


def pin(document: Loose | None, moment: Moment) -> PinStatus | None:
    """From pin.json; None where there is none, it has ended, or it makes no sense.

    It ends at `until` by the wall clock, or when `seconds` have passed since it was made, whichever is first:
    a clock that is stepped back must not keep reads from the mirror. In the boot in which it was made the
    boot clock tells what has passed; in a later one at least that boot's own time has.
    """
    if document is None:
        return None
    route, until = document.get("route"), _number(document.get("until"))
    if route not in (Route.MIRROR.value, Route.ORIGIN.value) or until is None:
        return None
    at = _number(document.get("at"))
    seconds = _number(document.get("seconds"))
    if seconds is None:
        seconds = until - at if at is not None else until - moment.now
    left_s = min(until - moment.now, seconds - _passed_s(document, moment))
    if not left_s > 0:
        return None
    return PinStatus(
        Route(str(route)), moment.now + left_s, _text(document.get("reason")), _text(document.get("by")),
        at if at and at > 0 else None,
    )  # fmt: skip


def pinned(held: PinStatus, now: float) -> Pinned:
    """As the health machine is told of it; `now` is monotonic."""
    return Pinned(held.route, held.words, until=now + held.until - time.time())


def pin_change(
    before: PinStatus | None, after: PinStatus | None, document: Loose | None, moment: Moment
) -> str:
    """What to log where the pin is another than before: who asked for it, or how it came to its end."""
    if after is not None:
        asked = _number(document.get("seconds")) if document is not None else None
        whole = f"for {in_words(asked)}, " if asked is not None else ""
        left = in_words(math.ceil(after.until - moment.now))
        return f"reads are pinned to the {after.route} {whole}{after.words}; it ends in {left}"
    if before is None:
        return "no pin"
    head = f"the pin to the {before.route}, {before.words},"
    if document is None:
        return f"{head} was taken away"
    if document.get("route") == RELEASED:
        return f"{head} was released by {_text(document.get('by')) or 'root'}"
    return f"{head} has ended"


def _passed_s(document: Loose, moment: Moment) -> float:
    """Seconds that have passed since the pin was made, at least."""
    boot, boottime = _text(document.get("boot")), _number(document.get("boottime"))
    if not boot or not moment.boot:
        return 0.0
    if boot != moment.boot:
        return moment.up_s or 0.0
    return 0.0 if boottime is None else max(0.0, moment.boottime - boottime)


@dataclass(frozen=True, slots=True)
class LastProof:
    """The last proof, as far as readiness needs it."""

    at: float | None = None
    """Seconds since the epoch; None: nobody has run the checks yet."""
    problem: str = "nobody has run the checks yet"
    """The first check that failed, or that could not be told; "" = none."""
    failed: bool = False
    """Whether it failed."""


def proof_of(document: Loose | None) -> LastProof:
    """From proof.json."""
    if document is None:
        return LastProof()
    try:
        proof = from_json(ProofDocument, document)
    except DocumentError as error:
        return LastProof(problem=_text(f"proof.json cannot be understood: {error}"))
    for state in (CheckState.FAILED, CheckState.UNKNOWN):
        for check in proof.checks:
            if check.state is state:
                problem = _text(f"check {check.number} ({check.name}) {state}: {check.detail}")
                return LastProof(proof.at, problem, state is CheckState.FAILED)
    return LastProof(proof.at, "")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _LARGEST:
        return None
    return float(value)


def _text(value: object) -> str:
    """At most 1,000 characters, of which each can be written anywhere: half a surrogate pair or a control
    character, which a shell's argument may hold, is spelled out.
    """
    return (
        "".join(one if one.isprintable() else _spelled(one) for one in value[:1000])
        if isinstance(value, str)
        else ""
    )


def _spelled(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
