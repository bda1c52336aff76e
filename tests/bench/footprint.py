"""`make bench-footprint`: what the daemon costs on a node with 100 mounts.

Method: a booted node, the package applied, the mirror well, 100 small nydus images each mounted by a nydusd
of its own (a prepared snapshot, as for a container), the metrics scraped each 15 s. After a minute of rest
the daemon is watched for 10 minutes with its default of 4 pings a second: for how long it ran (schedstat at
both ends), memory (smaps_rollup) each 10 s, and the lines that it logged. All figures are of the unit: the
daemon and whatever children it has. The PSS that is bounded is that of a node alone on its machine
(tests/bench/shared_pages.py). About 14 minutes; `--quick`: 5 mounts, 1 minute.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import shared_pages
from tests.bench.report import Goal, Row, publish, quick, row
from tests.node import cache, images, layout, scene
from tests.node.boot import Node

METHOD = "the agent's unit on a node with many mounts, mirror well, metrics scraped"
UNIT = "nydus-agent.service"
_PSS_MIB, _THREADS, _CPU_PERCENT, _LINES_AN_HOUR = 30, 4, 0.5, 10
_LOOK_EACH_S, _SCRAPE_EACH_S = 10.0, 15.0
_TICKS = 100  # sysconf(_SC_CLK_TCK) of every architecture that Debian has


def main() -> int:
    """Measure and publish."""
    small = quick()
    mounts, seconds = (5, 60) if small else (100, 600)
    with scene.staged() as stage:
        _mount(stage, mounts)
        print(f"{mounts} mounts are made", flush=True)
        scene.wait_for_route(stage.node, "mirror")
        time.sleep(10 if small else 60)
        rows, goals = _watch(stage.node, seconds, f"{mounts} mounts")
    return publish("footprint", METHOD, rows, quick=small, goals=goals)


# The mounts


def _mount(stage: scene.Stage, count: int) -> None:
    """Make, push, pull and mount `count` images, each of one small file that no other has."""
    node = stage.node
    with tempfile.TemporaryDirectory() as scratch:
        for name, diff_ids in _make(Path(scratch), count):
            image = images.read_image(Path(scratch) / "layout", name)
            ref = images.push_image(node, Path(scratch) / "layout", image, stage.ref(name))
            scene.pull(node, ref)
            chain = hashlib.sha256(" ".join(diff_ids).encode()).hexdigest()
            prepare = ["ctr", "--namespace=k8s.io", "snapshots", "--snapshotter=nydus", "prepare"]
            node.run([*prepare, f"bench-{name}", f"sha256:{chain}"])
    running = node.run("ls /var/lib/containerd-nydus/socket/*/api*.sock | wc -l").stdout.strip()
    if int(running) < count:
        raise SystemExit(f"{running} nydusd run, not {count}")


def _make(scratch: Path, count: int) -> Iterator[tuple[str, list[str]]]:
    """Each image's name and its layers' diff ids."""
    made = layout.Layout(scratch / "layout")
    converter = cache.make("nydus") / "bin" / "nydus-image"
    for number in range(count):
        name = f"mount-{number:03}"
        source, out = scratch / name / "root", scratch / name
        source.mkdir(parents=True)
        (source / "number").write_text(f"{number}\n" * 4096)
        options = ["--type", "dir-rafs", "--fs-version", "6", "--compressor", "zstd"]
        files = ["--bootstrap", str(out / "bootstrap"), "--blob", str(out / "blob")]
        command = [str(converter), "create", *options, *files, str(source)]
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        layout.add_nydus(made, name, out, ["/none"])
        yield name, _diff_ids(made, name)


def _diff_ids(made: layout.Layout, name: str) -> list[str]:
    manifest = json.loads((made.blobs / images.read_image(made.directory, name).manifest[7:]).read_text())
    config = json.loads((made.blobs / manifest["config"]["digest"][7:]).read_text())
    found: list[str] = config["rootfs"]["diff_ids"]
    return found


# The daemon


@dataclass
class Watched:
    """What was seen of the unit while it was watched, in MiB and threads."""

    rss: list[float] = field(default_factory=list)
    pss: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)

    def look(self, node: Node) -> None:
        """One look at all processes of the unit."""
        rss = pss = threads = 0.0
        for pid in node.processes(UNIT):
            sizes = sizes_mib(pid)
            rss, pss = rss + sizes["Rss:"], pss + sizes["Pss:"]
            threads += len(list(Path(f"/proc/{pid}/task").iterdir()))
        self.rss.append(rss)
        self.pss.append(pss)
        self.threads.append(threads)


def sizes_mib(pid: int) -> dict[str, float]:
    """What the kernel's smaps_rollup says of a process: name with its colon -> MiB. Raises OSError."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}


