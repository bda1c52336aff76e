"""This machine: its clocks, the moment on all of them by which a time is measured that outlives its process,
and its name.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from agent.facts.node import Moment

_MACHINE_ID = "/etc/machine-id"
_BOOT_ID = "sys/kernel/random/boot_id"
_INIT = "1/stat"
_START_TIME = 19  # field 22 of proc_pid_stat(5), counted after the name in brackets


class SystemClock:
    """CLOCK_REALTIME and CLOCK_MONOTONIC."""

    def now(self) -> float:
        """Seconds since the epoch; can step."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that only go forward; stands still while the machine is suspended."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep; not at all where `seconds` is not positive."""
        if seconds > 0:
            time.sleep(seconds)

    def moment(self) -> Moment:
        """See ports.Clock."""
        return present()


def present(proc: str = "/proc") -> Moment:
    """Now. What cannot be read is not known."""
    boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
    started = _init_started(proc)
    up_s = None if started is None else max(0.0, boottime - started)
    return Moment(time.time(), boottime, _text(f"{proc}/{_BOOT_ID}").strip(), up_s, time.monotonic())


def _init_started(proc: str) -> float | None:
    """When PID 1 was started, in seconds of CLOCK_BOOTTIME."""
    fields = _text(f"{proc}/{_INIT}").rpartition(")")[2].split()
    if len(fields) <= _START_TIME or not fields[_START_TIME].isdigit():
        return None
    return int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")


def _text(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def node_identity(machine_id: Path = Path(_MACHINE_ID)) -> str:
    """The machine's id (machine-id(5)) and its name: clones of one disk image may share the id, and must not
    all return to the mirror at one moment.
    """
    try:
        number = machine_id.read_text().strip()
    except OSError:
        number = ""
    return f"{number} {os.uname().nodename}"
