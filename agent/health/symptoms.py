"""What real reads tell. nydusd saves a read by itself from a refusal, a timeout or 5xx (FALLBACK), but not
from 4xx, wrong bytes or a cut body: there the container gets EIO unless nydusd's next retry, 0.4 to 1 s
later, meets the fence.

A refusal by the mirror's own word (403, REFUSED) is not retried at all: reads that are on their way are lost.
It fences like the others, unless the operator wants it honoured: then it is told, and moves nothing.

So one such symptom fences, and the suspicion lasts for its whole time, whatever a canary says: canaries are
few and small, and a mirror that limits its requests refuses the many. If reads fail in the same way again
soon after, it is an outage. If they go on failing behind the fence, the origin gives the same, and the mirror
is not to blame: the penalty for what reads alone have raised is given back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import assert_never

from agent.health.evidence import Symptom, SymptomKind
from agent.health.policy import Policy
from agent.health.state import Accuser, AskCanary, AskOwner, Cause, HealthState, RaisedFence, State
from agent.health.transitions import Asked, Charge, accuse, origins_fault

_WHAT = {
    SymptomKind.STATUS: "the mirror refuses reads",
    SymptomKind.REFUSED: "the mirror refuses reads by its own rules",
    SymptomKind.DECODE: "the mirror gives bytes that do not decode",
    SymptomKind.CUT: "the mirror cuts reads short",
    SymptomKind.FALLBACK: "reads fall back to the origin",
    SymptomKind.COUNTER: "the mirror counts failures, and nydusd's lines cannot be read",
}


def symptom(state: State, event: Symptom, now: float, policy: Policy) -> Asked:
    """What follows from one symptom."""
    if event.kind is SymptomKind.REFUSED and policy.honour_refusals:
        return state, ()
    if state.fence is not None:
        return _behind_the_fence(state, state.fence, event, now, policy), ()
    match event.kind:
        case SymptomKind.STATUS | SymptomKind.REFUSED | SymptomKind.DECODE | SymptomKind.CUT:
            refuted = event.kind in state.symptom_refuted and now < state.symptom_refuted_until
            return (state, ()) if refuted or event.at <= state.lifted else _blame(state, event, now, policy)
        case SymptomKind.FALLBACK:
            return _fell_back(state, event, now, policy)
        case SymptomKind.COUNTER:
            if event.at <= state.lifted:
                return state, ()
            return _blame(state, event, now, policy) if state.symptoms_unknown else (state, (AskCanary(),))
        case _:
            assert_never(event.kind)


def _blame(state: State, event: Symptom, now: float, policy: Policy) -> Asked:
    kinds = frozenset({event.kind})
    goes_on = state.health_state is HealthState.SUSPECT
    again = event.kind in state.blamed and now - state.data_cleared <= policy.symptom_window_s
    blamed = state.blamed | kinds if goes_on else kinds
    unblamed = state.unblamed if goes_on or again else state.flap
    safe = event.kind is SymptomKind.FALLBACK
    accuser = Accuser.FALLBACK if safe else Accuser.READS
    # These reads are lost at once: no fence of a moment saves the next one.
    alone = event.alone and event.kind not in (SymptomKind.REFUSED, SymptomKind.DECODE)
    charge = Charge(accuser, Cause.SYMPTOM, _WHAT[event.kind], event.detail, held=not safe, alone=alone)
    return accuse(replace(state, blamed=blamed, unblamed=unblamed), charge, now, policy)


def _fell_back(state: State, event: Symptom, now: float, policy: Policy) -> Asked:
    if event.at <= state.lifted + policy.fallback_settle_s:
        return state, ()
    two = event.at - state.fallback_at <= policy.fallback_pair_s
    seen = replace(state, fallback_at=event.at)
    if two or (state.ping_ok is False and not state.ping_refuted):
        return _blame(seen, event, now, policy)
    return seen, (AskCanary(), AskOwner())


def _behind_the_fence(state: State, fence: RaisedFence, event: Symptom, now: float, policy: Policy) -> State:
    """Only what nydusd's retries cannot explain any more counts, and only of the kinds that have raised the
    fence: an origin that is overrun after the mirror's death must not excuse the mirror.
    """
    same = state.cause is Cause.SYMPTOM and event.kind in state.blamed - {
        SymptomKind.FALLBACK,
        SymptomKind.COUNTER,
    }
    if not same or event.at <= fence.since + policy.symptom_origin_after_s:
        return state
    met = (*fence.met, event.kind)
    if len(met) < policy.symptom_origin_count:
        return replace(state, fence=replace(fence, met=met))
    still = state.symptom_refuted if now < state.symptom_refuted_until else frozenset()
    refuted = replace(
        state, fence=replace(fence, met=()), held=False,
        symptom_refuted=still | frozenset(met), symptom_refuted_until=now + policy.symptom_refuted_s,
    )  # fmt: skip
    return replace(refuted, flap=state.unblamed) if origins_fault(refuted, now) else refuted


# nydusd's lines: which texts are symptoms.
#
# The texts are those of nydusd v2.2.0 to v2.4.4 (storage/src/backend/{mod,connection}.rs,
# storage/src/cache/mod.rs, storage/src/meta/mod.rs there). The source file and line that nydusd prints before
# them change with every build, so only the text counts, from its beginning: what a registry or an image name
# can put into a line comes later in it. From v2.4.3 on a URL stands in the middle (a registry's redirect may
# have chosen it): it has no blanks, so it cannot pass for what follows it. It may be as long as journald lets
# a line be (48 KiB).
#
# Left out on purpose: "Proxy server is not healthy" and "Detected proxy unhealthy" (nydusd's own ping, native
# mode); "all … mirror servers failed" (also said while a mirror is merely disabled); "slow request"; a second
# line about the same failure ("proxy rate limited the request", "retry via …").

_PAINT = re.compile(r"\x1b\[[0-9;]*m")
_HEADER = re.compile(r"\[\d{4}-[^]]*\] (?:TRACE|DEBUG|INFO|WARN|ERROR) (?:\[[^]]*\] )?")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One text of nydusd."""

    kind: SymptomKind
    text: re.Pattern[str]
    means: str
    """For people. Of the line itself only a blob's name is repeated, because URLs in it may be signed."""


