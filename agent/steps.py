"""The closed set of things that may be done to a node, and the reasons why none may. Each step says what it
does, why, and what it costs.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from agent.errors import PlanError


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write a whole file atomically; parents are made 0755 where missing (and recorded).

    `expect_sha256` is the digest of the content seen when the facts were taken, "" for "was not there":
    anything else at the time of writing aborts the step. `content_before` feeds the diff and the undo.
    """

    path: str
    content: bytes
    mode: int
    reason: str
    expect_sha256: str
    content_before: bytes | None
    mode_before: int = 0o644
    uid: int = 0
    gid: int = 0
    owned: bool = True
    """Ours from the first byte (removal deletes it), or another owner's file that we edited (removal restores
    it).
    """


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Remove a file that is still what was seen."""

    path: str
    reason: str
    expect_sha256: str
    content_before: bytes
    mode_before: int
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class CheckContainerdConfig:
    """`containerd config dump` on the candidates, and our expected values in its output, before they go
    live.
    """

    path: str
    """The root file, whether it changes or not."""
    candidate: bytes
    """What it will be."""
    expect: tuple[tuple[str, str], ...]
    """(dotted key path, value) pairs that must be in the dump."""
    reason: str = "a candidate that containerd cannot load must never go live"
    beside: tuple[tuple[str, bytes], ...] = ()
    """(path, content) of drop-ins that go live with it."""
    trial: bytes | None = None
    """The root's candidate with imports that name the candidates of drop-ins; None: `candidate` itself."""
    program: str = "containerd"


class UnitVerb(enum.StrEnum):
    """What is done to a unit."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    ENABLE = "enable"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class UnitStep:
    """One job of systemd, awaited. `cost` says in words what the node's users notice."""

    unit: str
    verb: UnitVerb
    reason: str
    cost: str = ""


@dataclass(frozen=True, slots=True)
class Former:
    """What the snapshotter's unit was before our first change: somebody's own may have been there."""

    active: bool = False
    enabled: bool = False


@dataclass(frozen=True, slots=True)
class ReloadUnits:
    """systemctl daemon-reload."""

    reason: str


@dataclass(frozen=True, slots=True)
class AwaitSnapshotter:
    """Wait until the snapshotter answers Stat of a random key on its own socket (NotFound = alive)."""

    address: str
    deadline_s: float = 20.0
    reason: str = "containerd must never need a snapshotter that does not answer"


@dataclass(frozen=True, slots=True)
class AwaitContainerd:
    """Wait until containerd answers on its socket, with another pid than before the restart."""

    address: str
    deadline_s: float = 30.0
    reason: str = "a restart counts only when a new process answers"


@dataclass(frozen=True, slots=True)
class UnpackImage:
    """Have our snapshotter unpack an image that every pod starts with, before the kubelet needs it.

    From the layers that are here, without a network; where they are not (any more), by pulling it again
    through CRI for `runtime` ("": the default one). Nothing is undone: what was unpacked is the
    snapshotter's, and stays in its root.
    """

    name: str
    digest: str
    address: str  # containerd's
    runtime: str = ""
    complete: bool = True
    reason: str = "no pod starts without it, and containerd pulls nothing that it knows"


Step: TypeAlias = (
    WriteFile
    | RemoveFile
    | CheckContainerdConfig
    | UnitStep
    | ReloadUnits
    | AwaitSnapshotter
    | AwaitContainerd
    | UnpackImage
)


def describe(step: Step) -> str:
    """What a step does, in a few words."""
    match step:
        case WriteFile():
            verb = "create" if step.content_before is None else "replace" if step.owned else "edit"
            return f"{verb} {step.path}"
        case RemoveFile():
            return f"remove {step.path}"
        case CheckContainerdConfig():
            return f"let containerd check the new {' with '.join((step.path, *dict(step.beside)))}"
        case UnitStep():
            return f"{step.verb.value} {step.unit}"
        case ReloadUnits():
            return "reload systemd's unit files"
        case AwaitSnapshotter():
            return f"wait for the snapshotter, at most {step.deadline_s:g} s"
        case AwaitContainerd():
            return f"wait for containerd, at most {step.deadline_s:g} s"
        case UnpackImage():
            here, again = "from the layers that are here", "by pulling it again: its layers were discarded"
            return f"let the snapshotter unpack {step.name} {here if step.complete else again}"
        case _ as unreachable:
            assert_never(unreachable)


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered steps; what `plan` prints is the object that `apply` runs. Empty: nothing to do."""

    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Choices and their reasons (mode fence because ..., registry X not accelerated because ...)."""

    @property
    def empty(self) -> bool:
        """Nothing to do."""
        return not self.steps


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason: its code in the catalogue, what is wrong, and one command or action to try."""

    code: str
    reason: str
    try_: str = ""


def refuse(refusals: Sequence[Refusal]) -> None:
    """Raise PlanError with all reasons; the first one gives the code and the way out.

    Nothing where there are none.
    """
    if not refusals:
        return
    first = refusals[0]
    others = tuple(f"[{one.code}] {one.reason}" for one in refusals[1:])
    raise PlanError(
        first.code, "no plan can be made for this node", cause=first.reason, seen=others, try_=first.try_
    )  # fmt: skip
