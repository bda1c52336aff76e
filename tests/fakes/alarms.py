"""Alarms that go off when the test lets time pass."""

from __future__ import annotations

from agent.errors import SystemdError
from agent.ports import Alarm
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults


class FakeAlarms:
    """Faults count `set` and `cancel`. `due` hands out those whose time has come, once each."""

    def __init__(self, clock: FakeClock, *, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        self.systemd_running = True
        self._clock = clock
        self._set: dict[str, tuple[float, Alarm]] = {}

    def set(self, alarm: Alarm) -> None:
        with self.faults.around("set", alarm.name):
            self._need_systemd()
            self._set[alarm.name] = (self._clock.monotonic() + alarm.after_s, alarm)

    def cancel(self, name: str) -> None:
        with self.faults.around("cancel", name):
            self._need_systemd()
            self._set.pop(name, None)

    def waits(self, name: str) -> bool:
        self._need_systemd()
        found = self._set.get(name)
        return found is not None and self._clock.monotonic() < found[0]

    def due(self) -> tuple[Alarm, ...]:
        """Those that go off now."""
        gone = [name for name, (at, _) in self._set.items() if self._clock.monotonic() >= at]
        return tuple(self._set.pop(name)[1] for name in gone)

    def reboot(self) -> None:
        """They are forgotten."""
        self._set.clear()

    def _need_systemd(self) -> None:
        if not self.systemd_running:
            raise SystemdError("NNA0501", "systemd does not answer", cause="PID 1 is another program")
