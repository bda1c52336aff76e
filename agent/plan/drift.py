"""Drift: what others have changed of what was applied. Pure: what was applied and what is there in, findings
out.

The daemon judges the files that it may read, root all of them, by the same functions here: so both say the
same. The daemon is given digests only (`Expected` as it is published), root has the records of the
generations.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent import paths
from agent.plan import own
from agent.plan.containerd_keys import KeyPath, at, dotted, leaves

IMPORTS: KeyPath = ("imports",)
VERSION: KeyPath = ("version",)


HIDDEN = "-"
"""The digest of a whole file that only root may read: what is in it, only root judges."""


class Kind(enum.StrEnum):
    """Everything that counts as drift.

    Values are an interface: conditions, metrics and documents carry them.
    """

    FILE_EDITED = "file-edited"
    FILE_REMOVED = "file-removed"
    FILE_MADE = "file-made"
    """A file that was taken away is there again, with our mark."""
    FILE_TAKEN_OVER = "file-taken-over"
    """Another file lies in the place of ours: our mark is gone, or it is a link."""
    FILE_RIGHTS = "file-rights"
    KEYS_LOST = "keys-lost"
    KEYS_CONTRADICTED = "keys-contradicted"
    IMPORT_LOST = "import-lost"
    UNIT_OVERRIDDEN = "unit-overridden"
    UNIT_MASKED = "unit-masked"
    UNIT_DISABLED = "unit-disabled"
    UNIT_DOWN = "unit-down"
    UNIT_NOT_READ = "unit-not-read"
    """systemd has not read the unit since its file was changed."""
    PROGRAM_REPLACED = "program-replaced"
    PROGRAM_OUTDATED = "program-outdated"
    """What runs is not what lies on the disk any more."""
    CONTAINERD_OUTDATED = "containerd-outdated"
    """containerd runs on another configuration than its files hold."""
    NYDUSD_DIFFERS = "nydusd-differs"
    PACKAGE_EDITED = "package-edited"


class Remedy(enum.StrEnum):
    """What mends a finding."""

    REPAIR = "repair"
    """It carries our mark or record, and nobody contradicts: `nydus-agent repair`, by itself where `repair =
    "own"`.
    """
    APPLY = "apply"
    """Something that a plan is made for has changed: `nydus-agent apply`."""
    HAND = "hand"
    """Somebody else's, who wants something else: only people can decide that."""


