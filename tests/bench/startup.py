"""`make bench-startup`: `nydus-agent bench` on a test node with two real dfdaemons, the cases of the
Dragonfly page.

Method: the verb itself, as installed, with the python image plain and in nydus format; the registry on the
node's loopback, behind a front that sends 10 MB/s on each connection, as one that is far away. Dragonfly's
own scheduler knows the node's dfdaemon and one on another host: a network namespace, joined by a pair of
interfaces without a limit of bandwidth or a delay, on the same cores and disk. In the first half of the
verb's rounds that peer has nothing of the image; after the half it reads the image's data through Dragonfly,
from the node's peer, while the verb makes a start that hits the local peer: that one is disturbed, one of
all. From then on a start whose data the node's peer has not finds it there. So both cases are measured in one
run of the verb, the other four in both halves: the last two columns tell how the machine itself changed
between the two. What was on the node before is there afterwards, and nothing else. The verb draws the chart.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.report import DIRECTORY, Goal, publish, quick, row
from tests.node import cache
from tests.node.boot import Node, NodeError
from tests.node.dragonfly import DragonflyStage, staged

METHOD = (
    "nydus-agent bench, from the beginning of the pull to python3 -V's output; a registry of 10 MB/s a "
    "connection, a second peer behind a link without a limit, which has the data in the second half of the "
    "rounds"
)
ROUNDS, QUICK_ROUNDS = 10, 2
ORIGIN_RATE = 10_000_000
IMAGES = ("python", "python-nydus")
COMMAND = "python3 -V"
CHART = "/root/startup.svg"
SITE_ON_NODE = "/usr/local/lib/python3.13/dist-packages"
_THROUGH = ("Nydus + Dragonfly cold", "hit on ", "Nydus cache")
"""How the verb's lines on starts begin that come after those without the mirror, by its order of rounds."""


def main() -> int:
    """Measure and publish."""
    short = quick()
    repetitions = QUICK_ROUNDS if short else ROUNDS
    with staged(*IMAGES, shares=drawing(), far=ORIGIN_RATE, beside=True) as stage:
        before = left(stage.node)
        answer = measured(stage, repetitions)
        after = left(stage.node)
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        shutil.copy(stage.node.inside(CHART), DIRECTORY / f"startup{'-quick' if short else ''}.svg")
    (pair,) = answer["pairs"]
    cases = {case["case"]: case for case in pair["cases"]}
    for claim in pair["order"]:
        print(f"{'as on the page' if claim['holds'] else 'not as on the page'}: {claim['claim']}")
    rows = [
        row(case["title"], seconds(case), "s", extra={**extra(case), **halves(case, repetitions)})
        for case in pair["cases"]
        if case["runs"]
    ]
    for case in pair["cases"]:
        if case["not_run"]:
            print(f"not run: {case['title']}: {case['not_run']}")
    goals = [
        Goal("cases that were not run", float(sum(not case["runs"] for case in pair["cases"])), 0, "cases"),
        Goal("things that were left on the node", float(len(after ^ before)), 0, "things"),
        Goal("Nydus cold / OCI cold", ratio(cases, "nydus-cold", "oci-cold"), 1, "x"),
        Goal("hit on a remote peer / Nydus cold", ratio(cases, "remote-peer", "nydus-cold"), 1, "x"),
        Goal("hit on the local peer / Nydus cold", ratio(cases, "local-peer", "nydus-cold"), 1, "x"),
        Goal("Nydus cache / hit on the local peer", ratio(cases, "nydus-cache", "local-peer"), 1, "x"),
    ]
    for thing in sorted(after ^ before):
        print(f"left or gone: {thing}")
    return publish("startup", METHOD, rows, quick=short, goals=goals)


def drawing() -> dict[str, Path]:
    """What a node must see of the machine to draw charts."""
    return {SITE_ON_NODE: cache.make("matplotlib")}


