"""The six cases of the page's chart, and which of them a run was, told by bytes and not by what was
intended.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

_ALMOST_ALL = 0.9
_NEXT_TO_NOTHING = 0.05
_UNTOLD = "nydusd did not tell what it fetched, or was started anew"


class Case(enum.StrEnum):
    """A way to start, in the order of the page's chart."""

    label: str
    """As the chart's legend has it."""
    meaning: str
    """What is cold and where the data comes from."""

    def __new__(cls, value: str, label: str, meaning: str) -> Case:
        """A member with its two texts."""
        made = str.__new__(cls, value)
        made._value_, made.label, made.meaning = value, label, meaning
        return made

    OCI = "oci-cold", "OCI cold", "the plain image on overlayfs, pulled as a whole from the origin"
    NYDUS = "nydus-cold", "Nydus cold", "the nydus image without a cache, read from the origin"
    MIRROR = (
        "mirror-cold", "Nydus + Dragonfly cold",
        "the nydus image without a cache, read through Dragonfly, which has nothing of it",
    )  # fmt: skip
    REMOTE = (
        "remote-peer", "hit on a remote peer",
        "the nydus image without a cache, read through Dragonfly, which gets it from another peer",
    )  # fmt: skip
    LOCAL = (
        "local-peer", "hit on the local peer",
        "the nydus image without a cache, read through Dragonfly, whose peer on this node has it",
    )  # fmt: skip
    CACHE = (
        "nydus-cache", "Nydus cache", "the nydus image with its cache on this node; a new container",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Counted:
    """The bytes of one run, each by the program that knows them; None: it did not tell."""

    pulled: int
    """Blobs that containerd had to have before the start, compressed, by the image's manifest."""
    fetched: int | None = None
    """What nydusd asked its backend for (its metric read_amount_total)."""
    source: int | None = None
    """What dfdaemon brought from the origin (BACK_TO_SOURCE), for everybody, also ahead of need."""
    remote: int | None = None
    """... from other peers (REMOTE_PEER)."""
    local: int | None = None
    """... from its own store (LOCAL_PEER)."""
    received: int | None = None
    """What the node's interfaces received meanwhile, for everybody, loopback left out; None: one of them
    is gone.
    """


@dataclass(frozen=True, slots=True)
class CaseRun:
    """One start; times in seconds from the beginning of the pull."""

    pull_s: float
    output_s: float | None
    """The first output; None: it said nothing."""
    ready_s: float
    counted: Counted = Counted(0)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The runs of one case, or why there are none."""

    case: Case
    runs: tuple[CaseRun, ...] = ()
    not_run: str = ""


def came_from(counted: Counted) -> Case | str:
    """Which case a run through the mirror with an empty nydus cache was; else why it was none."""
    if not counted.fetched:
        return _UNTOLD if counted.fetched is None else "nydusd fetched nothing"
    if counted.source is None or counted.remote is None or counted.local is None:
        return "dfdaemon did not tell what it brought, or was started anew"
    new, need = counted.source + counted.remote, _ALMOST_ALL * counted.fetched
    if new + counted.local < need:
        return f"only {mb(new + counted.local)} of {mb(counted.fetched)} came through the mirror"
    if new <= _NEXT_TO_NOTHING * counted.fetched:
        return Case.LOCAL
    if counted.source >= _ALMOST_ALL * new:
        return Case.MIRROR
    if counted.remote >= _ALMOST_ALL * new:
        return Case.REMOTE
    return f"it came from the origin ({mb(counted.source)}) and from other peers ({mb(counted.remote)})"


def why_never(case: Case, runs: Sequence[CaseRun]) -> str:
    """Why no run was of a case that only the bytes tell from that of these runs."""
    new = sum((run.counted.source or 0) + (run.counted.remote or 0) for run in runs)
    other = sum((run.counted.remote if case is Case.REMOTE else run.counted.source) or 0 for run in runs)
    share = f"{mb(other)} of the {mb(new)} that dfdaemon brought in {len(runs)} cold starts came from"
    if case is Case.REMOTE:
        return f"no other peer had the image's data: {share} other peers, the rest from the origin"
    return f"other peers had the image's data each time: {share} the origin, the rest from them"


def is_cached(counted: Counted, cold: int) -> str:
    """ "" where nydusd had next to all of the `cold` bytes that it fetches without a cache; else why not."""
    if counted.fetched is None:
        return _UNTOLD
    return "" if counted.fetched <= _NEXT_TO_NOTHING * cold else f"nydusd fetched {mb(counted.fetched)} again"


def from_origin(case: Case, counted: Counted) -> int | None:
    """Bytes that the origin had to send for the start, as far as they can be told."""
    if case is Case.OCI:
        return counted.pulled
    if case is Case.NYDUS:
        return None if counted.fetched is None else counted.pulled + counted.fetched
    return counted.fetched if case is Case.CACHE else counted.source


def from_mirror(case: Case, counted: Counted) -> int | None:
    """Bytes that the mirror gave to nydusd."""
    return counted.fetched if case in (Case.MIRROR, Case.REMOTE, Case.LOCAL) else 0


def mb(size: int) -> str:
    """Bytes for people, in millions as the origin's bill counts them."""
    return f"{size / 1e6:.1f} MB"


SOURCES = (
    "from the origin: OCI cold by the manifest; Nydus cold by the manifest and by nydusd's read_amount_total "
    "while the fence kept the mirror away; through the mirror by dfdaemon's download_traffic, "
    "BACK_TO_SOURCE, which counts also what dfdaemon fetches ahead and what others read meanwhile",
    "from the mirror: nydusd's read_amount_total, where dfdaemon's download_traffic grew by as much",
)
"""Who counted what: belongs under every table of these bytes."""
