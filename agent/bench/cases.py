"""The six cases of the page's chart, and which of them a run was, told by bytes and not by what was
intended.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

_ALMOST_ALL = 0.9
_NEXT_TO_NOTHING = 0.05


class Case(enum.StrEnum):
    """A way to start, in the order of the page's chart."""

    OCI = "oci-cold"
    NYDUS = "nydus-cold"
    MIRROR = "mirror-cold"
    REMOTE = "remote-peer"
    LOCAL = "local-peer"
    CACHE = "nydus-cache"

    @property
    def label(self) -> str:
        """As the chart's legend has it."""
        return _TITLES[self]

    @property
    def meaning(self) -> str:
        """What is cold and where the data comes from."""
        return _MEANINGS[self]

    @property
    def through_mirror(self) -> bool:
        """Whether its data comes through Dragonfly."""
        return self in (Case.MIRROR, Case.REMOTE, Case.LOCAL)


_TITLES = {
    Case.OCI: "OCI cold",
    Case.NYDUS: "Nydus cold",
    Case.MIRROR: "Nydus + Dragonfly cold",
    Case.REMOTE: "hit on a remote peer",
    Case.LOCAL: "hit on the local peer",
    Case.CACHE: "Nydus cache",
}
_MEANINGS = {
    Case.OCI: "the plain image on overlayfs, pulled as a whole from the origin",
    Case.NYDUS: "the nydus image without a cache, read from the origin",
    Case.MIRROR: "the nydus image without a cache, read through Dragonfly, which has nothing of it",
    Case.REMOTE: "the nydus image without a cache, read through Dragonfly, which gets it from another peer",
    Case.LOCAL: "the nydus image without a cache, read through Dragonfly, whose peer on this node has it",
    Case.CACHE: "the nydus image with its cache on this node; a new container",
}


@dataclass(frozen=True, slots=True)
class Counted:
    """The bytes of one run, each by the program that knows them; None: it did not tell."""

    pulled: int
    """Blobs that containerd had to have before the start, compressed, by the image's manifest."""
    fetched: int | None = None
    """What nydusd asked its backend for (its metric read_amount_total)."""
    source: int | None = None
    """What dfdaemon brought from the origin (download_traffic, BACK_TO_SOURCE), for everybody, also ahead of
    need.
    """
    remote: int | None = None
    """... from other peers (REMOTE_PEER)."""
    local: int | None = None
    """... from its own store (LOCAL_PEER)."""
    received: int | None = None
    """What the node's interfaces received meanwhile, for everybody, loopback left out; None: one of them
    is gone.
    """
    unknown: str = ""
    """Why one of these that can be told at other times cannot be told of this run."""


@dataclass(frozen=True, slots=True)
class CaseRun:
    """One start; times in seconds from the beginning of the pull."""

    pull_s: float
    output_s: float | None
    """The first output; None: it said nothing."""
    ready_s: float
    counted: Counted


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The runs of one case, or why there are none."""

    case: Case
    runs: tuple[CaseRun, ...] = ()
    not_run: str = ""


def came_from(counted: Counted) -> Case | str:
    """Which case a run through the mirror with an empty nydus cache was; else why it was none."""
    if not counted.fetched:
        return _untold(counted) if counted.fetched is None else "nydusd fetched nothing"
    if counted.source is None or counted.remote is None or counted.local is None:
        return counted.unknown or "the mirror's counters were not read"
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
        return _untold(counted)
    return "" if counted.fetched <= _NEXT_TO_NOTHING * cold else f"nydusd fetched {mb(counted.fetched)} again"


def _untold(counted: Counted) -> str:
    return counted.unknown or "nydusd did not tell what it fetched"


def from_origin(case: Case, counted: Counted) -> int | None:
    """Bytes that the origin had to send for the start, as far as they can be told."""
    match case:
        case Case.OCI:
            return counted.pulled
        case Case.NYDUS:
            return None if counted.fetched is None else counted.pulled + counted.fetched
        case Case.CACHE:
            return counted.fetched
        case _:
            return counted.source


def from_mirror(case: Case, counted: Counted) -> int | None:
    """Bytes that the mirror gave to nydusd."""
    return counted.fetched if case.through_mirror else 0


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