REPAIR_COMMAND = "sudo nydus-agent repair"
APPLY_COMMAND = "sudo nydus-agent apply"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was applied; `subject` is a path, a unit or a program."""

    kind: Kind
    subject: str
    what: str
    remedy: Remedy
    try_: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """A whole file of ours. `sha256` "": it must not be there."""

    path: str
    sha256: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    marked: bool = True
    """Its first line carries our mark (JSON has no comments)."""


@dataclass(frozen=True, slots=True)
class ExpectedKey:
    """A key that we have set in somebody's file. `sha256` is of its value (of one entry of a list:
    `member`).
    """

    path: str
    key: KeyPath
    sha256: str
    member: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedProgram:
    """A program as it was when the node was changed last; `stamp` changes with every replacement."""

    name: str
    path: str
    version: str
    stamp: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What was applied, as everyone may know it: paths, digests and rights, no contents."""

    generation: int
    files: tuple[ExpectedFile, ...] = ()
    keys: tuple[ExpectedKey, ...] = ()
    links: tuple[str, ...] = ()
    """Links that enable units."""
    unit_files: tuple[tuple[str, str], ...] = ()
    """(path, digest) of others' unit files and drop-ins that were there: the proof has passed with them."""
    programs: tuple[ExpectedProgram, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file as the generations have left it."""

    path: str
    content: bytes | None
    """None: it was taken away."""
    mode: int
    uid: int
    gid: int
    whole: bool
    """Ours from the first byte to the last; otherwise only `keys` of it are."""
    keys: Mapping[KeyPath, object] = field(default_factory=dict)

    @property
    def marked(self) -> bool:
        """Its first line carries our mark."""
        return self.content is not None and own.marked(self.content)


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it is now."""

    sha256: str
    mode: int
    uid: int
    gid: int
    marked: bool
    empty: bool = False
    link: str = ""
    """Where it leads, where it is a symbolic link."""


def digest_of(value: object) -> str:
    """Of a TOML value, whatever its spelling."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_findings(expected: ExpectedFile, seen: Seen | None) -> Iterator[Finding]:
    """What is wrong with a whole file of ours."""
    path = expected.path
    if seen is None:
        if expected.sha256:
            yield _ours(Kind.FILE_REMOVED, path, f"{path} was removed")
        return
    if not expected.sha256:
        if seen.marked:
            yield _ours(Kind.FILE_MADE, path, f"{path} is there again, although it was taken away")
        return
    if path == paths.SNAPSHOTTER_UNIT_FILE and seen.link == "/dev/null":
        yield masked_finding(paths.SNAPSHOTTER_UNIT)
    elif seen.link:
        what = f"{path} is a link to {seen.link}; applied was a file"
        yield Finding(Kind.FILE_TAKEN_OVER, path, what, Remedy.HAND, f"ls -l {path}")
    elif expected.sha256 not in (seen.sha256, HIDDEN):
        # An empty file is nobody's work: an editor or a full disk has left it.
        if expected.marked and not seen.marked and not seen.empty:
            what = f"{path} was replaced by somebody else's: its first line does not carry our mark any more"
            yield Finding(Kind.FILE_TAKEN_OVER, path, what, Remedy.HAND, APPLY_COMMAND)
        else:
            yield _ours(Kind.FILE_EDITED, path, f"{path} was edited after it was applied")
    rights = (seen.mode, seen.uid, seen.gid)
    if not seen.link and rights != (expected.mode, expected.uid, expected.gid):
        was = f"{expected.mode:04o} {expected.uid}:{expected.gid}"
        what = f"{path} has mode and owner {seen.mode:04o} {seen.uid}:{seen.gid}; applied were {was}"
        yield _ours(Kind.FILE_RIGHTS, path, what)


def masked_finding(unit: str) -> Finding:
    """The unit is masked (systemctl(1)): a link to /dev/null lies in its place."""
    return Finding(
        Kind.UNIT_MASKED, unit, f"{unit} is masked: it cannot be started", Remedy.HAND,
        f"sudo systemctl unmask {unit}"
    )  # fmt: skip


def _ours(kind: Kind, subject: str, what: str) -> Finding:
    return Finding(kind, subject, what, Remedy.REPAIR, REPAIR_COMMAND)


def keys_after(
    held: Mapping[KeyPath, object], before: Mapping[str, Any], after: Mapping[str, Any]
) -> Mapping[KeyPath, object]:
    """Our keys in somebody's file after one more change of ours, that made `after` of `before`; of a list,
    what we have added. `version` says what the other keys mean, so it must stay too.
    """
    now, was = dict(leaves(after, empty=True)), dict(leaves(before, empty=True))
    found = {key: value for key, value in held.items() if key in now}
    for key, value in now.items():
        earlier = was.get(key)
        if isinstance(value, list) and isinstance(earlier, list):
            added = [one for one in value if one not in earlier]
            if added:
                found[key] = added
        elif key not in was or value != earlier:
            found[key] = value
    return {**found, VERSION: now[VERSION]} if found and VERSION in now else found


def expected_keys(path: str, keys: Mapping[KeyPath, object]) -> Iterator[ExpectedKey]:
    """As they are published."""
    for key, value in keys.items():
        if isinstance(value, list):
            yield from (ExpectedKey(path, key, digest_of(one), member=True) for one in value)
        else:
            yield ExpectedKey(path, key, digest_of(value))


def key_findings(
    path: str,
    keys: Sequence[ExpectedKey],
    document: Mapping[str, Any] | None,
    applied: Mapping[KeyPath, object] | None = None,
) -> Iterator[Finding]:
    """What is wrong with our keys in somebody's file; at most one finding a file. `document` None: no such
    file.

    `applied` has the keys' values, where the caller knows them: then both values are told.
    """
    if document is None:
        if keys:
            what = f"{path} was removed, and with it our {len(keys)} keys"
            yield Finding(Kind.KEYS_LOST, path, what, Remedy.APPLY, APPLY_COMMAND)
        return
    lost = [one for one in keys if _state(one, document) == "lost"]
    other = [one for one in keys if _state(one, document) == "other"]
    if other:
        names = _names(other)
        what = f"{path} says otherwise than what was applied: {names}"
        told = tuple(_both(one, document, applied) for one in other) if applied is not None else ()
        lost_too = (f"gone besides: {_names(lost)}",) if lost else ()
        yield Finding(
            Kind.KEYS_CONTRADICTED, path, what, Remedy.HAND, "sudo nydus-agent plan", (*told, *lost_too)
        )
    elif lost and all(one.key == IMPORTS for one in lost):
        what = f"{path} does not import our file any more"
        yield _ours(Kind.IMPORT_LOST, path, what)
    elif lost:
        yield _ours(Kind.KEYS_LOST, path, f"{path} has lost what was applied: {_names(lost)}")


def _state(expected: ExpectedKey, document: Mapping[str, Any]) -> str:
    value = at(document, expected.key)
    if value is None:
        return "lost"
    if expected.member:
        held = isinstance(value, list) and any(digest_of(one) == expected.sha256 for one in value)
        return "" if held else "lost"
    return "" if digest_of(value) == expected.sha256 else "other"


def _both(
    expected: ExpectedKey, document: Mapping[str, Any], applied: Mapping[KeyPath, object] | None
) -> str:
    was = json.dumps((applied or {}).get(expected.key), default=str)
    return (
        f"{dotted(expected.key)} = {json.dumps(at(document, expected.key), default=str)}, applied was {was}"
    )


def _names(keys: Sequence[ExpectedKey], most: int = 4) -> str:
    names = list(dict.fromkeys(dotted(one.key) for one in keys))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def link_findings(link: str, *, there: bool) -> Iterator[Finding]:
    """A link that makes a unit start at boot."""
    if not there:
        unit = link.rpartition("/")[2]
        yield _ours(Kind.UNIT_DISABLED, unit, f"{unit} does not start at boot any more: {link} is gone")
