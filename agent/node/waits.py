"""Waiting with a deadline for containerd and the snapshotter to answer, and what ran before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from agent import paths
from agent.errors import ApplyError, ContainerdError, PortError
from agent.facts.node import RunningContainerd
from agent.ports import Clock, Ports

_JOB_S = 90.0  # systemd's own default for a start or stop
_CLUSTER_JOB_S = 300.0  # k3s and rke2 count as started when the whole node is up
ANSWER_S = 30.0
CALL_S = 5.0
_STEP_S = 0.1
_TOO_MANY_RESTARTS = 3

_T = TypeVar("_T")


def poll(clock: Clock, deadline_s: float, ask: Callable[[], _T]) -> _T:
    """The first answer of `ask` that is no PortError; the last error once the deadline has passed."""
    end = clock.monotonic() + deadline_s
    while True:
        try:
            return ask()
        except PortError:
            if clock.monotonic() >= end:
                raise
        clock.sleep(_STEP_S)


def job_s(unit: str) -> float:
    """How long a job of a unit may take."""
    return _JOB_S if unit in (paths.SNAPSHOTTER_UNIT, paths.CONTAINERD_UNIT) else _CLUSTER_JOB_S


def containerd_pid(ports: Ports) -> int:
    """The pid of the containerd that answers now, 0 where none does."""
    try:
        return ports.containerd.server(deadline_s=CALL_S).pid
    except ContainerdError:
        return 0


def containerd(
    ports: Ports, old_pid: int, deadline_s: float, unit: str = paths.CONTAINERD_UNIT
) -> RunningContainerd:
    """Wait until a containerd with another pid than `old_pid` answers.

    Raises ApplyError NNA0405 with the last error and the unit's journal.
    """

    def ask() -> RunningContainerd:
        server = ports.containerd.server(deadline_s=CALL_S)
        if old_pid and server.pid == old_pid:
            raise ContainerdError(
                "NNA0405", "containerd was not restarted", cause=f"process {old_pid} still answers"
            )
        return server

    try:
        return poll(ports.clock, deadline_s, ask)
    except ContainerdError as error:
        raise ApplyError(
            "NNA0405", "containerd did not come back", cause=f"{error} (after {deadline_s:.0f} s)",
            seen=own_words(ports, unit), try_=f"journalctl -u {unit} -n 50",
        ) from None  # fmt: skip


def snapshotter(ports: Ports, address: str, deadline_s: float) -> None:
    """Wait until the snapshotter answers on its own socket; give up early where its process keeps dying.

    Raises ApplyError NNA0405 with the unit's state and its journal.
    """
    end = ports.clock.monotonic() + deadline_s
    while True:
        try:
            ports.snapshotter.alive(address, deadline_s=CALL_S)
        except ContainerdError as error:
            state = _dying(ports)
            if state or ports.clock.monotonic() >= end:
                raise ApplyError(
                    "NNA0405", "the snapshotter does not answer",
                    cause=f"{state}; {error}" if state else str(error),
                    seen=own_words(ports, paths.SNAPSHOTTER_UNIT),
                    try_=f"journalctl -u {paths.SNAPSHOTTER_UNIT} -n 50",
                ) from None  # fmt: skip
        else:
            return
        ports.clock.sleep(_STEP_S)


def own_words(ports: Ports, unit: str, count: int = 5) -> tuple[str, ...]:
    """The unit's last journal lines; of its own programs where there are any (systemd's say only that it
    ended).
    """
    lines = ports.units.journal_tail(unit, 60)
    systemds = (f"{unit}: ", "Started ", "Starting ", "Stopped ", "Stopping ")
    own = list(dict.fromkeys(line for line in lines if not line.startswith(systemds)))
    return tuple(line[:400] for line in (own or lines)[-count:])


def _dying(ports: Ports) -> str:
    unit = ports.units.get(paths.SNAPSHOTTER_UNIT)
    if unit is None:
        return "there is no such unit"
    if unit.active_state == "failed" or unit.n_restarts >= _TOO_MANY_RESTARTS:
        return f"its process died ({unit.result or unit.active_state}, restarted {unit.n_restarts} times)"
    return ""


@dataclass(frozen=True, slots=True)
class Before:
    """What ran before a change, so that a restart counts only when something new runs.

    Empty: nothing was restarted.
    """

    restarted: frozenset[str] = field(default_factory=frozenset)
    snapshotter_invocation: str = ""
    containerd_pid: int = 0


def before_change(ports: Ports, restarted: frozenset[str]) -> Before:
    """What runs now, so that after a change a restart counts only when something new runs."""
    pid = containerd_pid(ports) if restarted - {paths.SNAPSHOTTER_UNIT} else 0
    invocation = ""
    if paths.SNAPSHOTTER_UNIT in restarted:
        unit = ports.units.get(paths.SNAPSHOTTER_UNIT)
        invocation = unit.invocation_id if unit is not None else ""
    return Before(restarted, invocation, pid)
