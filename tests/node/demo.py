"""`make demo`: the main job on real parts, told as it happens. Exit 0 only if every promise was kept.

A Debian node is booted, the package installed by apt, an image of over 100 MB run plain and lazily, and then
the mirror is killed and frozen under a container that reads all the time. DRAGONFLY=real takes a real
dfdaemon, =stand-in the light one; unset: the real one where it is in the cache already.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.node import cache, images, parts, scene
from tests.node.boot import Node

REGISTRY = "127.0.0.1:5000"


class Show:
    """Prints what happens, with the time since the start; remembers which promises were not kept."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.broken: list[str] = []

    def line(self, text: str, mark: str = " ") -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s] {mark} {text}", flush=True)

    def promise(self, kept: bool, text: str) -> None:
        self.line(text, "✔" if kept else "✘")
        if not kept:
            self.broken.append(text)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        self.line(f"{title} …", "▶")
        began = time.monotonic()
        yield
        self.line(f"{title}: {time.monotonic() - began:.1f} s", "·")


def main() -> int:
    if os.geteuid() != 0:
        print("the demo boots a node: run it as root (sudo make demo)", file=sys.stderr)
        return 2
    show = Show()
    real = wants_real_dfdaemon()
    with show.step("making what the node needs (kept for the next time)"):
        images.made()
        shares = parts.dragonfly_shares() if real else {}
    with Node(snapshotter="0.16.1", shares=shares) as node:
        show.line(f"a Debian node with systemd and containerd is up after {node.boot_s:.1f} s", "✔")
        mirror = dress(show, node, real=real)
        install(show, node)
        start_lazily(show, node, mirror)
        run_pod(show, node)
        break_the_mirror(show, node, mirror)
        node.run(["systemctl", "start", "nydus-agent-inspect.service"], timeout=180)
        show.line("nydus-agent status", "▶")
        print(scene.agent(node, "status", check=False).stdout)
    for text in show.broken:
        show.line(f"not kept: {text}", "✘")
    show.line("done" if not show.broken else "the demo failed", "✔" if not show.broken else "✘")
    return 1 if show.broken else 0


def wants_real_dfdaemon() -> bool:
    wish = os.environ.get("DRAGONFLY", "")
    if wish not in ("", "real", "stand-in"):
        raise SystemExit(f"DRAGONFLY={wish}: must be real or stand-in")
    return wish == "real" or (wish == "" and cache.find("dfdaemon") is not None)


def dress(show: Show, node: Node, *, real: bool) -> parts.Mirror | parts.Dfdaemon:
    with show.step(f"registry and {'dfdaemon 1.5.10' if real else 'the stand-in for dfdaemon'} on the node"):
        parts.start_registry(node)
        mirror = parts.start_dfdaemon(node) if real else parts.start_mirror(node)
    with show.step("pushing the images into the node's registry"):
        for name in ("python", "python-nydus", "reader-nydus"):
            images.push(node, name, f"{REGISTRY}/{name}:1")
        images.load_pause(node)
    return mirror


def install(show: Show, node: Node) -> None:
    with show.step("apt install nydus-node-agent, with [apply] on_install = true"):
        scene.install(node)
    status = scene.agent_json(node, "doctor")
    for check in status["checks"]:
        show.line(
            f"  check {check['number']:2} {check['name']}: {check['state']}  "
            f"{check['detail'] or check['cause']}"
        )
    failed = [check for check in status["checks"] if check["state"] not in ("ok", "not-proved")]
    show.promise(not failed, "the change was made and proved (checks 8 and 10 wait for a nydus image)")


def start_lazily(show: Show, node: Node, mirror: parts.Mirror | parts.Dfdaemon) -> None:
    size = images.image("python-nydus").size
    with show.step("the plain image on overlayfs, cold"):
        plain = scene.start_plain(node, f"{REGISTRY}/python:1")
    with show.step("the same image in nydus format, cold"):
        before = scene.mirror_bytes(mirror)
        lazy = scene.start_nydus(node, f"{REGISTRY}/python-nydus:1")
    fetched, through = scene.nydusd_bytes(node), scene.mirror_bytes(mirror) - before
    if isinstance(mirror, parts.Mirror):
        through -= scene.bootstrap_size("python-nydus")
    show.line(f"the container says: {lazy.output.strip()}")
    show.promise(
        lazy.first_output_s < plain.first_output_s,
        f"first output after {lazy.first_output_s:.2f} s, plain {plain.first_output_s:.2f} s "
        f"(pull {lazy.pull_s:.2f} s, plain {plain.pull_s:.2f} s)",
    )
    show.promise(
        fetched < 0.35 * size,
        f"nydusd fetched {fetched / 1e6:.1f} of {size / 1e6:.1f} MB ({100 * fetched / size:.0f} %) "
        "before the first output",
    )
    if isinstance(mirror, parts.Mirror):
        show.promise(
            through >= 0.9 * fetched,
            f"{through / 1e6:.1f} MB of them came through the mirror, by its own count",
        )
    else:  # its counter takes in what it fetches ahead: check 10, below, counts exactly
        show.line(f"dfdaemon moved {through / 1e6:.1f} MB, what it fetched ahead included")


def run_pod(show: Show, node: Node) -> None:
    with show.step("the nydus image as a CRI pod"):
        command = ["python3", "-c", "import json, platform; print('a pod on', platform.machine())"]
        said = scene.pod(node, f"{REGISTRY}/python-nydus:1", command)
    show.promise("a pod on" in said, f"the pod says: {said.strip()}")
    check = scene.agent_json(node, "doctor")["checks"][9]
    show.promise(check["state"] == "ok", f"check 10: {check['state']}: {check['detail'] or check['cause']}")


def break_the_mirror(show: Show, node: Node, mirror: parts.Mirror | parts.Dfdaemon) -> None:
    ref = f"{REGISTRY}/reader-nydus:1"
    scene.pull(node, ref)
    scene.drop_caches()
    with scene.Reader(node, ref, pause_ms=100) as reader:
        reader.wait_for(20)
        show.line(f"a container reads all the time, route {scene.route(node)}", "✔")
        disturb(show, node, mirror, reader, "killed")
        disturb(show, node, mirror, reader, "frozen")
        total = len(reader.reads())
        show.promise(
            not reader.errors(), f"{total} reads, {len(reader.errors())} errors: {reader.errors()[:3]}"
        )


def disturb(
    show: Show, node: Node, mirror: parts.Mirror | parts.Dfdaemon, reader: scene.Reader, how: str
) -> None:
    at = time.time()
    if how == "killed":
        mirror.unit.kill("KILL")
    else:
        mirror.unit.freeze()
    scene.wait_for_route(node, "origin", 10)
    took = float(scene.daemon_status(node)["route_since"]) - at
    reader.wait_for(20)
    slowest = reader.slowest_ms(at)
    show.promise(
        not reader.errors() and slowest < 3000,
        f"mirror {how}: route origin after {took * 1000:.0f} ms; slowest read {slowest:.0f} ms, no error",
    )
    if how == "frozen":
        mirror.unit.thaw()
    else:
        restart(node, mirror)
    back = scene.wait_for_route(node, "mirror", 120)
    show.promise(True, f"mirror back: route mirror {back:.1f} s later (successes in succession and a canary)")


def restart(node: Node, mirror: parts.Mirror | parts.Dfdaemon) -> None:
    if isinstance(mirror, parts.Mirror):
        mirror.start_again()
    else:
        mirror.unit.stop()
        mirror.scheduler.stop()
        parts.start_dfdaemon(node)


if __name__ == "__main__":
    sys.exit(main())
