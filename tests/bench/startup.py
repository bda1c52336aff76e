"""`make bench-startup`: `nydus-agent bench` on a test node with a real dfdaemon, the cases of the Dragonfly page.

Method: the verb itself, as installed, with the python image plain and in nydus format; scheduler and dfdaemon on the
node's loopback; the registry too, behind a front that sends 10 MB/s on each connection, as one that is far away. There
is one dfdaemon, and its scheduler knows no peers: the hit on a remote peer is not run. What was on the node before is
there afterwards, and nothing else. The verb draws the chart.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.bench.report import DIRECTORY, Goal, publish, quick, row
from tests.node import cache
from tests.node.boot import Node, NodeError
from tests.node.dragonfly import DragonflyStage, staged

METHOD = "nydus-agent bench, from the beginning of the pull to python3 -V's output; a registry of 10 MB/s a connection"
ROUNDS, QUICK_ROUNDS = 5, 1
ORIGIN_RATE = 10_000_000
IMAGES = ("python", "python-nydus")
COMMAND = "python3 -V"
CHART = "/root/startup.svg"
SITE_ON_NODE = "/usr/local/lib/python3.13/dist-packages"
RUN = ("oci-cold", "nydus-cold", "mirror-cold", "local-peer", "nydus-cache")
"""The cases that this stage gives."""


def main() -> int:
    """Measure and publish."""
    short = quick()
    with staged(*IMAGES, shares=drawing(), far=ORIGIN_RATE) as stage:
        before = left(stage.node)
        answer = measured(stage, QUICK_ROUNDS if short else ROUNDS)
        after = left(stage.node)
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        shutil.copy(stage.node.inside(CHART), DIRECTORY / f"startup{'-quick' if short else ''}.svg")
    (pair,) = answer["pairs"]
    cases = {case["case"]: case for case in pair["cases"]}
    for claim in pair["order"]:
        print(f"{'as on the page' if claim['holds'] else 'not as on the page'}: {claim['claim']}")
    rows = [
        row(case["title"], [run["ready_s"] for run in case["runs"]], "s", extra=extra(case))
        for case in pair["cases"]
        if case["runs"]
    ]
    for case in pair["cases"]:
        if case["not_run"]:
            print(f"not run: {case['title']}: {case['not_run']}")
    goals = [
        Goal("cases that should have run and did not", float(sum(not cases[name]["runs"] for name in RUN)), 0, "cases"),
        Goal("things that were left on the node", float(len(after ^ before)), 0, "things"),
        Goal("Nydus cold / OCI cold", ratio(cases, "nydus-cold", "oci-cold"), 1, "x"),
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
    done = stage.node.run(verb, check=False, timeout=900)
    print(done.stderr)
    if done.returncode != 0:
        raise NodeError(f"nydus-agent bench ended with {done.returncode}: {done.stdout}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def extra(case: dict[str, Any]) -> dict[str, float | str]:
    """Further columns: what else is known of a case."""
    spread = case["ready_s"]
    found: dict[str, float | str] = {"min": spread["min"], "IQR": spread["iqr"], "MAD": spread["mad"]}
    for heading, key in (("origin MB", "origin_bytes"), ("mirror MB", "mirror_bytes")):
        found[heading] = "not known" if case[key] is None else case[key] / 1e6
    return found


def ratio(cases: dict[str, dict[str, Any]], of: str, to: str) -> float:
    """Of two medians; endless where one was not run."""
    if not (cases[of]["runs"] and cases[to]["runs"]):
        return float("inf")
    return float(cases[of]["ready_s"]["p50"] / cases[to]["ready_s"]["p50"])


def left(node: Node) -> set[str]:
    """Images, containers, snapshots, namespaces and the pin, as the node has them now."""
    found = {f"namespace {name}" for name in node.run(["ctr", "namespaces", "ls", "-q"]).stdout.split()}
    for kind in ("images", "containers"):
        found |= {f"{kind} {name}" for name in node.run(["ctr", "-n", "k8s.io", kind, "ls", "-q"]).stdout.split()}
    for snapshotter in ("overlayfs", "nydus"):
        lines = node.run(["ctr", "-n", "k8s.io", "snapshots", "--snapshotter", snapshotter, "ls"]).stdout.splitlines()
        found |= {f"snapshot {snapshotter} {line.split()[0]}" for line in lines[1:] if line.strip()}
    cached = node.run("ls /var/lib/containerd-nydus/cache 2>/dev/null || true").stdout.split()
    pin = json.loads(node.read("/run/nydus-agent/status.json"))["pin"]
    return found | {f"cache {name}" for name in cached} | {f"pin {pin}"}


if __name__ == "__main__":
    raise SystemExit(main())
