"""The mirror dies on a node that has nothing left: no room in /run, no task, no memory, a journal that stands
still. Reads of a running container go to the origin all the same, as fast as ever, and none fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.node import machine, scene
from tests.node.boot import Node, NodeError

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: mirror \w+ -> ",
    # Without a task there is no journalctl either. The probes do not need it.
    r"^nydus-agent.service: SymptomsUnknown: .* cannot run journalctl: ",
)

UNIT = "nydus-agent.service"
SPARE_BYTES = 64 << 20
"""What the squeezed agent may still take, and shares with a program that takes all there is."""


@contextmanager
def plenty(_: Node) -> Iterator[None]:
    yield


@contextmanager
def full_run(node: Node) -> Iterator[None]:
    """/run has not one free block."""
    used = node.run("df --block-size=1 --output=used /run | tail -1").stdout.strip()
    size = node.run("findmnt --noheadings --output=OPTIONS /run | grep -o 'size=[^,]*'").stdout.strip()
    node.run(f"mount -o remount,size={used} /run")
    try:
        assert node.run("head -c 65536 /dev/zero >/run/more", check=False).returncode != 0
        yield
    finally:
        node.run(f"mount -o remount,{size} /run; rm -f /run/more")


@contextmanager
def no_task(node: Node) -> Iterator[None]:
    """The agent may start neither a process nor a thread."""
    with group_of(there(node, node.main_pid(UNIT)), "pids") as group:
        limit = group / "pids.max"
        limit.write_text((group / "pids.current").read_text())
        try:
            yield
        finally:
            limit.write_text("max")


@contextmanager
def frozen_journal(node: Node) -> Iterator[None]:
    pid = str(node.main_pid("systemd-journald"))
    node.run(["kill", "-STOP", pid])
    try:
        yield
    finally:
        node.run(["kill", "-CONT", pid])


@contextmanager
def no_memory(node: Node) -> Iterator[None]:
    """The agent is in a group of processes whose memory is used up, over and over, by another one of it."""
    with group_of(there(node, node.main_pid(UNIT)), "memory") as group:
        limit, unlimited = group / "memory.max", "max"
        if not limit.exists():
            limit, unlimited = group / "memory.limit_in_bytes", "-1"
        limit.write_text(str(used(group) + SPARE_BYTES))
        greedy = "while :; do head -c 512M /dev/zero | tail >/dev/null; done"
        joined = f"echo 1000 >/proc/self/oom_score_adj; echo $$ >{group}/cgroup.procs; {greedy}"
        hog = subprocess.Popen(["sh", "-c", joined], stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            node.wait_until(lambda: met(group) > 100, 20, "the memory is used up")
            yield
        finally:
            os.killpg(hog.pid, 9)
            hog.wait(10)
            limit.write_text(unlimited)


def used(group: Path) -> int:
    """Bytes that count for the limit."""
    newer = group / "memory.current"
    return int((newer if newer.exists() else group / "memory.usage_in_bytes").read_text())


def met(group: Path) -> int:
    """How often the limit of memory was met."""
    older = group / "memory.failcnt"
    if older.exists():
        return int(older.read_text())
    events = dict(line.split() for line in (group / "memory.events").read_text().splitlines())
    return int(events["max"])


@contextmanager
def group_of(pid: int, controller: str) -> Iterator[Path]:
    """The process's own cgroup, or, where the controller is of version 1, one that it is moved to for the
    moment.
    """
    if machine.look().controllers:
        yield machine.unified_mount() / cgroup_of(pid, "")
        return
    tree = Path("/sys/fs/cgroup") / controller
    home = tree / cgroup_of(pid, controller)
    made = tree / machine.own_cgroup(controller) / f"nna-scarce-{os.getpid()}"
    made.mkdir()
    (made / "cgroup.procs").write_text(str(pid))
    try:
        yield made
    finally:
        _dissolve(made, home)


def _dissolve(made: Path, home: Path) -> None:
    """Give its processes back. What was killed a moment ago is in it until the machine has buried it."""
    deadline = time.monotonic() + 20
    while True:
        for left in (made / "cgroup.procs").read_text().split():
            with suppress(OSError):  # it has just ended
                (home / "cgroup.procs").write_text(left)
        try:
            made.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def there(node: Node, pid: int) -> int:
    """The machine's number of a process of the node."""
    space = os.readlink(f"/proc/{node.leader}/ns/pid")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            numbers = next(
                x for x in (entry / "status").read_text().splitlines() if x.startswith("NSpid:")
            ).split()
            if int(numbers[-1]) == pid and os.readlink(entry / "ns/pid") == space:
                return int(entry.name)
        except OSError:
            continue
    raise NodeError(f"no process {pid} on {node.name}")


def cgroup_of(pid: int, controller: str) -> str:
    """Its cgroup in the tree of a controller of version 1, or ("") in that of version 2; relative to the
    mount.
    """
    lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    return next(path.lstrip("/") for _, controllers, path in lines if controller in controllers.split(","))


def told(node: Node) -> dict[str, Any]:
    """What the agent tells on its socket: its file in /run cannot be written."""
    ask = "curl --silent --max-time 5 --unix-socket /run/nydus-agent/api.sock http://localhost/status"
    found: dict[str, Any] = json.loads(node.run(ask).stdout)
    return found


@pytest.mark.parametrize("scarcity", [plenty, full_run, no_task, frozen_journal, no_memory])
def test_a_mirror_that_dies_while_the_node_lacks_something_costs_no_read(
    stage: scene.Stage, scarcity: Callable[[Node], AbstractContextManager[None]]
) -> None:
    node, ref = stage.node, stage.ref("reader-nydus")
    scene.fresh_agent(node, 60)
    with scene.cold_reader(node, ref) as reader:
        try:
            with scarcity(node):
                node.wait_until(lambda: told(node)["route"] == "mirror", 30, "reads go to the mirror")
                before, at = node.main_pid(UNIT), time.time()
                stage.mirror.unit.kill("KILL")
                node.wait_until(lambda: told(node)["route"] == "origin", 5, "reads go to the origin")
                took_ms = (told(node)["route_since"] - at) * 1000
                reader.wait_for(40)
                slowest_ms = reader.slowest_ms(at)
                assert node.main_pid(UNIT) == before
        finally:
            stage.mirror.start_again()
        print(f"{scarcity.__name__}: origin after {took_ms:.0f} ms, slowest read {slowest_ms:.0f} ms")
        scene.wait_for_route(node, "mirror", 60)
        reader.wait_for(10)
        assert reader.errors() == []
        assert took_ms < 1000
        assert slowest_ms < 2000
