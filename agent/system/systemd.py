"""systemd over D-Bus (org.freedesktop.systemd1(5)), with pystemd's bus and nothing of its object layer.

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

from agent.errors import ProcessError, SystemdError
from agent.facts.node import MADE_DIRECTORIES, Confinement, UnitFact
from agent.ports import Processes
from agent.system.process import ChildProcesses

SYSTEMD = b"org.freedesktop.systemd1"
MANAGER_PATH = b"/org/freedesktop/systemd1"
MANAGER = b"org.freedesktop.systemd1.Manager"
_UNIT = b"org.freedesktop.systemd1.Unit"
_SERVICE = b"org.freedesktop.systemd1.Service"
_PROPERTIES = b"org.freedesktop.DBus.Properties"

_JOB_METHODS = {"start": b"StartUnit", "stop": b"StopUnit", "restart": b"RestartUnit"}
_WAIT_SLICE_S = 1.0  # sd_bus_wait holds the interpreter: a signal to us must not wait longer than this
_JOURNAL_S = 5.0
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
            with system_bus("ask systemd for its version") as bus:
                bus.get_property(SYSTEMD, MANAGER_PATH, MANAGER, b"Version", b"s")
        except SystemdError:
            return False
        return True

    def get(self, name: str) -> UnitFact | None:
        """See ports.Units. A unit that systemd has not loaded yet is read from the disk."""
        with system_bus(f"look at {name}") as bus:
            return _unit(bus, name)

    def job(self, name: str, verb: str, *, deadline_s: float) -> UnitFact:
        """See ports.Units. At the deadline the job is left to systemd: cancelling it could do more harm."""
        method = _JOB_METHODS[verb]
        with system_bus(f"{verb} {name}") as bus:
            before = _unit(bus, name)
            if before is None:
                raise SystemdError("NNA0502", f"cannot {verb} {name}", cause="there is no such unit")
            ended = JobsEnded(bus)
            if verb != "stop":
                reset_failed(bus, name)
            job = bytes(manage(bus, method, b"ss", [name.encode(), b"replace"]))
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
        with system_bus(f"enable {name}") as bus:
            manage(bus, b"EnableUnitFiles", b"asbb", [[name.encode()], False, False])
            manage(bus, b"Reload", b"", [])

    def disable(self, name: str) -> None:
        """See ports.Units, with the reload that systemctl makes too."""
        with system_bus(f"disable {name}") as bus:
            if _unit(bus, name) is None:
                raise SystemdError("NNA0502", f"cannot disable {name}", cause="there is no such unit")
            manage(bus, b"DisableUnitFiles", b"asb", [[name.encode()], False])
            manage(bus, b"Reload", b"", [])

    def reload(self) -> None:
        """See ports.Units; systemd answers when it has read all unit files again."""
        with system_bus("reload systemd's units") as bus:
            manage(bus, b"Reload", b"", [])

    def journal_tail(self, name: str, lines: int) -> tuple[str, ...]:
        """See ports.Units."""
        if lines <= 0:
            return ()
        argv = ("journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={name}")
        try:
            finished = self._processes.run(argv, deadline_s=_JOURNAL_S)
        except ProcessError:
            return ()
        return tuple(line[:300] for line in finished.stdout.splitlines()[-lines:])

    def _job_failed(
        self, name: str, verb: str, result: str, after: UnitFact | None, deadline_s: float
    ) -> SystemdError:
        state = (
            ""
            if after is None
            else f"{name}: {after.active_state} ({after.sub_state}), result {after.result}"
        )
        seen = (*filter(None, (state,)), *self.journal_tail(name, _LINES_IN_ERRORS))
        if result:
            cause = f"systemd's job ended with: {result}"
            return SystemdError(
                "NNA0503", f"{verb} of {name} failed", cause=cause, seen=seen, try_=f"systemctl status {name}"
            )
        cause = f"no end within {deadline_s:g} s; systemd goes on with it"
        return SystemdError(
            "NNA0503",
            f"{verb} of {name} takes too long",
            cause=cause,
            seen=seen,
            try_=f"systemctl status {name}",
        )


@contextlib.contextmanager
def system_bus(doing: str) -> Iterator[DBus]:
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
    kind, message = type(error).__name__, error.err_message or str(error)
    detail = (
        f"{error.err_name.decode() if isinstance(error.err_name, bytes) else error.err_name or kind}: "
        f"{_text(message)}"
    )
    match kind:
        case "DBusNoSuchUnitError" | "DBusFileNotFoundError":
            code = "NNA0502"
        case "DBusNoReplyError" | "DBusTimeoutError" | "DBusTimedOutError":
            code = "NNA0503"
        case "DBusAccessDeniedError" | "DBusInteractiveAuthorizationRequiredError":
            code = "NNA0503"
        case (
            "DBusConnectionRefusedError"
            | "DBusDisconnectedError"
            | "DBusServiceUnknownError"
            | "DBusNoServerError"
        ):
            code = "NNA0501"
        case _:
            code = "NNA0503"
    return SystemdError(code, f"cannot {doing}", cause=_text(message), seen=(detail,))


class JobsEnded:
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
        bus.match_signal(SYSTEMD, MANAGER_PATH, MANAGER, b"JobRemoved", removed, None)
        manage(bus, b"Subscribe", b"", [])  # without a subscriber systemd sends no signals

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


def manage(bus: DBus, method: bytes, signature: bytes, arguments: Sequence[object]) -> Any:  # noqa: ANN401
    """Call a method of the manager; the body of its answer."""
    encoded = apply_signature(signature, list(arguments)) if signature else []
    return bus.call_method(SYSTEMD, MANAGER_PATH, MANAGER, method, encoded).body


def reset_failed(bus: DBus, name: str) -> None:
    """Clear a failed state and the count of starts (systemctl(1), reset-failed): a change and its undo
    restart containerd several times, and the last of them must not be refused for "start-limit-hit".
    """
    try:
        manage(bus, b"ResetFailedUnit", b"s", [name.encode()])
    except DBusBaseError as error:
        if type(error).__name__ != "DBusNoSuchUnitError":  # not in memory: there is nothing to clear
            raise


def properties(bus: DBus, path: bytes, interface: bytes) -> dict[str, object]:
    """All properties of an object's interface in one call; texts are bytes."""
    body = bus.call_method(SYSTEMD, path, _PROPERTIES, b"GetAll", apply_signature(b"s", [interface])).body
    return {_text(name): value for name, value in body.items()} if isinstance(body, dict) else {}


def _unit(bus: DBus, name: str) -> UnitFact | None:
    path = bytes(manage(bus, b"LoadUnit", b"s", [name.encode()]))
    unit = properties(bus, path, _UNIT)
    if _text(unit.get("LoadState")) == "not-found":
        return None
    service = properties(bus, path, _SERVICE) if name.endswith(".service") else {}
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
        read_only=_texts(service.get("ReadOnlyPaths")),
        inaccessible=_texts(service.get("InaccessiblePaths")),
    )


def _command(value: object) -> tuple[str, ...]:
    """Of an `a(sasbttttuii)` the words of the first."""
    first = value[0] if isinstance(value, list) and value else ()
    return _texts(first[1]) if isinstance(first, (list, tuple)) and len(first) > 1 else ()


def _text(value: object) -> str:
    """pystemd gives strings as bytes."""
    return (
        value.decode(errors="replace")
        if isinstance(value, bytes)
        else value
        if isinstance(value, str)
        else ""
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(entry) for entry in value) if isinstance(value, list) else ()


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _hex(value: object) -> str:
    """An `ay` comes as a list of integers."""
    return bytes(value).hex() if isinstance(value, list) else ""
