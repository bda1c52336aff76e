"""What an audit finds, and the settings of one peer that it looks at."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.dragonfly.keys import KEYS
from agent.dragonfly.quantities import bytes_of, seconds_of
from agent.dragonfly.reading import shown


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
        findings = sorted(
            (one for one in told if isinstance(one, AuditFinding)),
            key=lambda one: one.severity is not Severity.TRAP,
        )
        return AuditReport(subject, tuple(findings), tuple(one for one in told if isinstance(one, NotLooked)))

    @property
    def untold(self) -> tuple[NotLooked, ...]:
        """What should have been told and could not."""
        return tuple(one for one in self.not_looked if one.untold)


@dataclass(frozen=True, slots=True)
class Peer:
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
        return self._default(key) if value is None else value

    def _default(self, key: str) -> object:
        return self.defaults[key] if key in self.defaults else KEYS[key].default

    def text(self, key: str) -> str:
        """The same for a message."""
        value = self.value(key)
        value = _rules(value) if key == "proxy.rules" else shown(value) or "none"
        return value if self.written.get(key) is not None else f"{value} ({self.whose} default)"

    def count(self, key: str) -> int:
        """A number or a size."""
        value = self.value(key)
        return value if isinstance(value, int) else bytes_of(str(value)) or 0

    def seconds(self, key: str) -> float:
        """A duration."""
        return seconds_of(str(self.value(key))) or 0

    def change(self, key: str, value: str) -> str:
        """How to set a key."""
        return f"set {self.name(key)}: {value}, then {self.after}"

    def name(self, key: str) -> str:
        """The key as the file has it."""
        spelled = key.replace("gc.policy.disk", "gc.policy.dist") if self.helm else key
        return f"{self.prefix}{spelled}"

    def finding(
        self, item: str, severity: Severity, key: str, recommended: str, why: str, *, change: str = ""
    ) -> AuditFinding:
        """A finding about a key."""
        how = change or self.change(key, recommended)
        return AuditFinding(item, severity, self.name(key), self.text(key), recommended, why, how)


def _rules(value: object) -> str:
    """Rules on one line."""
    rules = value if isinstance(value, Sequence) else ()
    each = (f"{rule.get('regex', '.*')}{' (useTLS)' if rule.get('useTLS') else ''}" for rule in rules)
    return shown(", ".join(each)) or "none"
