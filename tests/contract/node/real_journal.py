"""The Journal contract on journald and journalctl themselves. Runs inside a booted test node."""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.journal import UnitJournal
from tests.contract.journal import JournalContract, JournalWorld
from tests.time_bounds import mostly

_UNIT = "talker.service"
_FIFO = "/run/talker"
_FILE = f"""[Service]
ExecStart=/bin/cat {_FIFO}
LogRateLimitIntervalSec=1s
LogRateLimitBurst=50
"""


class _JournaldWorld(JournalWorld):
    def __init__(self) -> None:
        self.port = self.real = UnitJournal(_UNIT)
        Path("/run/systemd/system", _UNIT).write_text(_FILE)
        os.mkfifo(_FIFO)
        subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=20)
        subprocess.run(["systemctl", "start", _UNIT], check=True, timeout=20)
        self._pipe = open(_FIFO, "w")  # noqa: SIM115 - closed by remove

    def write(self, text: str) -> None:
        self._pipe.write(text + "\n")
        self._pipe.flush()

    def flood(self) -> None:
        for number in range(5000):
            self.write(f"one of many, {number}")
        time.sleep(1.5)  # the interval of the rate limit and more
        self.write("the first that passes again")

    def kill(self) -> None:
        os.kill(self.pid(), signal.SIGKILL)

    def pid(self) -> int:
        feed = self.real._feed
        assert feed is not None
        return feed.pid

    def remove(self) -> None:
        self.port.close()
        self._pipe.close()
        subprocess.run(["systemctl", "stop", _UNIT], check=True, timeout=20)
        os.unlink(_FIFO)


@pytest.fixture
def world() -> Iterator[_JournaldWorld]:
    made = _JournaldWorld()
    yield made
    made.remove()


class TestJournald(JournalContract):
    pass


def test_a_unit_that_never_wrote_anything_is_followed_from_its_first_line_on() -> None:
    journal = UnitJournal("silent-so-far.service")
    journal.start()
    command = ["systemd-run", "--quiet", "--unit=silent-so-far", "--wait", "echo", "hello"]
    subprocess.run(command, check=True, timeout=20)
    texts = _within(journal, 2)
    journal.close()
    assert texts == ["hello"]


def _within(journal: UnitJournal, seconds: float) -> list[str]:
    end, texts = time.monotonic() + seconds, []
    while time.monotonic() < end:
        select.select([journal.fileno()], [], [], 0.1)
        texts += [line.text for line in journal.lines()]
    return texts


def test_a_line_comes_within_a_half_second_and_a_little(world: _JournaldWorld) -> None:
    world.begin()
    numbers = itertools.count()

    def late() -> float:
        world.write(f"line {next(numbers)}")
        (line,) = world.lines(1)
        return time.monotonic() - line.at

    mostly(late, 0.6, "from the line to its reader, in seconds")
    print(
        next(
            line
            for line in Path(f"/proc/{world.pid()}/smaps_rollup").read_text().splitlines()
            if "Pss:" in line
        )
    )
