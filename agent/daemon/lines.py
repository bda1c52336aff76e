"""What nydusd's lines say about a read: the table of texts that are symptoms. Pure.

The texts are those of nydusd v2.2.0 to v2.4.4 (storage/src/backend/{mod,connection}.rs, storage/src/cache/mod.rs,
storage/src/meta/mod.rs there); the source file and line that nydusd prints before them change with every build, so only
the text counts, from its beginning: what a registry or an image name can put into a line comes later in it.

Left out on purpose: "Proxy server is not healthy" and "Detected proxy unhealthy" (nydusd's own ping, native mode);
"all … mirror servers failed" (also said while a mirror is merely disabled); "slow request"; a second line about the
same failure ("proxy rate limited the request", "retry via …").
"""

from __future__ import annotations

import re

from agent.dataclass import dataclass
from agent.health.evidence import SymptomKind

_PAINT = re.compile(r"\x1b\[[0-9;]*m")
_HEADER = re.compile(r"\[\d{4}-[^]]*\] (?:TRACE|DEBUG|INFO|WARN|ERROR) (?:\[[^]]*\] )?")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One text of nydusd."""

    kind: SymptomKind
    text: re.Pattern[str]
    means: str
    """For people; nothing of the line itself is repeated, because URLs in it may be signed."""


def _pattern(kind: SymptomKind, text: str, means: str) -> Pattern:
    return Pattern(kind, re.compile(text), means)


_NOT_OURS = r"(?!.*(?:ConnectionAborted|os error 103))"
"""A connection that was destroyed on this node (sock_diag(7): ECONNABORTED): that is what the fence does."""
_REFUSED = "a read was answered with an error status"
_SHORT = "the body of a read ended early, or did not go on"
_GARBLED = "what a read got does not decode"
_AROUND = "a read went around the mirror, which refused, reset, timed out or answered 5xx"

PATTERNS = (
    # Up to v2.4.2, each time before a retry (WARN).
    _pattern(SymptomKind.STATUS, r"Read from backend failed: Registry\(Request\((?:ErrorWithMsg|Format)\(", _REFUSED),
    _pattern(SymptomKind.CUT, rf"Read from backend failed: Registry\(Transport\({_NOT_OURS}", _SHORT),
    # The same, for the last attempt: the second line of "Error:" (v2.2, ERROR).
    _pattern(SymptomKind.STATUS, r"\tRegistry\(Request\((?:ErrorWithMsg|Format)\(", _REFUSED),
    _pattern(SymptomKind.CUT, rf"\tRegistry\(Transport\({_NOT_OURS}", _SHORT),
    # From v2.4.3 on, after each attempt (ERROR). "proxy: false" is no sign that the origin was asked: its last retry
    # is marked so and goes through the proxy all the same (backend/request.rs).
    _pattern(SymptomKind.STATUS, r"backend request: .* error: Registry\((?:Request\((?:ErrorWithMsg|Format)|Proxy)\(",
             _REFUSED),
    _pattern(SymptomKind.CUT, rf"backend request: .* error: Registry\(Transport\({_NOT_OURS}", _SHORT),
    # All versions (ERROR; the last one WARN, where digests are checked).
    _pattern(SymptomKind.DECODE, r"failed to decompress (?:blob meta data|chunk): ", _GARBLED),
    _pattern(SymptomKind.DECODE, r"failed to read data from backend, ", _GARBLED),
    # All versions (WARN), once for each request that went to the origin after all. v2.4.3 says why before.
    _pattern(SymptomKind.FALLBACK, r"Request proxy server failed, fallback to original server", _AROUND),
    # The mirrors dialect: up to v2.2.5, and up to v2.3.4.
    _pattern(SymptomKind.FALLBACK, r"request mirror server failed, mirror: ", _AROUND),
    _pattern(SymptomKind.FALLBACK, r"\[mirror\] request failed, server: ", _AROUND),
)  # fmt: skip


_FAILED = re.compile(r"Read from backend failed: |backend request: .* error: ")
"""For whatever reason: an origin that refuses the connection is no symptom of the mirror's, and is told so too."""


def classify(line: str) -> Pattern | None:
    """What a line of nydusd says about a read; None: nothing."""
    text = _text(line)
    return next((pattern for pattern in PATTERNS if pattern.text.match(text)), None)


def failed(line: str) -> bool:
    """Whether it says that an attempt to read has failed, wherever that was."""
    return _FAILED.match(_text(line)) is not None


def _text(line: str) -> str:
    plain = _PAINT.sub("", line)
    header = _HEADER.match(plain)
    return plain[header.end() :] if header else plain
