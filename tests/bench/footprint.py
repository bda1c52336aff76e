"""`make bench-footprint`: the daemon's memory and threads on a node, and which import costs what.

Method: a booted node with the package applied and the mirror well; the daemon is looked at after 60 s
(/proc/PID/smaps_rollup). Then each set of imports in five fresh interpreters of the node; the median counts. Compared
with a bare interpreter in the same run.
"""

from __future__ import annotations

import time

from tests.bench.report import Row, publish, row
from tests.node import scene
from tests.node.boot import Node

METHOD = "smaps_rollup of the daemon 60 s after apply, and of fresh interpreters after each import"
IMPORTS = (
    ("bare interpreter", ""),
    ("tomllib", "import tomllib"),
    ("asyncio", "import asyncio"),
    ("asyncio, nftables", "import asyncio, nftables"),
    ("asyncio, nftables, watchdog", "import asyncio, nftables, watchdog.observers"),
    ("asyncio, nftables, watchdog, structlog", "import asyncio, nftables, watchdog.observers, structlog"),
    ("ssl alone", "import ssl"),
    ("requests alone", "import requests"),
    ("pystemd alone", "import pystemd"),
    ("grpcio alone", "import grpc"),
)
_LOOK = "\nimport re; print(*re.findall(r'^(?:Rss|Pss): *([0-9]+)', open('/proc/self/smaps_rollup').read(), re.M))"


def main() -> None:
    """Measure and publish."""
    with scene.staged() as stage:
        time.sleep(60)
        rows = daemon_rows(stage.node)
        for case, code in IMPORTS:
            samples = [import_sample(stage.node, code) for _ in range(5)]
            rows.append(row(f"import {case}: RSS", [rss for rss, _ in samples], "MiB"))
            rows.append(row(f"import {case}: PSS", [pss for _, pss in samples], "MiB"))
    publish("footprint", METHOD, rows)


def daemon_rows(node: Node) -> list[Row]:
    """The running daemon: RSS, PSS, threads, and CPU time in a minute."""
    pid = node.run(["systemctl", "show", "--property=MainPID", "--value", "nydus-agent"]).stdout.strip()
    lines = node.read(f"/proc/{pid}/smaps_rollup").splitlines()[1:]
    sizes = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
    threads = len(node.run(["ls", f"/proc/{pid}/task"]).stdout.split())
    before = cpu_ms(node, pid)
    time.sleep(60)
    spent = cpu_ms(node, pid) - before
    return [
        row("daemon: RSS", [sizes["Rss:"]], "MiB"),
        row("daemon: PSS", [sizes["Pss:"]], "MiB"),
        row("daemon: threads", [threads], "threads"),
        row("daemon: CPU in a minute, mirror well", [spent], "ms"),
    ]


def cpu_ms(node: Node, pid: str) -> float:
    """User and system time of a process so far, in milliseconds (100 ticks a second)."""
    fields = node.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 10.0


def import_sample(node: Node, code: str) -> tuple[float, float]:
    """(RSS, PSS) in MiB of a fresh interpreter after `code`."""
    rss, pss = node.run(["python3", "-I", "-c", code + _LOOK]).stdout.split()
    return int(rss) / 1024, int(pss) / 1024


if __name__ == "__main__":
    main()
