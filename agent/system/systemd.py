"""Units over systemd's D-Bus (org.freedesktop.systemd1(5)) and alarms (transient timers), with pystemd's bus
and nothing of its object layer.

Why not its objects: they introspect on each load, make a call per attribute and wait for no job. Here a bus
is opened per operation, properties come in one GetAll, and a job is awaited by its own JobRemoved signal.

Deadlines: a method call ends after 25 s (sd-bus' default, sd_bus_set_method_call_timeout(3)); a job after the
caller's `deadline_s`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pystemd.dbusexc import DBusBaseError
from pystemd.dbuslib import DBus, apply_signature

from agent.errors import ProcessError, SystemdError, hide
from agent.facts.node import MADE_DIRECTORIES, Confinement, UnitFact
from agent.ports import Alarm, Processes
from agent.system.process import ChildProcesses

_SYSTEMD = b"org.freedesktop.systemd1"
_MANAGER_PATH = b"/org/freedesktop/systemd1"
_MANAGER = b"org.freedesktop.systemd1.Manager"
_UNIT = b"org.freedesktop.systemd1.Unit"
_SERVICE = b"org.freedesktop.systemd1.Service"
_PROPERTIES = b"org.freedesktop.DBus.Properties"

_JOB_METHODS = {"start": b"StartUnit", "stop": b"StopUnit", "restart": b"RestartUnit"}
_WAIT_SLICE_S = 1.0  # sd_bus_wait holds the interpreter: a signal to us must not wait longer than this
_JOURNAL_S = 5.0
_ALARM_S = 20.0
_ACCURACY_S = 0.1
"""systemd's default of a minute saves wakeups; here somebody waits."""
_CODES = {
    "NNA0501": (
        "DBusConnectionRefusedError", "DBusDisconnectedError", "DBusServiceUnknownError",
        "DBusNoServerError",
    ),
    "NNA0502": ("DBusNoSuchUnitError", "DBusFileNotFoundError"),
}  # fmt: skip
_LINES_IN_ERRORS = 8


class SystemdUnits:
    """The system manager.

    Works where PID 1 is another program: `running` says False, the rest raise SystemdError.
    """

    def __init__(self, processes: Processes | None = None) -> None:
        self._processes = processes if processes is not None else ChildProcesses()

    def running(self) -> bool:
        """See ports.Units; sd_booted(3), and the bus answers."""
        if not os.path.isdir("/run/systemd/system"):
            return False
        try:
            with _bus("ask systemd for its version") as bus:
                bus.get_property(_SYSTEMD, _MANAGER_PATH, _MANAGER, b"Version", b"s")
        except SystemdError:
            return False
        return True

    def get(self, name: str) -> UnitFact | None:
        """See ports.Units. A unit that systemd has not loaded yet is read from the disk."""
        with _bus(f"look at {name}") as bus:
            return _unit(bus, name)

    def job(self, name: str, verb: str, *, deadline_s: float) -> UnitFact:
        """See ports.Units. At the deadline the job is left to systemd: cancelling it could do more harm."""
        method = _JOB_METHODS[verb]
        with _bus(f"{verb} {name}") as bus:
            before = _unit(bus, name)
            if before is None:
                raise SystemdError("NNA0502", f"cannot {verb} {name}", cause="there is no such unit")
            ended = _JobsEnded(bus)
            if verb != "stop":
                _reset_failed(bus, name)
            job = bytes(_manage(bus, method, b"ss", [name.encode(), b"replace"]))
            result = ended.result(job, time.monotonic() + deadline_s)
            after = _unit(bus, name)
        if result == "done" and after is not None:
            return after
        if result == "done" and verb == "stop":
            # Its file is gone already: systemd forgot it when it had stopped.
            return replace(
                before, load_state="not-found", active_state="inactive", sub_state="dead", main_pid=0
            )
        raise self._job_failed(name, verb, result, after, deadline_s)

    def enable(self, name: str) -> None:
        """See ports.Units, with the reload that systemctl makes too."""
        with _bus(f"enable {name}") as bus:
            _manage(bus, b"EnableUnitFiles", b"asbb", [[name.encode()], False, False])
            _manage(bus, b"Reload", b"", [])

    def disable(self, name: str) -> None:
        """See ports.Units, with the reload that systemctl makes too."""
        with _bus(f"disable {name}") as bus:
            if _unit(bus, name) is None:
                raise SystemdError("NNA0502", f"cannot disable {name}", cause="there is no such unit")
            _manage(bus, b"DisableUnitFiles", b"asb", [[name.encode()], False])
            _manage(bus, b"Reload", b"", [])

    def reload(self) -> None:
        """See ports.Units; systemd answers when it has read all unit files again."""
        with _bus("reload systemd's units") as bus:
            _manage(bus, b"Reload", b"", [])

    def journal_tail(self, name: str, lines: int) -> tuple[str, ...]:
        """See ports.Units."""
        if lines <= 0:
            return ()
        argv = ("journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={name}")
        try:
            finished = self._processes.run(argv, deadline_s=_JOURNAL_S)
        except ProcessError:
            return ()
        return tuple(hide(line[:300]) for line in finished.stdout.splitlines()[-lines:])

    def _job_failed(
        self, name: str, verb: str, result: str, after: UnitFact | None, deadline_s: float
    ) -> SystemdError:
        cause = f"no end within {deadline_s:g} s; systemd goes on with it"
        state: tuple[str, ...] = ()
        if after is not None:
            state = (f"{name}: {after.active_state} ({after.sub_state}), result {after.result}",)
        return SystemdError(
            "NNA0503",
            f"{verb} of {name} failed",
            cause=f"systemd's job ended with: {result}" if result else cause,
            seen=(*state, *self.journal_tail(name, _LINES_IN_ERRORS)),
            try_=f"systemctl status {name}",
        )


