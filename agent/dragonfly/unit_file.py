"""A unit file or a drop-in for dfdaemon by itself: what systemd would make of it, and what is wrong with
that.

A drop-in is taken as laid over upstream's dfdaemon.service (client v1.5.10), a whole unit by systemd's own
defaults.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.dragonfly import service
from agent.dragonfly.command_line import config_of, log_level
from agent.dragonfly.findings import AuditFinding, AuditReport, NotLooked
from agent.dragonfly.own import Own, logs_of
from agent.dragonfly.quantities import seconds_of
from agent.dragonfly.service import DfdaemonService
from agent.node.facts import MADE_DIRECTORIES, Confinement
from agent.unit_syntax import settings, words

_SECTION = re.compile(r"\[(Unit|Service|Install|X-[^\]]*)\]\s*")
_UPSTREAM = {
    "Restart": "on-success",
    "ExecStart": "/usr/bin/dfdaemon --config /etc/dragonfly/dfdaemon.yaml --console",
}
_YES = ("yes", "true", "on", "1")
_LISTS = frozenset({
    "ReadWritePaths", "ReadWriteDirectories", "ReadOnlyPaths", "ReadOnlyDirectories", "InaccessiblePaths",
    "InaccessibleDirectories", "Environment", "EnvironmentFile", "ExecStart", *MADE_DIRECTORIES,
})  # fmt: skip
"""Each line adds to them, and an empty one takes all back."""


def is_unit(text: str) -> bool:
    """Whether a text is one: its first line that says something is a section's name. YAML would be a list."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith(("#", ";"))), "")
    return _SECTION.fullmatch(first) is not None


@dataclass(frozen=True, slots=True)
class UnitFile:
    """What a file says, by the settings' names; a list has one entry for each line."""

    file: str
    written: Mapping[str, Sequence[str]]

    @staticmethod
    def of(file: str, text: str) -> UnitFile:
        """As systemd reads it; what it does not know it ignores, and so do we."""
        found: dict[str, list[str]] = {}
        for section, key, value in settings(text):
            if section not in ("Unit", "Service"):
                continue
            if key in _LISTS and value:
                found.setdefault(key, []).append(value)
            elif value:
                found[key] = [value]
            else:
                found.pop(key, None)
        return UnitFile(file, found)

    @property
    def is_drop_in(self) -> bool:
        """Whether it only adds to a unit."""
        return "ExecStart" not in self.written or posixpath.dirname(self.file).endswith(".d")

    @property
    def config(self) -> str:
        """The dfdaemon.yaml with which it starts dfdaemon."""
        return config_of(self._argv, self._environment)

    @property
    def logs(self) -> str:
        """The log's directory that it names."""
        return logs_of(self._argv, self._environment)

    @property
    def _argv(self) -> Sequence[str]:
        return words(self._value("ExecStart").lstrip("@-:+!|"))

    @property
    def _environment(self) -> Mapping[str, str]:
        return dict(one.partition("=")[::2] for one in self._listed("Environment"))

    def report(self, own: Own, config: Sequence[NotLooked]) -> AuditReport:
        """All that is wrong; `own`: the directories of the dfdaemon that it starts, `config`: why they are
        others.
        """
        unit, name = self._service(), self.config
        found: list[AuditFinding | NotLooked] = [
            *service.findings(unit, own, name),
            *self._log_level(unit, own),
        ]
        return AuditReport.of(f"{self.file} (dfdaemon-unit)", [*found, *config, *self._elsewhere()])

    def _log_level(self, unit: DfdaemonService, own: Own) -> Iterator[AuditFinding | NotLooked]:
        if "EnvironmentFile" in self.written:
            yield NotLooked("log-level", "EnvironmentFile= may set it: --live looks", untold=True)
        else:
            yield from service.log_level(unit, own, self.config, log_level(self._argv, self._environment))

    def _elsewhere(self) -> Iterator[NotLooked]:
        others = "what the unit's other files set: --live looks at all of them together"
        yield NotLooked("drop-ins", others)
        yield NotLooked("configuration", f"dfdaemon's own settings: audit {self.config}, too")

    def _service(self) -> DfdaemonService:
        whose = "upstream's unit" if self.is_drop_in else "systemd's default"
        gives_up = service.gives_up(self._starts(), self._within_us(), self._span("RestartSec", 0.1) * 1e6)
        return DfdaemonService(
            name=self._name(),
            restart=self._value("Restart") or "no",
            gives_up=gives_up,
            confinement=self._confinement(),
            whose=whose,
            written=frozenset(self.written),
        )

    def _name(self) -> str:
        for part in reversed(self.file.split("/")):
            if part.removesuffix(".d").endswith(".service"):
                return part.removesuffix(".d")
        return "dfdaemon.service"

    def _starts(self) -> int:
        burst = self._value("StartLimitBurst")
        return int(burst) if burst.isdecimal() else 5

    def _within_us(self) -> float:
        old = "StartLimitInterval" if "StartLimitIntervalSec" not in self.written else "StartLimitIntervalSec"
        return self._span(old, 10) * 1e6

    def _span(self, key: str, default: float) -> float:
        """Seconds; a bare number is seconds (systemd.time(7))."""
        value = self._value(key).replace("min", "m").replace(" ", "")
        if value == "infinity":
            return math.inf
        found = seconds_of(f"{value}s" if value.isdecimal() else value)
        return default if found is None else found

    def _confinement(self) -> Confinement:
        if "+" in self._value("ExecStart").partition("/")[0]:
            return Confinement()  # such a command has all rights
        dynamic = self._yes("DynamicUser")
        made = [f"{above}/{name.partition(':')[0]}"
                for key, above in MADE_DIRECTORIES.items() for name in self._listed(key)]  # fmt: skip
        return Confinement(
            user=self._value("User") or ("dynamic" if dynamic else ""),
            protect_system=self._word("ProtectSystem") or ("strict" if dynamic else ""),
            protect_home=self._word("ProtectHome") or ("read-only" if dynamic else ""),
            protect_tunables=self._yes("ProtectKernelTunables"),
            private_devices=self._yes("PrivateDevices"),
            writable=(*self._listed("ReadWritePaths"), *self._listed("ReadWriteDirectories"), *made),
            read_only=(*self._listed("ReadOnlyPaths"), *self._listed("ReadOnlyDirectories")),
            inaccessible=(*self._listed("InaccessiblePaths"), *self._listed("InaccessibleDirectories")),
        )

    def _value(self, key: str) -> str:
        """The last, or upstream's."""
        found = self.written.get(key)
        if found:
            return found[-1]
        return _UPSTREAM.get(key, "") if self.is_drop_in else ""

    def _word(self, key: str) -> str:
        """A boolean that may be another word too."""
        return "yes" if self._yes(key) else self._value(key).lower()

    def _yes(self, key: str) -> bool:
        return self._value(key).lower() in _YES

    def _listed(self, key: str) -> list[str]:
        """All words, each with its specifier for a percent sign resolved."""
        return [word.replace("%%", "%") for line in self.written.get(key, ()) for word in words(line)]
