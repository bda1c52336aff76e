"""What was seen of the mirror and its surroundings, as frozen values: the only input of the health machine.

`started` is the monotonic time at which a probe began; a probe that began before a suspicion says nothing
about it.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import TypeAlias

from agent.facts.node import Listener


class Owner(enum.StrEnum):
    """Whose the mirror's port is. The kernel names the socket that would get a connection
    (SocketTables.find_listener), and that socket's user is judged.

    When dfdaemon dies, any local user can bind its port and feed bytes to nydusd. So a local mirror counts
    only while its listener belongs to root or the configured user.
    """

    OK = "ok"
    FOREIGN = "foreign"
    """Another user's socket would get the connections to the mirror."""
    NONE = "none"
    """Nobody listens here: the mirror is dead, remote, or behind a rewritten address (NodePort,
    ClusterIP).
    """
    UNKNOWN = "unknown"
    """The kernel did not tell, or what it told need not be where connections go (see `is_loopback`)."""


class Route(enum.StrEnum):
    """Where blob reads go."""

    MIRROR = "mirror"
    ORIGIN = "origin"


class Mode(enum.StrEnum):
    """What the node was set up for; UNKNOWN: nothing was applied yet, so nothing of ours uses the mirror."""

    FENCE = "fence"
    NATIVE = "native"
    UNKNOWN = "unknown"


class Failure(enum.StrEnum):
    """How a probe failed."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    CLOSED = "closed"  # the connection ended before a complete answer
    STATUS = "status"
    CONTENT = "content"
    SILENT = "silent"
    WANT = "want"  # the agent itself lacks a descriptor, a buffer or a port: that says nothing of the mirror


class Probe(enum.StrEnum):
    """Which of the two probes."""

    PING = "ping"
    CANARY = "canary"


class SymptomKind(enum.StrEnum):
    """What a real read met."""

    STATUS = "status"
    """nydusd got 4xx through the mirror (429 above all), from which it does not fall back."""
    REFUSED = "refused"
    """The mirror refused a read by its own word (403 of dfdaemon's block list): nydusd 2.4.3 and newer fail
    it at once.
    """
    DECODE = "decode"
    """Bytes that do not decode."""
    CUT = "cut"
    """A body that ended early."""
    FALLBACK = "fallback"
    """nydusd says that it fell back from the mirror: refused, reset, timeout or 5xx. That read is safe."""
    COUNTER = "counter"
    """The mirror's own counters of failures or of refusals by rate limit grew."""


@dataclass(frozen=True, slots=True)
class PingOk:
    """The mirror's ping_url answered 2xx or 3xx (what nydusd takes for healthy).

    Also sent for a request of a round that was given up as silent before, where its answer comes within
    `Policy.window_cap_s` after all (`latency_s` is then longer than the window was): such a mirror is slow,
    not hung.
    """

    started: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class PingFailed:
    """A whole round of pings failed."""

    started: float
    failure: Failure
    detail: str


@dataclass(frozen=True, slots=True)
class CanaryOk:
    """The canary came back through the mirror's data path: status, length and content right.

    Late ones as in PingOk.
    """

    started: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class CanaryFailed:
    """A canary did not come back as it must. SILENT: none of its staggered attempts did within the window."""

    started: float
    failure: Failure
    detail: str


@dataclass(frozen=True, slots=True)
class SentinelClosed:
    """The idle connection to the mirror's proxy port ended."""

    detail: str


@dataclass(frozen=True, slots=True)
class MirrorEnded:
    """The process that holds the mirror's listener has ended, or is frozen (cgroup.events, state T)."""

    detail: str


@dataclass(frozen=True, slots=True)
class OwnerSeen:
    """What the socket tables say of the mirror's port."""

    owner: Owner
    detail: str


@dataclass(frozen=True, slots=True)
class OriginSeen:
    """Whether the origins in use can be reached; None: asked, and no answer either way."""

    good: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class LoopLate:
    """A round that would have counted as silence, in which the agent itself was late."""

    late_s: float
    probe: Probe = Probe.PING


@dataclass(frozen=True, slots=True)
class AgentInWant:
    """The agent itself lacked a descriptor, a buffer or a port when it asked an origin, or when a canary came
    back to its endpoint. (Probes of the mirror say so as Failure.WANT.)
    """

    detail: str


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The machine slept: whatever was counted in succession is no longer."""

    slept_s: float


@dataclass(frozen=True, slots=True)
class Pinned:
    """The operator holds the route (`route: None` = the pin ended). `until`: when it ends, in monotonic
    seconds.
    """

    route: Route | None
    reason: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """What apply has set up, or that the fence cannot be used."""

    mode: Mode
    reason: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """A former run of the agent left a fence that is still up."""

    left_s: float


@dataclass(frozen=True, slots=True)
class FenceFailed:
    """The fence could not be raised or renewed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Symptom:
    """Evidence from real reads (nydusd's error lines, the mirror's own counters). `at`: when it happened, in
    monotonic seconds (the journal's __MONOTONIC_TIMESTAMP; the machine's `now` is of the same clock).
    """

    kind: SymptomKind
    detail: str
    at: float
    alone: bool = False
    """All that reads met of late came from one nydusd, and others run beside it."""


@dataclass(frozen=True, slots=True)
class SymptomsUnknown:
    """nydusd's lines cannot be read, or the journal dropped some: silence there says nothing. "" = readable
    (again); to be sent once reading has begun too.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event: TypeAlias = (
    PingOk | PingFailed | CanaryOk | CanaryFailed | SentinelClosed | MirrorEnded | OwnerSeen | OriginSeen
    | LoopLate | AgentInWant | ClockJump | Pinned | ModeChanged | Adopted | FenceFailed | Symptom
    | SymptomsUnknown | Tick
)  # fmt: skip


def judge(found: Listener | None, address: str, port: int, allowed: frozenset[int]) -> tuple[Owner, str]:
    """The owner of `address:port`, where `found` would get the connections to it; with the evidence in
    words.
    """
    if found is None:
        return Owner.NONE, f"nobody listens on {_bracketed(address)}:{port} here"
    held = f"{_bracketed(found.address)}:{found.port} is held by uid {found.uid}"
    return Owner.OK if found.uid in allowed else Owner.FOREIGN, held


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def is_loopback(address: str) -> bool:
    """Whether connections to the address go to a socket of this node for certain. To any other address (a
    NodePort, a ClusterIP) they may be rewritten before they reach the socket that the kernel names.
    """
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