class SystemdAlarms:
    """Alarms as transient timers (systemd-run --on-active).

    They are PID 1's: a terminal that is closed, a killed process and a restarted agent do not touch them,
    daemon-reload keeps them, and a reboot forgets them.
    """

    def __init__(self) -> None:
        self._units = SystemdUnits()

    def set(self, alarm: Alarm) -> None:
        """See ports.Alarms."""
        self.cancel(alarm.name)
        timer = f"{alarm.name}.timer"
        with _bus(f"set {timer}") as bus:
            for name in (timer, f"{alarm.name}.service"):
                _reset_failed(bus, name)  # systemd keeps one that failed, and with it the name
        service = {
            "Type": "oneshot",
            "TimeoutStartSec": _time(alarm.runs_s),
            "Restart": "on-failure" if alarm.tries > 1 else "no",
            "RestartSec": _time(alarm.retry_s),
            "StartLimitIntervalSec": "infinity",  # the starts are counted over all time
            "StartLimitBurst": alarm.tries,
        }
        argv = (
            "systemd-run", "--quiet", "--no-ask-password", f"--unit={alarm.name}",
            f"--description={alarm.about}", f"--on-active={_time(alarm.after_s)}",
            f"--timer-property=AccuracySec={_time(_ACCURACY_S)}",
            *(f"--property={key}={value}" for key, value in service.items()),
            "--", *alarm.argv,
        )  # fmt: skip
        try:
            ChildProcesses().run(argv, deadline_s=_ALARM_S)
        except ProcessError as error:
            raise SystemdError(
                "NNA0503", f"start of {timer} failed", cause=error.cause, seen=error.seen,
                try_=f"systemctl status {timer}",
            ) from error  # fmt: skip

    def cancel(self, name: str) -> None:
        """See ports.Alarms."""
        timer = self._units.get(f"{name}.timer")
        if timer is not None and timer.active_state != "inactive":
            self._units.job(timer.name, "stop", deadline_s=_ALARM_S)

    def waits(self, name: str) -> bool:
        """See ports.Alarms."""
        timer = self._units.get(f"{name}.timer")
        return timer is not None and timer.sub_state == "waiting"


def _time(seconds: float) -> str:
    """As systemd.time(7) has it."""
    return f"{round(seconds * 1000)}ms"


@contextlib.contextmanager
def _bus(doing: str) -> Iterator[DBus]:
    """The system bus, for one operation; its errors become SystemdError here and nowhere else."""
    bus = DBus()
    try:
        bus.open()
    except DBusBaseError as error:
        cause = f"the system bus cannot be reached: {os.strerror(abs(error.errno))}"
        raise SystemdError("NNA0501", f"cannot {doing}", cause=cause) from error
    try:
        yield bus
    except DBusBaseError as error:
        raise _translated(doing, error) from error
    finally:
        bus.close()


def _translated(doing: str, error: DBusBaseError) -> SystemdError:
    cause, name = _text(error.err_message) or str(error), _text(error.err_name) or type(error).__name__
    code = next((code for code, kinds in _CODES.items() if type(error).__name__ in kinds), "NNA0503")
    return SystemdError(code, f"cannot {doing}", cause=cause, seen=(f"{name}: {cause}",))


