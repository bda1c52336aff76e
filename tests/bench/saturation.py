"""`make bench-saturation`: does a dfdaemon that works as hard as it can, on a node without a free core, stay
in use?

Method: one booted node with a real dfdaemon, our package applied, a container that reads cold files all the
time. For ten minutes (quick form: 45 s) 24 clients read pieces of a blob through port 4001 as fast as they
can, and each core runs a busy loop besides. The daemon's own picture is asked for four times a second, on its
socket. A switch is an entry of its history with route origin; none is allowed, because the mirror answers all
the time, only late.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.bench.report import Goal, Row, publish, quick, row
from tests.node import parts, scene
from tests.node.dragonfly import DragonflyStage, Load, staged

METHOD = (
    "dfdaemon read by 24 clients, a busy loop on each core, a reading container; the agent asked four "
    "times a second"
)
IMAGE = "reader-nydus"
SECONDS, QUICK_SECONDS = 600.0, 45.0
CLIENTS = 24
_LOOK_EVERY_S = 0.25


@dataclass
class Seen:
    """What the daemon published while the node was saturated."""

    ping_ms: dict[float, float] = field(default_factory=dict)
    canary_ms: dict[float, float] = field(default_factory=dict)
    window_ms: list[float] = field(default_factory=list)
    canary_window_ms: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    reads_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    load: dict[str, Any] = field(default_factory=dict)

    @property
    def switches(self) -> list[dict[str, Any]]:
        """The changes that took reads away from the mirror."""
        return [entry for entry in self.history if entry["route"] == "origin"]

    def add(self, status: dict[str, Any]) -> None:
        """One look at the daemon's picture."""
        mirror = status["mirror"]
        for kept, name in ((self.ping_ms, "ping"), (self.canary_ms, "canary")):
            if mirror[f"{name}_ok"] and mirror[f"{name}_at"] is not None:
                kept[mirror[f"{name}_at"]] = mirror[f"{name}_ms"]
        self.window_ms.append(status["window_ms"])
        self.canary_window_ms.append(status["canary_window_ms"])


def ask(stage: DragonflyStage) -> dict[str, Any]:
    """The daemon's picture of this moment; the file is written at changes and else every few seconds."""
    url = ["--unix-socket", "/run/nydus-agent/api.sock", "http://localhost/status"]
    answer: dict[str, Any] = json.loads(
        stage.node.run(["curl", "--silent", "--fail", "--max-time", "10", *url]).stdout
    )
    return answer


@contextmanager
def busy_cores(stage: DragonflyStage) -> Iterator[None]:
    """A loop that never rests on each core of the machine."""
    loops = [
        parts.start_unit(stage.node, f"busy-{core}", ["python3", "-S", "-c", "while True: pass"])
        for core in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.stop()


def saturate(stage: DragonflyStage, seconds: float) -> Seen:
    """Work the node as hard as it goes for `seconds`, and look."""
    node, ref, seen = stage.node, stage.ref(IMAGE), Seen()
    scene.pull(node, ref)
    scene.wait_for_route(node, "mirror", 60)
    with scene.Reader(node, ref, pause_ms=max(20, round(seconds * 1000 / 600))) as reader, busy_cores(stage):
        reader.wait_for(3, 60)
        began = time.time()
        load = Load(stage, IMAGE, clients=CLIENTS, seconds=seconds)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            seen.add(ask(stage))
            time.sleep(_LOOK_EVERY_S)
        seen.load = load.result()
        seen.history = [entry for entry in ask(stage)["history"] if entry["at"] >= began]
        seen.reads_ms = [read.ms for read in reader.reads() if read.at >= began]
        seen.errors = reader.errors()
    return seen


def rows(seen: Seen) -> list[Row]:
    """The table."""
    load = seen.load
    answered = {"requests": sum(load["statuses"].values()), "MB": round(load["bytes"] / 1e6)}
    return [
        row("ping, as the agent saw it", list(seen.ping_ms.values()), "ms"),
        row("canary, as the agent saw it", list(seen.canary_ms.values()), "ms"),
        row("window of a ping", seen.window_ms, "ms"),
        row("window of a canary", seen.canary_window_ms, "ms"),
        row("a read in the container", seen.reads_ms, "ms", errors=len(seen.errors)),
        Row("a piece for a client of the load", answered["requests"], load["p50_ms"], load["p99_ms"],
            load["max_ms"],
            "ms", extra={"MB": answered["MB"]}),
    ]  # fmt: skip


def main() -> int:
    """Measure and publish."""
    short = quick()
    seconds = QUICK_SECONDS if short else SECONDS
    with staged(IMAGE) as stage:
        seen = saturate(stage, seconds)
    for entry in seen.history:
        print(f"{entry['from']} -> {entry['to']}, {entry['route']}: {entry['reason']} ({entry['evidence']})")
    goals = [
        Goal(f"switches in {seconds:g} s of saturation", len(seen.switches), 0, "switches"),
        Goal("errors of reads in the container", len(seen.errors), 0, "errors"),
    ]
    return publish("saturation", METHOD, rows(seen), quick=short, goals=goals)


if __name__ == "__main__":
    sys.exit(main())