def measured(stage: DragonflyStage, repetitions: int) -> dict[str, Any]:
    """What the verb answers. Raises NodeError where it fails."""
    verb = ["nydus-agent", "bench", "--oci", stage.ref(IMAGES[0]), "--nydus", stage.ref(IMAGES[1]), "--yes"]
    verb += ["--command", COMMAND, "-n", str(repetitions), "--chart", CHART, "--format", "json"]
    verb += ["--dfdaemon-socket", "/run/dragonfly/dfdaemon.sock"]
    half = tuple(f"[{repetitions // 2}/{repetitions}] {label}" for label in _THROUGH)
    shared = False
    with tempfile.TemporaryFile("w+") as answer:
        process = stage.node.popen(verb, stdin=subprocess.DEVNULL, stdout=answer, stderr=subprocess.PIPE)
        with process, _ended_after(process, 900):
            assert process.stderr is not None
            for line in io.TextIOWrapper(process.stderr):
                print(line, end="", flush=True)
                if line.startswith(half) and not shared:
                    print(f"the other peer has the data: {stage.share(IMAGES[1]) / 1e6:.1f} MB", flush=True)
                    shared = True
        answer.seek(0)
        if process.returncode != 0:
            raise NodeError(f"nydus-agent bench ended with {process.returncode}: {answer.read()}")
        document: dict[str, Any] = json.load(answer)
    return document


@contextmanager
def _ended_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Nothing is waited for longer."""
    watchdog = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def extra(case: dict[str, Any]) -> dict[str, float | str]:
    """Further columns: what else is known of a case."""
    spread = case["ready_s"]
    found: dict[str, float | str] = {"min": spread["min"], "IQR": spread["iqr"], "MAD": spread["mad"]}
    for heading, key in (("origin MB", "origin_bytes"), ("mirror MB", "mirror_bytes")):
        found[heading] = "not known" if case[key] is None else case[key] / 1e6
    return found


def seconds(case: dict[str, Any]) -> list[float]:
    """Until ready, of each start."""
    return [run["ready_s"] for run in case["runs"]]


def halves(case: dict[str, Any], repetitions: int) -> dict[str, float | str]:
    """The medians before and after the other peer had the data, of a case that was measured in all rounds."""
    ordered, half = seconds(case), repetitions // 2
    if len(ordered) != repetitions:
        return {}
    return {"1st half": statistics.median(ordered[:half]), "2nd half": statistics.median(ordered[half:])}


def ratio(cases: dict[str, dict[str, Any]], of: str, to: str) -> float:
    """Of two medians; endless where one was not run."""
    if not (cases[of]["runs"] and cases[to]["runs"]):
        return float("inf")
    return float(cases[of]["ready_s"]["p50"] / cases[to]["ready_s"]["p50"])


def left(node: Node) -> set[str]:
    """Images, containers, snapshots, namespaces and the pin, as the node has them now."""
    found = {f"namespace {name}" for name in node.run(["ctr", "namespaces", "ls", "-q"]).stdout.split()}
    for kind in ("images", "containers"):
        found |= {
            f"{kind} {name}" for name in node.run(["ctr", "-n", "k8s.io", kind, "ls", "-q"]).stdout.split()
        }
    for snapshotter in ("overlayfs", "nydus"):
        lines = node.run(
            ["ctr", "-n", "k8s.io", "snapshots", "--snapshotter", snapshotter, "ls"]
        ).stdout.splitlines()
        found |= {f"snapshot {snapshotter} {line.split()[0]}" for line in lines[1:] if line.strip()}
    cached = node.run("ls /var/lib/containerd-nydus/cache 2>/dev/null || true").stdout.split()
    pin = json.loads(node.read("/run/nydus-agent/status.json"))["pin"]
    return found | {f"cache {name}" for name in cached} | {f"pin {pin}"}


if __name__ == "__main__":
    raise SystemExit(main())