class _JobsEnded:
    """JobRemoved signals, collected from before the job is queued, so that none can be missed."""

    def __init__(self, bus: DBus) -> None:
        self._bus = bus
        self._results: dict[bytes, str] = {}

        # pystemd hangs an attribute on the callback (so no bound method) and keeps no reference to it (so we
        # do).
        def removed(
            message: Any,  # noqa: ANN401
            error: object = None,  # noqa: ARG001
            userdata: object = None,  # noqa: ARG001
        ) -> None:
            # Without headers; bookworm's pystemd 0.11 takes no keywords.
            message.process_reply(False)  # noqa: FBT003
            _number, job, _unit_name, result = message.body
            self._results[bytes(job)] = _text(result)

        self._callback = removed
        bus.match_signal(_SYSTEMD, _MANAGER_PATH, _MANAGER, b"JobRemoved", removed, None)
        _manage(bus, b"Subscribe", b"", [])  # without a subscriber systemd sends no signals

    def result(self, job: bytes, deadline: float) -> str:
        """The job's result, "" at the deadline."""
        while job not in self._results:
            left = deadline - time.monotonic()
            if left <= 0:
                return ""
            with contextlib.suppress(InterruptedError):
                self._bus.process()
                if job not in self._results:
                    self._bus.wait(int(min(left, _WAIT_SLICE_S) * 1e6))
        return self._results[job]


def _manage(bus: DBus, method: bytes, signature: bytes, arguments: Sequence[object]) -> Any:  # noqa: ANN401
    """Call a method of the manager; the body of its answer."""
    encoded = apply_signature(signature, list(arguments)) if signature else []
    return bus.call_method(_SYSTEMD, _MANAGER_PATH, _MANAGER, method, encoded).body


def _reset_failed(bus: DBus, name: str) -> None:
    """Clear a failed state and the count of starts (systemctl(1), reset-failed): a change and its undo
    restart containerd several times, and the last of them must not be refused for "start-limit-hit".
    """
    try:
        _manage(bus, b"ResetFailedUnit", b"s", [name.encode()])
    except DBusBaseError as error:
        if type(error).__name__ != "DBusNoSuchUnitError":  # not in memory: there is nothing to clear
            raise


def _properties(bus: DBus, path: bytes, interface: bytes) -> dict[str, object]:
    """All properties of an object's interface in one call; texts are bytes."""
    body = bus.call_method(_SYSTEMD, path, _PROPERTIES, b"GetAll", apply_signature(b"s", [interface])).body
    return {_text(name): value for name, value in body.items()} if isinstance(body, dict) else {}


def _unit(bus: DBus, name: str) -> UnitFact | None:
    path = bytes(_manage(bus, b"LoadUnit", b"s", [name.encode()]))
    unit = _properties(bus, path, _UNIT)
    if _text(unit.get("LoadState")) == "not-found":
        return None
    service = _properties(bus, path, _SERVICE) if name.endswith(".service") else {}
    return UnitFact(
        name=name,
        load_state=_text(unit.get("LoadState")),
        active_state=_text(unit.get("ActiveState")),
        sub_state=_text(unit.get("SubState")),
        unit_file_state=_text(unit.get("UnitFileState")),
        main_pid=_number(service.get("MainPID")),
        invocation_id=_hex(unit.get("InvocationID")),
        fragment_path=_text(unit.get("FragmentPath")),
        drop_in_paths=_texts(unit.get("DropInPaths")),
        kill_mode=_text(service.get("KillMode")),
        restart=_text(service.get("Restart")),
        result=_text(service.get("Result")),
        n_restarts=_number(service.get("NRestarts")),
        environment=_texts(service.get("Environment")),
        needs_reload=bool(unit.get("NeedDaemonReload")),
        inactive_exit_us=_number(unit.get("InactiveExitTimestampMonotonic")),
        start_limit=(_number(unit.get("StartLimitBurst")), _number(unit.get("StartLimitIntervalUSec"))),
        restart_us=_number(service.get("RestartUSec")),
        confinement=_confinement(service),
        command=_command(service.get("ExecStart")),
    )


def _confinement(service: dict[str, object]) -> Confinement:
    made = (f"{above}/{name}" for key, above in MADE_DIRECTORIES.items() for name in _texts(service.get(key)))
    return Confinement(
        user=_text(service.get("User")) or ("dynamic" if service.get("DynamicUser") else ""),
        protect_system=_text(service.get("ProtectSystem")),
        protect_home=_text(service.get("ProtectHome")),
        protect_tunables=bool(service.get("ProtectKernelTunables")),
        private_devices=bool(service.get("PrivateDevices")),
        writable=(*_texts(service.get("ReadWritePaths")), *made),
    )


def _command(value: object) -> tuple[str, ...]:
    """Of an `a(sasbttttuii)` the words of the first."""
    first = value[0] if isinstance(value, list) and value else ()
    return _texts(first[1]) if isinstance(first, (list, tuple)) and len(first) > 1 else ()


def _text(value: object) -> str:
    """pystemd gives strings as bytes."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(entry) for entry in value) if isinstance(value, list) else ()


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _hex(value: object) -> str:
    """An `ay` comes as a list of integers."""
    return bytes(value).hex() if isinstance(value, list) else ""
