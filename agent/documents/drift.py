"""Drift: the plan of the accepted generation is not empty. What it is called, kind by kind, and what is known
for the next look. Pure.

Root's inspection finds it (`plan.repair` compares, and makes the step that mends it with the same look); the
daemon tells what root has found.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from agent.codec import Text, try_from_json


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
    subject: Text
    what: Text
    remedy: Remedy
    try_: Text
    evidence: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What root's inspection has found, for everyone to read; `at` in seconds since the epoch."""

    KIND: ClassVar = "Drift"
    at: float
    generation: int
    findings: tuple[Finding, ...]
    unseen: tuple[str, ...]
    """What could not be looked at, each with the reason."""
    gave_up: tuple[str, ...]
    """Repairs that were undone again and again, in words."""


_MOST = 100
"""Findings of a document that are read."""


def findings_of(listed: object) -> tuple[Finding, ...]:
    """The findings of a document; one that makes no sense to this version is left out."""
    found = [try_from_json(Finding, one) for one in listed[:_MOST]] if isinstance(listed, list) else []
    return tuple(one for one in found if one is not None)


@dataclass(frozen=True, slots=True)
class ExpectedProgram:
    """A program as it was when the node was changed last; `stamp` changes with every replacement."""

    name: str
    path: str
    version: str
    stamp: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class ExpectedUnitFile:
    """A unit file or drop-in of others that was there: the proof has passed with it."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What belongs to what was applied, as everyone may know it: no contents."""

    KIND: ClassVar = "Expected"
    generation: int
    files: tuple[str, ...] = ()
    """Files of ours and those with keys of ours, and the links that enable units."""
    unit_files: tuple[ExpectedUnitFile, ...] = ()
    programs: tuple[ExpectedProgram, ...] = ()


def ours(kind: Kind, subject: str, what: str) -> Finding:
    """A finding that a repair mends."""
    return Finding(kind, subject, what, Remedy.REPAIR, REPAIR_COMMAND)


def masked_finding(unit: str) -> Finding:
    """The unit is masked (systemctl(1)): a link to /dev/null lies in its place."""
    return Finding(
        Kind.UNIT_MASKED, unit, f"{unit} is masked: it cannot be started", Remedy.HAND,
        f"sudo systemctl unmask {unit}"
    )  # fmt: skip