def _watch(node: Node, seconds: float, where: str) -> tuple[list[Row], list[Goal]]:
    seen, scrape_at = Watched(), 0.0
    since = "@" + node.run(["date", "+%s.%6N"]).stdout.strip()
    processes, began, spent = node.processes(UNIT), time.monotonic(), _cpu_s(node)
    while (now := time.monotonic()) < began + seconds:
        if now >= scrape_at:
            scrape_at = now + _SCRAPE_EACH_S
            _scrape(node)
        seen.look(node)
        time.sleep(min(_LOOK_EACH_S, max(0.0, began + seconds - time.monotonic())))
    took = time.monotonic() - began
    percents = {name: 100 * (ran - spent.get(name, 0.0)) / took for name, ran in _cpu_s(node).items()}
    percent = sum(percents.values())
    if node.processes(UNIT) != processes:
        raise SystemExit(
            f"the unit's processes changed while it was watched: {processes}, {node.processes(UNIT)}"
        )
    lines, alone = _lines(node, since), shared_pages.pss_mib(processes, node.leader)
    hourly = len(lines) * 3600 / seconds
    rows = [
        row(f"agent, {where}: RSS", seen.rss, "MiB", extra={"processes": len(processes)}),
        row(f"agent, {where}: PSS, pages shared with other nodes too", seen.pss, "MiB"),
        row(f"agent, {where}: PSS", [alone], "MiB"),
        row(f"agent, {where}: threads", seen.threads, "threads"),
        row(f"agent, {where}: CPU over {seconds:g} s", [percent], "% of a core"),
        *(row(f"... of which {name}", [share], "% of a core") for name, share in percents.items()),
        row(f"agent, {where}: log lines in {seconds:g} s", [len(lines)], "lines", extra={"an hour": hourly}),
    ]
    print("".join(f"  logged: {line}\n" for line in lines), end="", flush=True)
    return rows, [
        Goal("PSS", alone, _PSS_MIB, "MiB"),
        Goal("threads", max(seen.threads), _THREADS, "threads"),
        Goal("CPU", percent, _CPU_PERCENT, "% of a core"),
        Goal(f"log lines an hour, from {seconds:g} s", hourly, _LINES_AN_HOUR, "lines"),
    ]


def _cpu_s(node: Node) -> dict[str, float]:
    """Seconds that the threads of each of the unit's programs ran, and their children that ended (in whole
    ticks).
    """
    total: dict[str, float] = {}
    for pid in node.processes(UNIT):
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        fields = rest.split()
        ran = (
            sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
            / 1e9
        )
        total[name] = total.get(name, 0.0) + ran + (int(fields[13]) + int(fields[14])) / _TICKS
    return total


def _lines(node: Node, since: str) -> list[str]:
    """What the daemon itself wrote, without what systemd says about the unit."""
    command = ["journalctl", "--quiet", "--output=cat", f"--since={since}", f"_SYSTEMD_UNIT={UNIT}"]
    return node.run(command).stdout.splitlines()


def _scrape(node: Node) -> None:
    socket = ["--unix-socket", "/run/nydus-agent/api.sock"]
    node.run(["curl", "--silent", "--fail", "--output", "/dev/null", *socket, "http://localhost/metrics"])


if __name__ == "__main__":
    sys.exit(main())