def _pattern(kind: SymptomKind, text: str, means: str) -> Pattern:
    return Pattern(kind, re.compile(text), means)


_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NOT_OURS = rf'(?!(?:[^"]|{_QUOTED})*?(?:ConnectionAborted|error: "[^"\\]*\(os error 103\)" \}}))'
"""A connection that was destroyed on this node (sock_diag(7): ECONNABORTED): that is what the fence does.
Only where the program's own words stand: what is in quotation marks, such as a URL, a registry or an image
may have chosen."""
_REFUSED = "a read was answered with an error status"
_SHORT = "the body of a read ended early, or did not go on"
_GARBLED = "what a read got does not decode"
_BLOCKED = "403 of the mirror's own, not tried again"
_AROUND = "a read went around the mirror, which refused, reset, timed out or answered 5xx"
_ATTEMPT = (
    r"backend request: [A-Z]{1,16} (?P<url>\S+), chunk: [0-9]{1,20} bytes, proxy: (?:true|false), "
    r"proxy sdk: (?:true|false), takes \S{1,32}, error: "
)
_BLOB = re.compile(
    r"https?://(?P<registry>[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?)"
    r"/v2/(?P<repository>[a-z0-9][a-z0-9._/-]{0,254})/blobs/(?P<digest>sha256:[0-9a-f]{64})"
)
"""A blob in its registry, as image names are spelled; all else (a redirect to a store, whose URL may be
signed) is not named."""

PATTERNS = (
    # Up to v2.4.2, each time before a retry (WARN).
    _pattern(SymptomKind.STATUS, r"Read from backend failed: Registry\(Request\((?:ErrorWithMsg|Format)\(",
             _REFUSED),
    _pattern(SymptomKind.CUT, rf"Read from backend failed: Registry\(Transport\({_NOT_OURS}", _SHORT),
    # The same, for the last attempt: the second line of "Error:" (v2.2, ERROR).
    _pattern(SymptomKind.STATUS, r"\tRegistry\(Request\((?:ErrorWithMsg|Format)\(", _REFUSED),
    _pattern(SymptomKind.CUT, rf"\tRegistry\(Transport\({_NOT_OURS}", _SHORT),
    # From v2.4.3 on, after each attempt (ERROR). "proxy: false" is no sign that the origin was asked: its
    # last retry is marked so and goes through the proxy all the same (backend/request.rs). What a dfdaemon
    # marks as its own (X-Dragonfly-Error-Type: proxy) is `Request(Proxy(…))`: 403 is given up at once, 429
    # and others are tried again.
    _pattern(SymptomKind.REFUSED, rf"{_ATTEMPT}Request\(Proxy\(Forbidden\(", _BLOCKED),
    _pattern(SymptomKind.STATUS, rf"{_ATTEMPT}Request\(Proxy\((?:TooManyRequests|Common)\(", _REFUSED),
    _pattern(SymptomKind.STATUS, rf"{_ATTEMPT}Registry\((?:Request\((?:ErrorWithMsg|Format)|Proxy)\(",
             _REFUSED),
    _pattern(SymptomKind.STATUS, rf"{_ATTEMPT}Registry\(Common\(\"stream_read failed, status: ", _REFUSED),
    _pattern(SymptomKind.CUT, rf"{_ATTEMPT}Registry\(Transport\({_NOT_OURS}", _SHORT),
    # All versions (ERROR; the last one WARN, where digests are checked).
    _pattern(SymptomKind.DECODE, r"failed to decompress (?:blob meta data|chunk): ", _GARBLED),
    _pattern(SymptomKind.DECODE, r"failed to read data from backend, ", _GARBLED),
    # All versions (WARN), once for each request that went to the origin after all. v2.4.3 says why before.
    _pattern(SymptomKind.FALLBACK, r"Request proxy server failed, fallback to original server", _AROUND),
    # The mirrors dialect: up to v2.2.5, and up to v2.3.4.
    _pattern(SymptomKind.FALLBACK, r"request mirror server failed, mirror: ", _AROUND),
    _pattern(SymptomKind.FALLBACK, r"\[mirror\] request failed, server: ", _AROUND),
)  # fmt: skip


_FAILED = re.compile(rf"Read from backend failed: |{_ATTEMPT}")
"""For whatever reason: an origin that refuses the connection is no symptom of the mirror's, and is told so
too."""


def classify(line: str) -> Pattern | None:
    """What a line of nydusd says about a read; None: nothing."""
    text = _text(line)
    for pattern in PATTERNS:
        if found := pattern.text.match(text):
            blob = _BLOB.fullmatch(found.groupdict().get("url") or "")
            return pattern if blob is None else replace(pattern, means=f"{pattern.means}: {_name(blob)}")
    return None


def failed(line: str) -> bool:
    """Whether it says that an attempt to read has failed, wherever that was."""
    return _FAILED.match(_text(line)) is not None


def _text(line: str) -> str:
    plain = _PAINT.sub("", line)
    header = _HEADER.match(plain)
    return plain[header.end() :] if header else plain


def _name(blob: re.Match[str]) -> str:
    return f"{blob['registry']}/{blob['repository']}, blob {blob['digest']}"
