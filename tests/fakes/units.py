"""A systemd of dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from agent.errors import SystemdError
from agent.facts.node import UnitFact
from agent.ports import Files
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults

UNIT_DIRECTORY = "/etc/systemd/system"


def unit(name: str, *, active: bool = False, pid: int = 0, enabled: bool = True) -> UnitFact:
    """A plausible unit, loaded; active and enabled where asked."""
    return UnitFact(
        name=name,
        load_state="loaded",
        active_state="active" if active else "inactive",
        sub_state="running" if active else "dead",
        unit_file_state="enabled" if enabled else "disabled",
        main_pid=pid,
        invocation_id=f"{pid:032x}" if active else "",
        fragment_path=f"/usr/lib/systemd/system/{name}",
        kill_mode="process",
        result="success",
    )


class FakeUnits:
    """Units by name. Faults count `job`, `enable`, `disable` and `reload`.

    With `files`, a reload finds the unit files that lie in /etc/systemd/system and forgets those that are
    gone.
    """

    def __init__(
        self,
        units: Iterable[UnitFact] = (),
        *,
        files: Files | None = None,
        faults: Faults | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self._clock = clock if clock is not None else FakeClock()
        self.faults = faults if faults is not None else Faults()
        self.units = {fact.name: fact for fact in units}
        self._packaged: dict[str, str] = {}
        self.systemd_running = True
        self.on_job: list[Callable[[str, str], None]] = []
        """Called with (name, verb) after a job was done: the process behind the unit starts or ends here."""
        self.journal: dict[str, list[str]] = {}
        self._files = files
        self._results: dict[tuple[str, str], list[str]] = {}
        self._pid = 1000

    def fail_job(self, name: str, verb: str, result: str = "failed", *, times: int = 1) -> None:
        """The next `times` jobs of this kind end with `result`: failed, timeout, dependency, canceled, or ""
        for a job that does not end before the caller's deadline.
        """
        self._results.setdefault((name, verb), []).extend([result] * times)

    def running(self) -> bool:
        return self.systemd_running

    def get(self, name: str) -> UnitFact | None:
        self._need_systemd()
        return self.units.get(name)

    def job(self, name: str, verb: str, *, deadline_s: float) -> UnitFact:
        self._need_systemd()
        with self.faults.around("job", name, verb):
            found = self._known(name)
            results = self._results.get((name, verb), [])
            result = results.pop(0) if results else "done"
            if result != "done":
                self._fail(found, verb, result)
            self.units[name] = self._after(found, verb)
            for act in self.on_job:
                act(name, verb)
        return self.units[name]

    def enable(self, name: str) -> None:
        self._need_systemd()
        with self.faults.around("enable", name):
            self.units[name] = replace(self._on_disk(name), unit_file_state="enabled")

    def disable(self, name: str) -> None:
        self._need_systemd()
        with self.faults.around("disable", name):
            self.units[name] = replace(self._on_disk(name), unit_file_state="disabled")

    def reload(self) -> None:
        self._need_systemd()
        with self.faults.around("reload"):
            self._scan()

    def journal_tail(self, name: str, lines: int) -> tuple[str, ...]:
        return tuple(self.journal.get(name, [])[-lines:]) if lines > 0 else ()

    def _need_systemd(self) -> None:
        if not self.systemd_running:
            raise SystemdError("NNA0501", "systemd does not answer", cause="PID 1 is another program")

    def _known(self, name: str) -> UnitFact:
        if name not in self.units:
            raise SystemdError("NNA0502", f"there is no unit {name}")
        return self.units[name]

    def _on_disk(self, name: str) -> UnitFact:
        # systemd lays and removes links by the files that are there now, whatever it has read before.
        found = self._known(name)
        if found.fragment_path.startswith(UNIT_DIRECTORY) and not self.has_file(found.fragment_path):
            raise SystemdError("NNA0502", f"there is no unit {name}", cause=f"Unit {name} does not exist")
        return found

    def has_file(self, path: str) -> bool:
        """Whether a unit file of /etc is there."""
        return self._files is None or self._files.read(path) is not None

    def _after(self, found: UnitFact, verb: str) -> UnitFact:
        if verb == "stop":
            return replace(found, active_state="inactive", sub_state="dead", main_pid=0, result="success")
        if verb == "start" and found.active_state == "active":
            return found
        self._pid += 1
        return replace(
            found, active_state="active", sub_state="running", main_pid=self._pid,
            invocation_id=f"{self._pid:032x}",
            result="success", inactive_exit_us=int(self._clock.monotonic() * 1e6),
        )  # fmt: skip

    def _fail(self, found: UnitFact, verb: str, result: str) -> None:
        if not result:
            self.units[found.name] = replace(found, active_state="activating", sub_state="start", main_pid=0)
        elif verb != "stop":
            self.units[found.name] = replace(
                found, active_state="failed", sub_state="failed", main_pid=0, result="exit-code"
            )
        raise SystemdError(
            "NNA0503", f"{verb} of {found.name} failed",
            cause=f"systemd's job ended with: {result}" if result else "no end within the deadline",
            seen=self.journal_tail(found.name, 5),
        )  # fmt: skip

    def _scan(self) -> None:
        if self._files is None:
            return
        on_disk = {
            name for name in self._files.listdir(UNIT_DIRECTORY) if name.endswith((".service", ".timer"))
        }
        for name in on_disk - set(self.units):
            self.units[name] = replace(
                unit(name), fragment_path=f"{UNIT_DIRECTORY}/{name}", unit_file_state="disabled"
            )
        for name, found in list(self.units.items()):
            ours = found.fragment_path.startswith(UNIT_DIRECTORY)
            if name in on_disk and not ours:  # it goes before the package's
                self._packaged[name] = found.fragment_path
                self.units[name] = replace(found, fragment_path=f"{UNIT_DIRECTORY}/{name}")
            elif name not in on_disk and ours and name in self._packaged:
                self.units[name] = replace(found, fragment_path=self._packaged[name])
            elif name not in on_disk and ours and found.active_state != "active":
                del self.units[name]
