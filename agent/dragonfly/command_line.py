"""How a dfdaemon was started: command line and environment (dragonflyoss/client, bin/dfdaemon/main.rs)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.outside_json import whole

LEVEL_VARIABLE = "DFDAEMON_LOG_LEVEL"
CONFIG_VARIABLE = "DFDAEMON_CONFIG"
LOG_VARIABLE = "DFDAEMON_LOG_DIR"
_FILTER = "RUST_LOG"
_VARIABLES = (CONFIG_VARIABLE, LEVEL_VARIABLE, LOG_VARIABLE, _FILTER)
DEFAULT_CONFIG = "/etc/dragonfly/dfdaemon.yaml"
LEVELS = ("error", "warn", "info", "debug", "trace")
"""In any case; dfdaemon takes 1 to 5 for them too."""
TELLS_HEADERS = (
    "At info and beyond dfdaemon writes each request with all its headers into its log, so with every "
    "password and token of a private registry."
)
WRITTEN = "the passwords that its log has by now must be changed at the registries"


def option_of(argv: Sequence[str], *names: str) -> str | None:
    """The value of the first option with one of these names, `--name value` or `--name=value`; None: none."""
    for word, after in zip(argv, [*argv[1:], None], strict=False):  # of no words there is one more
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else after
    return None


def config_of(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """The file that a dfdaemon is started with."""
    return option_of(argv, "--config", "-c") or environment.get(CONFIG_VARIABLE) or DEFAULT_CONFIG


def logs_of(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """The log's directory of a dfdaemon that is started so; "" where it is the usual."""
    return option_of(argv, "--log-dir") or environment.get(LOG_VARIABLE) or ""


def environment_of(block: bytes) -> dict[str, str]:
    """What dfdaemon reads of its own of /proc/PID/environ; the rest may be secret, and is left there."""
    entries = (entry.decode(errors="replace").partition("=") for entry in block.split(b"\0"))
    return {name: value for name, _, value in entries if name in _VARIABLES}


@dataclass(frozen=True, slots=True)
class DfdaemonLogLevel:
    """How much a dfdaemon writes into its log."""

    value: str
    source: str
    """The option or variable that says so; "" where none does."""

    @property
    def tells_headers(self) -> bool:
        """Whether each request is written with its headers, and so its Authorization."""
        return tells_headers(self.value)

    @property
    def text(self) -> str:
        """For a message: the level, and what says so."""
        source = self.source or "dfdaemon's default"
        return f"{self.value} ({source})"


def tells_headers(level: str) -> bool:
    """Whether a level writes headers: info and beyond (client v1.5.10, proxy/mod.rs)."""
    place = level_of(level)
    return place is None or place > LEVELS.index("warn")


def level_of(level: str) -> int | None:
    """Its place in LEVELS; None where dfdaemon has no such level, and does not start."""
    if number := whole(level):
        return number - 1 if number <= len(LEVELS) else None
    return LEVELS.index(level.lower()) if level.lower() in LEVELS else None


def log_level(argv: Sequence[str], environment: Mapping[str, str]) -> DfdaemonLogLevel:
    """The option counts before the variable. RUST_LOG is read beside them, for the parts of the program that
    it names (seen with v1.5.10: its bare level changes nothing).
    """
    for part in environment.get(_FILTER, "").split(","):
        target, _, level = part.strip().partition("=")
        if target.startswith("dragonfly") and tells_headers(level or "trace"):
            return DfdaemonLogLevel(part.strip(), _FILTER)
    attached = next((word[2:] for word in argv[1:] if word.startswith("-l") and word != "-l"), None)
    option = option_of(argv, "--log-level", "-l") or attached
    if option is not None:
        return DfdaemonLogLevel(option, "--log-level")
    variable = environment.get(LEVEL_VARIABLE)
    return DfdaemonLogLevel("info", "") if variable is None else DfdaemonLogLevel(variable, LEVEL_VARIABLE)
