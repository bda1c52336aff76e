"""Builds what nodes are made of in the background, while the quick stages run."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.node import cache
from tests.runner import report

_CALLS = {
    "images": "from tests.node import images; images.made()",
    "puller": "from tests.node import stock; stock.puller()",
    "dragonfly-files": "from tests.node import stock; stock.dragonfly_files()",
    "bookworm": "from tests.node import stock; stock.root('bookworm')",
    "arm64-root": "from tests.node import arm64; arm64.root()",
    "arm64-programs": "from tests.node import arm64; arm64.programs()",
}
"""What is more than a recipe by its name."""
LANES: tuple[tuple[str, ...], ...] = (
    # Every node waits for nydus, the longest but one. dfdaemon, the longest, begins when it is there.
    ("nydus", "images", "dfdaemon"),
    # What a node is made of, then what the other stages need in their order.
    ("root", "wrapper", "crictl", "snapshotter", "containerds", "bookworm", "promtool", "scheduler", "puller",
     "dragonfly-files", "arm64-root", "arm64-programs", "dragonfly-scheduler"),
)  # fmt: skip
"""What is built beside each other, each lane in its order."""
NODE = ("root", "wrapper", "crictl", "snapshotter", "nydus")
"""What a booted node is made of."""
ARM64 = ("arm64-root", "arm64-programs")
"""What an emulated node is made of."""
DRAGONFLY = ("dfdaemon", "dragonfly-scheduler")
"""What only the tests with a real dfdaemon wait for: these begin last, so it is built in what the others
leave over.
"""
PACKAGE = (*NODE, "bookworm", "promtool")
"""What the package stage needs; no other needs promtool."""
ALL = tuple(name for lane in LANES for name in lane if name not in (*ARM64, "promtool"))
"""What the tests on nodes and the benches need."""

_DEADLINE_S = 4500.0
_REPORT_S = 30.0
_FOUND_S = 1.0
"""What takes no longer was made before, and found."""


@dataclass
class Builds:
    """Some lanes of builds; `wait` reports until what a stage needs is done."""

    environment: Mapping[str, str]
    log: Path
    _waited_s: float = 0.0
    """For how long stages did nothing but wait for builds."""
    _took: dict[str, float] = field(default_factory=dict)
    _lanes: list[threading.Thread] = field(default_factory=list)
    _running: dict[str, tuple[subprocess.Popen[bytes], float]] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, wanted: Collection[str]) -> None:
        """Begin to build what is wanted; returns at once."""
        for lane in LANES:
            names = [name for name in lane if name in wanted]
            thread = threading.Thread(
                target=self._build, args=(names,), name=f"build {' '.join(names)}", daemon=True
            )
            self._lanes.append(thread)
            thread.start()

    def wait(self, needed: Collection[str]) -> list[str]:
        """Those of `needed` that could not be built; says every half minute what is still under way."""
        began = said = time.monotonic()
        deadline = began + _DEADLINE_S
        while missing := sorted(set(needed) - self._done - self._failed):
            if time.monotonic() > deadline:
                self.stop()
                return [f"{name} (not done in time)" for name in missing]
            if time.monotonic() - said > _REPORT_S:
                said = time.monotonic()
                print(f"building: {self._progress()}", flush=True)
            time.sleep(0.2)
        self._waited_s += time.monotonic() - began
        return sorted(self._failed & set(needed))

    def stop(self) -> None:
        """End what is still being built. What is complete stays."""
        self._stopped.set()
        for process, _ in list(self._running.values()):
            # By session: a recipe has a process group of its own, so that its deadline ends all that it
            # started.
            subprocess.run(
                ["pkill", "--signal", "KILL", "--session", str(process.pid)], check=False, timeout=10
            )
        for lane in self._lanes:
            lane.join(10)

    def _build(self, names: Sequence[str]) -> None:
        for name in names:
            if self._stopped.is_set():
                return
            what = ("-c", _CALLS[name]) if name in _CALLS else ("-m", "tests.node.cache", name)
            with open(self.log / f"build-{name}.log", "wb") as log:
                process = subprocess.Popen(
                    ["nice", "-n", str(niceness(name)), sys.executable, *what],
                    env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
                _lower(process.pid, niceness(name))
                self._running[name] = (process, time.monotonic())
                code = process.wait()
            self._took[name] = time.monotonic() - self._running.pop(name)[1]
            if code == 0:
                self._done.add(name)
            elif not self._stopped.is_set():
                self._failed.add(name)
                print(f"{name} could not be built:", *last_lines(name, 15), sep="\n  ", flush=True)

    def summary(self) -> str:
        """What was built now and how long each took, and how long stages waited; empty where all was there
        before.
        """
        took = {name: seconds for name, seconds in self._took.items() if seconds > _FOUND_S}
        if not took:
            return ""
        parts = ", ".join(f"{name} {report.clock(seconds)}" for name, seconds in took.items())
        return f"built: {parts}; stages did nothing but wait for builds for {report.clock(self._waited_s)}"

    def _progress(self) -> str:
        """What is being built, for how long, and the last line of each log."""
        parts = []
        for name, (_, since) in sorted(dict(self._running).items()):
            parts.append(f"{name} for {time.monotonic() - since:.0f} s{_last_line(name)}")
        return "; ".join(parts) or "nothing"


def niceness(name: str) -> int:
    """How far a build gives way: what most tests wait for does not, what only the last ones need gives way to
    all.
    """
    return 19 if name in DRAGONFLY else 0


def _lower(session: int, by: int) -> None:
    """Make a whole session give way.

    Where the kernel groups processes by session, `nice` counts within one only.
    """
    with contextlib.suppress(OSError):  # not every kernel does
        Path(f"/proc/{session}/autogroup").write_text(str(by))


def last_lines(name: str, count: int) -> list[str]:
    """The last lines of a recipe's newest log ("*": of any recipe's)."""
    logs = sorted(cache.cache_dir().glob(f"{name}-*.log"), key=lambda path: path.stat().st_mtime)
    lines = logs[-1].read_text(errors="replace").split("\n") if logs else []
    return [line.strip() for line in lines if line.strip()][-count:]


def _last_line(name: str) -> str:
    """A sign of life."""
    told = last_lines(name, 1)
    return f" ({told[0][:60]})" if told else ""
