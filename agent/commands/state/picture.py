"""One picture of what was published and of whether the daemon lives, on which `status`, `events`, `route` and
`drill` answer.

Needs neither root nor the daemon: only files that everyone may read. status.json is written by an
unprivileged user, so its size is capped, links are not followed, and it is read strictly.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from agent import paths, wire
from agent.apply.leftovers import Leftovers, lives
from agent.codec import DocumentError, from_document, try_from_json
from agent.commands.context import Context
from agent.daemon.documents import pin
from agent.documents.drift import Finding, findings_of
from agent.documents.status import DaemonStatus, EffectiveDocument, PinStatus, ProofDocument
from agent.durations import in_words
from agent.errors import HttpError
from agent.node.machine import present
from agent.outside_json import json_object, json_value
from agent.records.generations import Pending

T = TypeVar("T")

SIZE_CAP = 1 << 20  # bytes; a status is a few thousand
STALE_S = 10.0
"""The daemon publishes every 4 s at least and its watchdog restarts it after 3: silence this long is no
accident.
"""
_UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system",
                     "/lib/systemd/system")  # fmt: skip

JsonObject: TypeAlias = Mapping[str, object]
"""A JSON object of which nothing is known yet."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The file is there but could not be read or understood."""

    path: str
    reason: str
    permission: bool = False


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
    not_written: str = ""
    """Why status.json is of no use although the daemon answers on its socket; "" = it is, or nobody
    answers.
    """
    inspected: tuple[Finding, ...] = ()
    """What the last inspection found changed by others."""
    unconfirmed: Unconfirmed | None = None
    leftovers: Leftovers | None = None
    """What a bench that was killed has left."""

    @property
    def published(self) -> DaemonStatus | None:
        """The daemon's last publication, where there is one that can be read."""
        return self.daemon if isinstance(self.daemon, DaemonStatus) else None

    @property
    def running(self) -> DaemonStatus | None:
        """The same, of a daemon that lives: otherwise it is a memory."""
        return self.published if self.agent is Agent.RUNNING else None

    @property
    def applied(self) -> EffectiveDocument | None:
        """What was applied, where it can be read."""
        return self.effective if isinstance(self.effective, EffectiveDocument) else None

    @property
    def proved(self) -> ProofDocument | None:
        """The last proof, where it can be read."""
        return self.proof if isinstance(self.proof, ProofDocument) else None

    @property
    def drift(self) -> tuple[Finding, ...]:
        """What is not as it was applied: as a living daemon knows it, else as root has seen it last."""
        return self.running.drift if self.running is not None else self.inspected

    @property
    def valid_pin(self) -> PinStatus | None:
        """The pin that holds: as a living daemon has taken it, else as root has written it."""
        found = (self.running.pin if self.running is not None else None) or self.pin
        return found if found is not None and found.until > self.now else None

    @property
    def left_s(self) -> float | None:
        """Seconds until reads go back to the mirror at the earliest; None: it cannot be told."""
        daemon = self.running
        if daemon is None or daemon.return_ is None or daemon.return_.seconds is None:
            return None
        return max(0.0, daemon.return_.seconds - self.age(daemon.at))

    def age(self, at: float | None) -> float:
        """Seconds since `at`; 0 where it is not known or in the future (the clock stepped)."""
        return max(0.0, self.now - at) if at is not None else 0.0

    def ago(self, at: float | None) -> str:
        """The same in words."""
        return in_words(self.age(at))


def take(context: Context, now: float) -> Picture:
    """Read everything once. Never raises on what it finds."""
    agent, daemon, not_written = _agent_and_daemon(context, now)
    return Picture(
        now,
        agent,
        daemon,
        read_document(ProofDocument, context.path(paths.PROOF)),
        read_document(EffectiveDocument, context.path(paths.EFFECTIVE)),
        _pin(context, now),
        not_written,
        _inspected(context),
        _unconfirmed(context),
        _leftovers(context),
    )


def read_document(cls: type[T], path: str) -> T | Unreadable | None:
    """The document that lies in `path`; None: no such file. An Unreadable names what is not as it must be."""
    found = _content(path)
    return _understood(cls, path, found) if isinstance(found, bytes) else found


def _content(path: str) -> bytes | Unreadable | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unreadable(path, error.strerror or str(error), isinstance(error, PermissionError))
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            return Unreadable(path, "is not a regular file")
        if seen.st_size > SIZE_CAP:
            return Unreadable(path, f"is larger than {SIZE_CAP} bytes")
        return os.read(descriptor, SIZE_CAP)
    except OSError as error:
        return Unreadable(path, error.strerror or str(error))
    finally:
        os.close(descriptor)


def _understood(cls: type[T], path: str, content: bytes) -> T | Unreadable:
    try:
        found = json_value(content)
    except ValueError:
        return Unreadable(path, "is not JSON")
    if not isinstance(found, dict):
        return Unreadable(path, "is not a JSON object")
    try:
        return from_document(cls, found)
    except DocumentError as error:
        return Unreadable(path, str(error))


def _object(context: Context, name: str) -> JsonObject | None:
    """The JSON object in a file of root's; None where there is none."""
    content = _content(context.path(name))
    try:
        return json_object(content) if isinstance(content, bytes) else None
    except ValueError:
        return None


def _agent_and_daemon(context: Context, now: float) -> tuple[Agent, DaemonStatus | Unreadable | None, str]:
    """What status.json says, or the daemon itself where that is not to be had: /run may be full while it
    lives.
    """
    daemon = read_document(DaemonStatus, context.path(paths.STATUS))
    agent = _agent(context, daemon, now)
    if agent is Agent.RUNNING:
        return agent, daemon, ""
    socket = context.path(paths.API_SOCKET)
    try:
        told = _understood(DaemonStatus, socket, wire.agents_answer(socket))
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
    found = _object(context, paths.PIN)
    return pin(found, replace(present(context.path("/proc")), now=now)) if found is not None else None


def _inspected(context: Context) -> tuple[Finding, ...]:
    found = _object(context, paths.DRIFT)
    return findings_of(found.get("findings")) if found is not None else ()


def _unconfirmed(context: Context) -> Unconfirmed | None:
    found = _object(context, paths.UNCONFIRMED)
    waits = try_from_json(Pending, found) if found is not None else None
    if waits is None:
        return None
    now = present(context.path("/proc"))
    return Unconfirmed(waits.generation, round(waits.left_s(now), 1), round(max(0.0, waits.late_s(now)), 1))


def _leftovers(context: Context) -> Leftovers | None:
    found = _object(context, paths.BENCH)
    left = try_from_json(Leftovers, found) if found is not None else None
    return None if left is None or lives(left, context.path("/proc")) else left


def _agent(context: Context, daemon: DaemonStatus | Unreadable | None, now: float) -> Agent:
    if isinstance(daemon, Unreadable):
        return Agent.UNREADABLE
    if daemon is None:
        units = (Path(context.path(name)) / paths.AGENT_UNIT for name in _UNIT_DIRECTORIES)
        installed = any(path.is_symlink() or path.exists() for path in units)
        return Agent.STOPPED if installed else Agent.NOT_INSTALLED
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
