"""One picture of what was published and of whether the daemon lives, on which `status` and `route` answer.

Needs neither root nor the daemon: only files that everyone may read.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import paths, wire
from agent.apply.leftovers import Leftovers, lives
from agent.codec import try_from_json
from agent.commands.context import Context
from agent.commands.state.published import (
    Unreadable,
    document,
    parsed,
    read_document,
    read_json,
)
from agent.config.load import load
from agent.daemon.documents import pin
from agent.documents.applied import EffectiveDocument, ProofDocument
from agent.documents.drift import Finding, findings_of
from agent.documents.status import DaemonStatus, PinStatus
from agent.durations import in_words
from agent.errors import ConfigError, HttpError
from agent.node.machine import present
from agent.records.unconfirmed import Pending

STALE_S = 10.0
"""The daemon publishes every 4 s at least and its watchdog restarts it after 3: silence this long is no
accident.
"""

_UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


class Agent(enum.StrEnum):
    """What is known about the daemon."""

    RUNNING = "running"
    SILENT = "silent"  # lives, but publishes nothing
    GONE = "gone"  # published, and its process is not there any more
    STOPPED = "stopped"  # nothing is published
    UNREADABLE = "unreadable"
    NOT_INSTALLED = "not-installed"

    @property
    def words(self) -> str:
        """For people."""
        return self.value.replace("-", " ")


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A change that is taken back by itself unless somebody confirms it in time."""

    generation: int
    left_s: float
    late_s: float
    """How long ago it should have been taken back."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What was read, at `now` (seconds since the epoch)."""

    now: float
    agent: Agent
    daemon: DaemonStatus | Unreadable | None
    proof: ProofDocument | Unreadable | None
    effective: EffectiveDocument | Unreadable | None
    pin: PinStatus | None
    config_error: ConfigError | None = None
    not_written: str = ""
    """Why status.json is of no use although the daemon answers on its socket; "" = it is, or nobody
    answers.
    """
    inspected: tuple[Finding, ...] = ()
    """What the last inspection found changed by others."""
    unconfirmed: Unconfirmed | None = None
    leftovers: Leftovers = field(default_factory=Leftovers)
    """What a bench that was killed has left."""

    @property
    def drift(self) -> tuple[Finding, ...]:
        """What is not as it was applied: as a living daemon knows it, else as root has seen it last."""
        alive = self.agent is Agent.RUNNING and isinstance(self.daemon, DaemonStatus)
        return self.daemon.drift if alive and isinstance(self.daemon, DaemonStatus) else self.inspected

    @property
    def valid_pin(self) -> PinStatus | None:
        """The pin that holds: as a living daemon has taken it, else as root has written it."""
        alive = self.agent is Agent.RUNNING
        taken = self.daemon.pin if alive and isinstance(self.daemon, DaemonStatus) else None
        pin = taken or self.pin
        return pin if pin is not None and pin.until > self.now else None

    def age(self, at: float | None) -> float:
        """Seconds since `at`; 0 where it is not known or in the future (the clock stepped)."""
        return max(0.0, self.now - at) if at is not None else 0.0


def take(context: Context, now: float) -> Picture:
    """Read everything once. Never raises on what it finds."""
    agent, daemon, not_written = _agent_and_daemon(context, now)
    config_error = None
    try:
        load(context.config_file, context.conf_d)
    except ConfigError as error:
        # Files that only root may read are no problem of the node when somebody else asks.
        config_error = error if context.uid == 0 or error.code == "NNA0101" else None
    return Picture(
        now,
        agent,
        daemon,
        read_document(ProofDocument, context.path(paths.PROOF)),
        read_document(EffectiveDocument, context.path(paths.EFFECTIVE)),
        _pin(context, now),
        config_error,
        not_written,
        _inspected(context),
        _unconfirmed(context),
        _leftovers(context),
    )


def _inspected(context: Context) -> tuple[Finding, ...]:
    found = read_json(context.path(paths.DRIFT))
    return findings_of(found.get("findings")) if isinstance(found, dict) else ()


def _agent_and_daemon(context: Context, now: float) -> tuple[Agent, DaemonStatus | Unreadable | None, str]:
    """What status.json says, or the daemon itself where that is not to be had: /run may be full while it
    lives.
    """
    path = context.path(paths.STATUS)
    daemon = read_document(DaemonStatus, path)
    agent = _agent(context, daemon, now)
    if agent is Agent.RUNNING:
        return agent, daemon, ""
    socket = context.path(paths.API_SOCKET)
    try:
        told = document(DaemonStatus, socket, parsed(socket, wire.agents_answer(socket)))
    except HttpError:
        return agent, daemon, ""
    if not isinstance(told, DaemonStatus) or _agent(context, told, now) is not Agent.RUNNING:
        return agent, daemon, ""
    return Agent.RUNNING, told, _why_not_written(daemon, now)


def _why_not_written(daemon: DaemonStatus | Unreadable | None, now: float) -> str:
    if isinstance(daemon, Unreadable):
        return f"{daemon.path}: {daemon.reason}"
    if daemon is None:
        return f"{paths.STATUS} is not there"
    return f"{paths.STATUS} was written {in_words(max(0.0, now - daemon.at))} ago"


def _pin(context: Context, now: float) -> PinStatus | None:
    """The pin as root has written it, judged by the daemon's own rule."""
    found = read_json(context.path(paths.PIN))
    if not isinstance(found, dict):
        return None
    return pin(found, replace(present(context.path("/proc")), now=now))


def _unconfirmed(context: Context) -> Unconfirmed | None:
    waits = try_from_json(Pending, read_json(context.path(paths.UNCONFIRMED)))
    now = present(context.path("/proc"))
    if waits is None:
        return None
    return Unconfirmed(waits.generation, round(waits.left_s(now), 1), round(max(0.0, waits.late_s(now)), 1))


def _leftovers(context: Context) -> Leftovers:
    left = try_from_json(Leftovers, read_json(context.path(paths.BENCH))) or Leftovers()
    return Leftovers() if lives(left, context.path("/proc")) else left


def _agent(context: Context, daemon: DaemonStatus | Unreadable | None, now: float) -> Agent:
    if isinstance(daemon, Unreadable):
        return Agent.UNREADABLE
    if daemon is None:
        directories = (Path(context.path(name)) / paths.AGENT_UNIT for name in _UNIT_DIRECTORIES)
        return (
            Agent.STOPPED
            if any(path.is_symlink() or path.exists() for path in directories)
            else Agent.NOT_INSTALLED
        )
    fresh = now - daemon.at < STALE_S
    alive = _is_alive(Path(context.path("/proc")), daemon.pid)
    if alive is None:  # /proc hides other users' processes: only the time of the publication is left
        return Agent.RUNNING if fresh else Agent.GONE
    if not alive:
        return Agent.GONE
    return Agent.RUNNING if fresh else Agent.SILENT


def _is_alive(proc: Path, pid: int) -> bool | None:
    """Whether `pid` is our daemon (not a later process with its number); None: cannot be told."""
    if pid <= 0 or not (proc / "1").exists():
        return None
    try:
        cgroup = (proc / str(pid) / "cgroup").read_text(errors="replace")
        command = (proc / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return None
    return paths.AGENT_UNIT in cgroup or b"nydus-agent" in command or b"\0daemon\0" in command
