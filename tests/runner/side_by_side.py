"""Runs commands of one stage side by side, those that must be alone after the others, and tells of all as of
one run.

Each command writes into a log of its own, which is shown when it has ended: lines of different tests never
mix. What pytest says last of a run is said once, for all of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.runner import report
from tests.runner.groups import cores
from tests.runner.processes import end, start
from tests.runner.stages import Command

_REPORT_S = 60.0
_SLOWEST, _SLOW_S = 25, 2.0
_ENDS = re.compile(
    r"(=+ )?(\d+ \w+|no tests ran)\b.* in \d[\d.]*s( \(.*\))?( =+)?|-+ generated xml file: .* -+"
)
"""The lines of a single run of pytest that are said once for all."""


@dataclass
class _Running:
    command: Command
    process: subprocess.Popen[bytes]
    began: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


@dataclass
class SideBySide:
    """The commands of one stage, as many at once as `width` says."""

    environment: Mapping[str, str]
    width: int
    deadline_s: float = 3600.0
    _waiting: list[Command] = field(default_factory=list)
    _running: list[_Running] = field(default_factory=list)
    _ended: list[tuple[Command, float]] = field(default_factory=list)
    _reasons: list[str] = field(default_factory=list)

    def run(self, commands: Sequence[Command], name: str) -> tuple[report.Counts, list[str]]:
        """Run all; what their tests counted, and why the run is not green.

        Ends what runs when it is interrupted.
        """
        self._waiting = list(commands)
        for command in commands:
            _forget(command)
        began = said = time.monotonic()
        busy_s = _busy_s()
        try:
            while self._waiting or self._running:
                self._reap()
                self._start()
                if time.monotonic() - began > self.deadline_s:
                    self._reasons.append(f"{name}: not done after {self.deadline_s:g} s")
                    break
                if time.monotonic() - said > _REPORT_S:
                    said = time.monotonic()
                    print(self._picture(), flush=True)
                time.sleep(0.1)
        finally:
            end([running.process for running in self._running])
        return self._close(name, time.monotonic() - began, _busy_s() - busy_s)

    def _start(self) -> None:
        while (command := self._next()) is not None:
            self._waiting.remove(command)
            with open(_log(command), "wb") as log:
                process = start(command.argv, self.environment, log)
            self._running.append(_Running(command, process, time.monotonic()))

    def _next(self) -> Command | None:
        """What may begin now: those that are alone after all others, and beside none but their like."""
        here = {running.command.alone for running in self._running}
        wanted = [command for command in self._waiting if not command.alone] or self._waiting
        may = (command for command in wanted if here <= {command.alone} and self._has_room(command))
        return next(may, None)

    def _has_room(self, command: Command) -> bool:
        if self.width == 1:
            return not self._running
        return sum(running.command.place for running in self._running) + command.place <= self.width

    def _reap(self) -> None:
        for running in list(self._running):
            code = running.process.poll()
            command = running.command
            if code is None and running.seconds > command.deadline_s:
                end([running.process])
                code = 124
            if code is None:
                continue
            self._running.remove(running)
            self._ended.append((command, running.seconds))
            if code != 0:
                self._reasons.append(f"{' '.join(command.argv)}: exit status {code}")
            self._show(command, code, running.seconds)

    def _show(self, command: Command, code: int, seconds: float) -> None:
        result = "ok" if code == 0 else f"not done after {seconds:.0f} s, ended" if code == 124 else "FAILED"
        counts = report.read_junit(_junit(command))
        print(
            f"\n── {_name(command)}: {result}, {counts.passed} passed, {counts.failed} failed, "
            f"{report.clock(seconds)}"
        )
        text = _log(command).read_text(errors="replace").splitlines()
        print("\n".join(line for line in text if not _ENDS.fullmatch(line)), flush=True)

    def _picture(self) -> str:
        now = ", ".join(f"{_name(one.command)} {report.clock(one.seconds)}" for one in self._running)
        return f"{len(self._ended)} ended, {len(self._waiting)} to come; now: {now or 'none'}"

    def _close(self, name: str, seconds: float, busy_s: float) -> tuple[report.Counts, list[str]]:
        """The end of the run, as pytest has it."""
        results = [_junit(command) for command, _ in self._ended]
        total = sum((report.read_junit(path) for path in results), report.Counts())
        if total.skipped:
            self._reasons.append(f"{total.skipped} tests did not run (skipped or expected to fail)")
        tests = report.read_tests(results)
        print(f"\n── {name}: the slowest of {len(tests)} tests, with their set-up")
        for seconds_of, test, _ in sorted(tests, reverse=True)[:_SLOWEST]:
            if seconds_of > _SLOW_S:
                print(f"{seconds_of:8.1f} s  {test}")
        busy = f"{self.width} at once, {100 * busy_s / seconds / cores():.0f} % of the cores' time used"
        print(f"── {name}: {busy}")
        for command, seconds_of in sorted(self._ended, key=lambda ended: -ended[1]):
            print(f"{seconds_of:8.1f} s  {_name(command)}{' (alone)' if command.alone else ''}")
        for _, test, message in sorted(tests, key=lambda found: found[1]):
            if message:
                print(f"FAILED {test} - {message}")
        print(report.pytest_line(total, seconds), flush=True)
        return total, self._reasons


def _busy_s() -> float:
    """Seconds for which the machine's cores ran anything, since it was booted."""
    user, nice, system, _, _, irq, softirq = Path("/proc/stat").read_text().split()[1:8]
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def _junit(command: Command) -> Path:
    assert command.junit is not None, "what runs beside others counts its tests in a file"
    return command.junit


def _name(command: Command) -> str:
    return _junit(command).stem


def _log(command: Command) -> Path:
    return _junit(command).with_suffix(".log")


def _forget(command: Command) -> None:
    """What a former run wrote must not be taken for this one's."""
    _junit(command).parent.mkdir(parents=True, exist_ok=True)
    for path in (_junit(command), _log(command)):
        path.unlink(missing_ok=True)
