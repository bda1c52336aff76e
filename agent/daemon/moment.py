"""The present moment on every clock that a pin is measured by."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = "sys/kernel/random/boot_id"
_INIT = "1/stat"
_START_TIME = 19  # field 22 of proc_pid_stat(5), counted after the name in brackets


@dataclass(frozen=True, slots=True)
class Moment:
    """Wall clock and boot clock. The wall clock may be stepped; the other goes on, also while the machine sleeps."""

    now: float
    """Seconds since the epoch."""
    boottime: float = 0.0
    """Seconds of CLOCK_BOOTTIME."""
    boot: str = ""
    """Which boot this is (random(4), boot_id); "" = not known."""
    up_s: float | None = None
    """Seconds since PID 1 was started, at least; None: not known. In a container CLOCK_BOOTTIME is that of the host."""


def present(proc: str = "/proc") -> Moment:
    """Now. What cannot be read is not known."""
    boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
    started = _init_started(Path(proc))
    up_s = None if started is None else max(0.0, boottime - started)
    return Moment(time.time(), boottime, _text(Path(proc) / _BOOT_ID).strip(), up_s)


def _init_started(proc: Path) -> float | None:
    """When PID 1 was started, in seconds of CLOCK_BOOTTIME."""
    fields = _text(proc / _INIT).rpartition(")")[2].split()
    if len(fields) <= _START_TIME or not fields[_START_TIME].isdigit():
        return None
    return int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
