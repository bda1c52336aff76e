"""What nydusd's lines say about a read: the table of texts that are symptoms. Pure.

The texts are those of nydusd v2.2.0 to v2.4.4 (storage/src/backend/{mod,connection}.rs,
storage/src/cache/mod.rs, storage/src/meta/mod.rs there); the source file and line that nydusd prints before
them change with every build, so only the text counts, from its beginning: what a registry or an image name
can put into a line comes later in it. From v2.4.3 on a URL stands in the middle (a registry's redirect may
have chosen it): it has no blanks, so it cannot pass for what follows it. It may be as long as journald lets a
line be (48 KiB).

Left out on purpose: "Proxy server is not healthy" and "Detected proxy unhealthy" (nydusd's own ping, native
mode); "all … mirror servers failed" (also said while a mirror is merely disabled); "slow request"; a second
line about the same failure ("proxy rate limited the request", "retry via …").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from agent.health.evidence import SymptomKind

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
