"""Builds what nodes are made of in the background, while the quick stages run."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.node import cache

_CALLS = {
    "images": "from tests.node import images; images.made()",
    "puller": "from tests.node import stock; stock.puller()",
    "dragonfly-files": "from tests.node import stock; stock.dragonfly_files()",
    "bookworm": "from tests.node import stock; stock.root('bookworm')",
    "arm64-root": "from tests.node import arm64; arm64.root()",
    "arm64-programs": "from tests.node import arm64; arm64.programs()",
}
"""What is more than a recipe by its name."""
_LANES: tuple[tuple[str, ...], ...] = (
    ("dfdaemon",),  # the longest by far: begun first, beside all the others
    ("nydus", "images"),  # every node waits for the first
    ("root", "containerds", "systemd-252", "promtool", "wrapper", "crictl", "snapshotter", "scheduler", "puller",
     "skopeo", "dragonfly-files", "bookworm", "arm64-root", "arm64-programs",
     "dragonfly-scheduler"),  # two minutes of two cores, and still there before dfdaemon
)  # fmt: skip
NODE = ("root", "wrapper", "crictl", "snapshotter", "nydus")
"""What a booted node is made of."""
ARM64 = ("arm64-root", "arm64-programs")
"""What an emulated node is made of."""
DRAGONFLY = ("dfdaemon", "dragonfly-scheduler")
"""What only the tests with a real dfdaemon wait for."""
ALL = tuple(name for lane in _LANES for name in lane if name not in ARM64)

_DEADLINE_S = 4500.0
_REPORT_S = 30.0


@dataclass
class Builds:
    """Some lanes of builds at low priority; `wait` reports until what a stage needs is done."""

    environment: Mapping[str, str]
    log: Path
    _lanes: list[threading.Thread] = field(default_factory=list)
    _running: dict[str, tuple[subprocess.Popen[bytes], float]] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, wanted: Collection[str]) -> None:
        """Begin to build what is wanted; returns at once."""
        for lane in _LANES:
            names = [name for name in lane if name in wanted]
            thread = threading.Thread(target=self._build, args=(names,), name=f"build {' '.join(names)}", daemon=True)
            self._lanes.append(thread)
            thread.start()

    def wait(self, needed: Collection[str]) -> list[str]:
        """Those of `needed` that could not be built; says every half minute what is still under way."""
        deadline = time.monotonic() + _DEADLINE_S
        said = time.monotonic()
        while missing := self.missing(needed):
            if time.monotonic() > deadline:
                self.stop()
                return [f"{name} (not done in time)" for name in missing]
            if time.monotonic() - said > _REPORT_S:
                said = time.monotonic()
                print(f"building: {self.story()}", flush=True)
            time.sleep(0.2)
        return self.failed(needed)

    def missing(self, needed: Collection[str]) -> list[str]:
        """Those of `needed` that are still to be built."""
        return sorted(set(needed) - self._done - self._failed)

    def failed(self, needed: Collection[str]) -> list[str]:
        """Those of `needed` that could not be built."""
        return sorted(self._failed & set(needed))

    def stop(self) -> None:
        """End what is still being built. What is complete stays."""
        self._stopped.set()
        for process, _ in list(self._running.values()):
            # By session: a recipe has a process group of its own, so that its deadline ends all that it started.
            subprocess.run(["pkill", "--signal", "KILL", "--session", str(process.pid)], check=False, timeout=10)
        for lane in self._lanes:
            lane.join(10)

    def _build(self, names: Sequence[str]) -> None:
        for name in names:
            if self._stopped.is_set():
                return
            what = ("-c", _CALLS[name]) if name in _CALLS else ("-m", "tests.node.cache", name)
            with open(self.log / f"build-{name}.log", "wb") as log:
                process = subprocess.Popen(
                    ["nice", "-n", "5", sys.executable, *what],
                    env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
                self._running[name] = (process, time.monotonic())
                code = process.wait()
            del self._running[name]
            if code == 0:
                self._done.add(name)
            elif not self._stopped.is_set():
                self._failed.add(name)
                print(f"{name} could not be built:", *last_lines(name, 15), sep="\n  ", flush=True)

    def story(self) -> str:
        """What is being built, for how long, and the last line of each log."""
        parts = []
        for name, (_, since) in sorted(dict(self._running).items()):
            parts.append(f"{name} for {time.monotonic() - since:.0f} s{_last_line(name)}")
        return "; ".join(parts) or "nothing"


def last_lines(name: str, count: int) -> list[str]:
    """The last lines of a recipe's newest log ("*": of any recipe's)."""
    logs = sorted(cache.cache_dir().glob(f"{name}-*.log"), key=lambda path: path.stat().st_mtime)
    lines = logs[-1].read_text(errors="replace").split("\n") if logs else []
    return [line.strip() for line in lines if line.strip()][-count:]


def _last_line(name: str) -> str:
    """A sign of life."""
    told = last_lines(name, 1)
    return f" ({told[0][:60]})" if told else ""
