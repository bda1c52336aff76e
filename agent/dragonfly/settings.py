"""The settings of a peer or of a scheduler: which keys there are, what holds where nobody writes them, and
what an audit finds in them. Client v1.5.10 (dragonfly-client-config/src/dfdaemon.rs), chart dragonfly 1.7.4.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.config.forms import address_of
from agent.dragonfly.command_line import LEVELS, level_of
from agent.dragonfly.yaml_files import shown

_SECONDS = {"ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(?:[0-9]{1,15}\s*(?:ms|s|min|m|h|d)\s*)+")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([kmgtp]?)(i?)b?", re.I)


def seconds_of(text: str) -> float | None:
    """ "40s", "1h 30m"; None for what is no duration."""
    if not _DURATION.fullmatch(text.strip()):
        return None
    return sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"([0-9]+)\s*([a-z]+)", text))


def bytes_of(text: str) -> int | None:
    """ "50GB" (10^9), "64MiB" (2^20), "4096"; None for what is no size."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    power = " kmgtp".index(found[2].lower() or " ")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


class KeyForm(enum.Enum):
    """What a value may be; the value says it in words."""

    BOOL = "true or false"
    COUNT = "a whole number"
    TEXT = "a text"
    ADDRESS = "an IP address"
    DURATION = "a duration such as 40s"
    SIZE = "a size such as 10GB"
    RULES = "a list of rules: regex, useTLS, redirect, schedulingPolicy (auto, always)"
    LEVEL = f"one of {', '.join(LEVELS)}"
    ANY = "anything"

    def takes(self, value: object) -> bool:
        """Whether dfdaemon would read it; None stands for "not written" everywhere."""
        return value is None or _TAKES[self](value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_rules(value: object) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(rule, Mapping)
        and KeyForm.TEXT.takes(rule.get("regex"))
        and KeyForm.BOOL.takes(rule.get("useTLS"))
        and rule.get("schedulingPolicy") in (None, "auto", "always")
        for rule in value
    )


_TAKES: Mapping[KeyForm, Callable[[object], bool]] = {
    KeyForm.BOOL: lambda value: isinstance(value, bool),
    KeyForm.COUNT: _is_count,
    KeyForm.TEXT: lambda value: isinstance(value, str),
    KeyForm.ADDRESS: lambda value: isinstance(value, str) and address_of(value) is not None,
    KeyForm.DURATION: lambda value: isinstance(value, str) and seconds_of(value) is not None,
    KeyForm.SIZE: lambda value: bytes_of(str(value)) is not None,
    KeyForm.RULES: _is_rules,
    KeyForm.LEVEL: lambda value: level_of(str(value)) is not None,
    KeyForm.ANY: lambda _: True,
}

JUDGED: Mapping[str, tuple[KeyForm, object]] = {
    **{f"{name}.server.ip": (KeyForm.ADDRESS, "0.0.0.0")  # noqa: S104 - theirs
       for name in ("proxy", "health", "metrics", "stats")},
    "server.cacheDir": (KeyForm.TEXT, "/var/cache/dragonfly/dfdaemon"),
    "download.server.socketPath": (KeyForm.TEXT, "/var/run/dragonfly/dfdaemon.sock"),
    "download.server.requestRateLimit": (KeyForm.COUNT, 4000),
    "download.bandwidthLimit": (KeyForm.SIZE, "50GB"),
    "download.backToSourceBandwidthLimit": (KeyForm.SIZE, "50GB"),
    "download.pieceTimeout": (KeyForm.DURATION, "360s"),
    "download.collectedPieceTimeout": (KeyForm.DURATION, "360s"),
    "download.concurrentPieceCount": (KeyForm.COUNT, 8),
    "upload.bandwidthLimit": (KeyForm.SIZE, "50GB"),
    "storage.dir": (KeyForm.TEXT, "/var/lib/dragonfly/"),
    "storage.keep": (KeyForm.BOOL, False),
    "storage.writePieceTimeout": (KeyForm.DURATION, "360s"),
    "storage.writeBufferSize": (KeyForm.COUNT, None),
    "storage.readBufferSize": (KeyForm.COUNT, None),
    "gc.policy.diskHighThresholdPercent": (KeyForm.COUNT, 80),
    "gc.policy.diskLowThresholdPercent": (KeyForm.COUNT, 60),
    "proxy.server.requestRateLimit": (KeyForm.COUNT, 4000),
    "proxy.server.basicAuth": (KeyForm.ANY, None),
    "proxy.rules": (KeyForm.RULES, ()),
    "proxy.registryMirror.cert": (KeyForm.TEXT, ""),
    "proxy.registryMirror.enableTaskIDBasedBlobDigest": (KeyForm.BOOL, None),
    "proxy.disableBackToSource": (KeyForm.BOOL, False),
    "proxy.prefetch": (KeyForm.BOOL, False),
    "proxy.prefetchBandwidthLimit": (KeyForm.SIZE, "10GB"),
    "proxy.readBufferSize": (KeyForm.COUNT, None),
    "backend.enableHickoryDNS": (KeyForm.BOOL, True),
}  # fmt: skip
"""Keys that an audit judges: their form, and
dfdaemon's own default (None: of no concern, or releases differ)."""

