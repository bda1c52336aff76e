"""How fast the real daemon fences: its own process and user, with one capability, real nft, and a mirror that
is killed or frozen. What others would meet is asked of the kernel: the set's elements.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.netfilter.fence import NftFence
from tests.contract.netns import own_network
from tests.time_bounds import mostly

ROOT = Path(__file__).parents[2]
UID = 61234
DEADLINE_S = 60.0
CONFIG = """
version = 1
[mirror.health]
dwell_ms = 500
rise = 3
[fleet]
return_window_s = 0
"""
DAEMON = """
import sys
sys.path.insert(0, sys.argv[1])
from agent.__main__ import main
sys.exit(main(["--config", sys.argv[2] + "/agent.toml", "daemon"], root=sys.argv[2]))
"""
MIRROR = "from tests.node.inside.mirror import main; main()"


def wait(done: Callable[[], bool], what: str) -> float:
    """Until it is so, asked without a pause; how long it took."""
    started = time.monotonic()
    while not done():
        assert time.monotonic() - started < DEADLINE_S, f"not within {DEADLINE_S:g} s: {what}"
    return time.monotonic() - started


class Node:
    """The daemon and its mirror in a network of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fence = NftFence(UID)
        for place in ("run/nydus-agent", "var/lib/nydus-agent"):
            (root / place).mkdir(parents=True)
        (root / "agent.toml").write_text(CONFIG)
        (root / "var/lib/nydus-agent/effective.json").write_text(
            json.dumps({"switch": "fence", "reasons": ["test"]})
        )
        for path in (root, *root.rglob("*")):
            os.chown(path, UID, UID)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_mirror(self) -> None:
        self.mirror = self._start([sys.executable, "-c", MIRROR])

    def _start(self, argv: list[str]) -> subprocess.Popen[bytes]:
        self.processes.append(subprocess.Popen(argv, cwd=ROOT))
        return self.processes[-1]

    def start_daemon(self) -> None:
        rights = ["--inh-caps=-all,+net_admin", "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin"]
        user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *rights, "--no-new-privs"]
        self.daemon = self._start([*user, sys.executable, "-I", "-c", DAEMON, str(ROOT), str(self.root)])

    def status(self) -> dict[str, Any]:
        try:
            found = json.loads((self.root / "run/nydus-agent/status.json").read_bytes())
        except FileNotFoundError:
            return {}
        assert isinstance(found, dict)
        return found

    def wait_for(self, health_state: str, route: str) -> None:
        def is_so() -> bool:
            time.sleep(0.02)
            found = self.status()
            return (found.get("health_state"), found.get("route")) == (health_state, route)

        wait(is_so, f"{health_state}, {route}")

    def start_anew(self) -> None:
        """A new run of the agent, which has forgotten the outages before: three in a row are damped for
        minutes.
        """
        self.daemon.kill()
        self.daemon.wait(60)
        self.fence.remove_table()
        for name in ("status.json", "memory.json"):
            (self.root / "run/nydus-agent" / name).unlink()
        self.start_daemon()
        self.wait_for("healthy", "mirror")

    def fenced(self) -> bool:
        return bool(self.fence.fenced())

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(60)


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    root = tmp_path_factory.mktemp("node")
    for parent in (root, *root.parents[:2]):
        parent.chmod(0o755)
    with own_network():
        made = Node(root)
        try:
            made.start_mirror()
            made.start_daemon()
            made.wait_for("healthy", "mirror")
            yield made
        finally:
            made.end()


def told(what: str, seconds: float) -> float:
    print(f"{what}: {seconds * 1000:.1f} ms")
    return seconds


def test_a_killed_mirror_is_fenced_before_a_ping_could_tell(node: Node) -> None:
    def took() -> float:
        node.mirror.send_signal(signal.SIGKILL)
        fenced_s = wait(node.fenced, "fenced")
        node.mirror.wait(60)
        node.start_mirror()
        node.wait_for("down", "origin")
        node.start_anew()
        return fenced_s

    mostly(took, 0.1, "seconds from SIGKILL to the fence")


def test_a_frozen_mirror_is_fenced_and_used_again(node: Node) -> None:
    def took() -> float:
        node.start_anew()
        node.mirror.send_signal(signal.SIGSTOP)
        fenced_s = wait(node.fenced, "fenced")
        node.wait_for("down", "origin")
        node.mirror.send_signal(signal.SIGCONT)
        node.wait_for("healthy", "mirror")
        assert not node.fenced()
        return fenced_s

    mostly(took, 0.9, "seconds from SIGSTOP to the fence")


def test_a_crash_leaves_the_fence_to_the_next_run_and_to_its_lease(node: Node) -> None:
    node.mirror.send_signal(signal.SIGSTOP)
    node.wait_for("down", "origin")
    node.daemon.kill()
    node.daemon.wait(60)
    assert node.fenced()
    node.start_daemon()
    wait(lambda: node.status().get("pid") == node.daemon.pid, "a new run")
    assert node.fenced()
    assert (node.status()["health_state"], node.status()["route"]) == ("down", "origin")
    node.mirror.send_signal(signal.SIGCONT)
    node.wait_for("healthy", "mirror")


def test_a_stop_removes_the_table(node: Node) -> None:
    node.mirror.send_signal(signal.SIGSTOP)
    node.wait_for("down", "origin")
    node.daemon.terminate()
    assert node.daemon.wait(60) == 0
    listed = subprocess.run(
        ["nft", "list", "ruleset"], check=True, capture_output=True, text=True, timeout=60
    )
    assert listed.stdout == ""
    node.mirror.send_signal(signal.SIGCONT)


def test_a_flushed_ruleset_is_restored_by_itself(node: Node) -> None:
    node.mirror.send_signal(signal.SIGSTOP)
    node.wait_for("down", "origin")
    subprocess.run(["nft", "flush", "ruleset"], check=True, timeout=60)
    took = wait(node.fenced, "fenced again")
    told("flush to fence", took)
    node.mirror.send_signal(signal.SIGCONT)
