"""Alarms as transient timers of systemd (org.freedesktop.systemd1(5), StartTransientUnit; systemd-run
--on-active).

They are PID 1's: a terminal that is closed, a killed process and a restarted agent do not touch them,
daemon-reload keeps them, and a reboot forgets them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from pystemd.dbusexc import DBusBaseError
from pystemd.dbuslib import DBus, apply_signature

from agent.errors import SystemdError
from agent.ports import Alarm
from agent.system.systemd import (
    MANAGER,
    MANAGER_PATH,
    SYSTEMD,
    JobsEnded,
    manage,
    properties,
    reset_failed,
    system_bus,
)

_JOB_S = 20.0
_ACCURACY_S = 0.1
"""systemd's default of a minute saves wakeups; here somebody waits."""
_FOREVER_US = 2**64 - 1  # USEC_INFINITY: the starts are counted over all time

_END = (-1, None)  # closes a container in pystemd's flat form of a message

Property = tuple[bytes, bytes, object]
"""Name, D-Bus signature, value."""


class SystemdAlarms:
    """The alarms of the system manager."""

    def set(self, alarm: Alarm) -> None:
        """See ports.Alarms."""
        timer = f"{alarm.name}.timer"
        self.cancel(alarm.name)
        with system_bus(f"set {timer}") as bus:
            for name in (
                timer,
                f"{alarm.name}.service",
            ):
                # One that failed is kept by systemd, and with it the name.
                reset_failed(bus, name)
            ended = JobsEnded(bus)
            message = [
                *apply_signature(b"ss", [timer.encode(), b"fail"]),
                *_properties(_timer(alarm)),
                *_structs((f"{alarm.name}.service", _service(alarm))),
            ]
            job = bytes(bus.call_method(SYSTEMD, MANAGER_PATH, MANAGER, b"StartTransientUnit", message).body)
            result = ended.result(job, time.monotonic() + _JOB_S)
        if result != "done":
            cause = f"systemd's job ended with: {result}" if result else f"no end within {_JOB_S:g} s"
            raise SystemdError(
                "NNA0503", f"start of {timer} failed", cause=cause, try_=f"systemctl status {timer}"
            )

    def cancel(self, name: str) -> None:
        """See ports.Alarms."""
        timer = f"{name}.timer"
        with system_bus(f"stop {timer}") as bus:
            if _state(bus, timer) in ("", "inactive"):
                return
            ended = JobsEnded(bus)
            job = bytes(manage(bus, b"StopUnit", b"ss", [timer.encode(), b"replace"]))
            result = ended.result(job, time.monotonic() + _JOB_S)
        if result != "done":
            cause = f"systemd's job ended with: {result or 'no end in time'}"
            raise SystemdError(
                "NNA0503", f"stop of {timer} failed", cause=cause, try_=f"systemctl stop {timer}"
            )

    def waits(self, name: str) -> bool:
        """See ports.Alarms."""
        with system_bus(f"look at {name}.timer") as bus:
            path = bytes(manage(bus, b"LoadUnit", b"s", [f"{name}.timer".encode()]))
            return properties(bus, path, b"org.freedesktop.systemd1.Unit").get("SubState") == b"waiting"


def _timer(alarm: Alarm) -> tuple[Property, ...]:
    return (
        (b"Description", b"s", alarm.about.encode()),
        (b"TimersMonotonic", b"a(st)", [(b"OnActiveSec", _us(alarm.after_s))]),
        (b"AccuracyUSec", b"t", _us(_ACCURACY_S)),
        (b"RemainAfterElapse", b"b", False),
    )


def _service(alarm: Alarm) -> tuple[Property, ...]:
    program = (alarm.argv[0].encode(), [word.encode() for word in alarm.argv], False)
    return (
        (b"Description", b"s", alarm.about.encode()),
        (b"Type", b"s", b"oneshot"),
        (b"ExecStart", b"a(sasb)", [program]),
        (b"TimeoutStartUSec", b"t", _us(alarm.runs_s)),
        (b"Restart", b"s", b"on-failure" if alarm.tries > 1 else b"no"),
        (b"RestartUSec", b"t", _us(alarm.retry_s)),
        (b"StartLimitIntervalUSec", b"t", _FOREVER_US),
        (b"StartLimitBurst", b"u", alarm.tries),
    )


def _properties(found: Sequence[Property]) -> list[tuple[int, object]]:
    """a(sv), which apply_signature cannot make: it knows no variants."""
    message: list[tuple[int, object]] = [(ord("a"), b"(sv)")]
    for name, signature, value in found:
        message += [(ord("r"), b"sv"), (ord("s"), name), (ord("v"), signature)]
        message += [*apply_signature(signature, [value]), _END, _END]
    return [*message, _END]


def _structs(*units: tuple[str, Sequence[Property]]) -> list[tuple[int, object]]:
    """a(sa(sv)): the auxiliary units."""
    message: list[tuple[int, object]] = [(ord("a"), b"(sa(sv))")]
    for name, found in units:
        message += [(ord("r"), b"sa(sv)"), (ord("s"), name.encode()), *_properties(found), _END]
    return [*message, _END]


def _state(bus: DBus, name: str) -> str:
    """ActiveState of a unit that systemd has in memory, "" where it has not."""
    with contextlib.suppress(DBusBaseError):
        path = bytes(manage(bus, b"GetUnit", b"s", [name.encode()]))
        state = properties(bus, path, b"org.freedesktop.systemd1.Unit").get("ActiveState")
        return state.decode() if isinstance(state, bytes) else ""
    return ""


def _us(seconds: float) -> int:
    return int(seconds * 1e6)