ALIASES = {
    f"gc.policy.dist{rest}": f"gc.policy.disk{rest}"
    for rest in ("HighThresholdPercent", "LowThresholdPercent")
}
"""Old spellings that dfdaemon still reads, and the chart writes."""

_CHART: Mapping[str, object] = {
    "download.concurrentPieceCount": 16,
    "storage.keep": True,
    "gc.policy.diskHighThresholdPercent": 90,
    "gc.policy.diskLowThresholdPercent": 70,
    "proxy.rules": ({"regex": "blobs/sha256.*"},),
    "proxy.prefetch": True,
}
CHART_CLIENT: Mapping[str, object] = {
    **_CHART, "proxy.server.requestRateLimit": 50, "download.server.requestRateLimit": 50
}  # fmt: skip
CHART_SEED: Mapping[str, object] = {
    **_CHART,
    "proxy.server.requestRateLimit": 400,
    "download.server.requestRateLimit": 400,
    "download.pieceTimeout": "40s",
    "download.collectedPieceTimeout": "5s",
}
CHART_SCHEDULER: Mapping[str, object] = {"retryBackToSourceLimit": 3, "retryLimit": 5, "retryInterval": "2s"}
CHART_LOG_LEVEL = "info"
CHART_VOLUMES = ({"name": "storage", "emptyDir": {}}, {"name": "logs", "emptyDir": {}})
CHART_MOUNTS = (
    {"name": "storage", "mountPath": "/var/lib/dragonfly/"},
    {"name": "logs", "mountPath": "/var/log/dragonfly/dfdaemon/"},
)
CHART_TAG = "v1.4.0"
"""Of the image of both kinds of peers."""


class Severity(enum.StrEnum):
    """A trap loses reads, bytes, data or safety; advice makes it better."""

    TRAP = "trap"
    ADVICE = "advice"


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One thing that is not as it should be."""

    item: str
    severity: Severity
    key: str
    value: str
    """As it is, and whose default it is where nobody wrote it."""
    recommended: str
    why: str
    change: str
    """What to do."""


@dataclass(frozen=True, slots=True)
class NotLooked:
    """Something that was not, or could not be, looked at here. `untold`: it should have been."""

    item: str
    why: str
    untold: bool = False


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All of an audit."""

    subject: str
    findings: tuple[AuditFinding, ...]
    not_looked: tuple[NotLooked, ...] = ()

    @staticmethod
    def of(subject: str, found: Iterable[AuditFinding | NotLooked]) -> AuditReport:
        """Of all that an audit came upon, traps first."""
        told = tuple(found)
        findings = [one for one in told if isinstance(one, AuditFinding)]
        findings.sort(key=lambda one: one.severity is not Severity.TRAP)
        return AuditReport(subject, tuple(findings), tuple(one for one in told if isinstance(one, NotLooked)))

    @property
    def untold(self) -> tuple[NotLooked, ...]:
        """What should have been told and could not."""
        return tuple(one for one in self.not_looked if one.untold)


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """A peer's settings, or a scheduler's: what is written, and what holds where nothing is."""

    written: Mapping[str, object]
    defaults: Mapping[str, object]
    whose: str
    """Whose defaults they are: dfdaemon's, the chart's."""
    prefix: str
    """Of a key in the file: "client.config." """
    after: str
    """What brings a change into force."""
    helm: bool
    serves: bool
    """Nodes use its proxy."""
    away: bool = False
    """It serves them from elsewhere, so it cannot listen for its own node alone."""

    def value(self, key: str) -> object:
        """What holds; None: nothing does."""
        value = self.written.get(key)
        if value is not None:
            return value
        return self.defaults[key] if key in self.defaults else JUDGED[key][1]

    def number(self, key: str) -> float:
        """A count, a size in bytes, or a duration in seconds."""
        value = self.value(key)
        if isinstance(value, int):
            return value
        is_size = key in JUDGED and JUDGED[key][0] is KeyForm.SIZE
        return (bytes_of if is_size else seconds_of)(str(value)) or 0

    def text(self, key: str) -> str:
        """What holds, for a message."""
        value = self.value(key)
        value = _rules_text(value) if key == "proxy.rules" else shown(value) or "none"
        return value if self.written.get(key) is not None else f"{value} ({self.whose} default)"

    def change(self, key: str, value: str) -> str:
        """How to set a key."""
        return f"set {self.name(key)}: {value}, then {self.after}"

    def name(self, key: str) -> str:
        """The key as the file has it."""
        return f"{self.prefix}{key.replace('gc.policy.disk', 'gc.policy.dist') if self.helm else key}"

    def finding(
        self, item: str, severity: Severity, key: str, recommended: str, why: str, *, change: str = ""
    ) -> AuditFinding:
        """A finding about a key."""
        how = change or self.change(key, recommended)
        return AuditFinding(item, severity, self.name(key), self.text(key), recommended, why, how)


def _rules_text(value: object) -> str:
    """Rules on one line."""
    rules = value if isinstance(value, Sequence) else ()
    each = (f"{rule.get('regex', '.*')}{' (useTLS)' if rule.get('useTLS') else ''}" for rule in rules)
    return shown(", ".join(each)) or "none"
