"""Each kind of drift, done to a node by hand: how long until it is told, and whether a repair mends it or
leaves it.

The times go into build/bench/drift.json. The daemon asks for an inspection when something has changed; the
timer's inspection sees the rest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.bench import report
from tests.node import scene
from tests.node.boot import Node, NodeError
from tests.node.change import LEFT_OVER
from tests.node.detached import DetachedReader

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: (Drift|ChangedSinceProof): ",  # being told is what these tests are about
    LEFT_OVER,
)

TEMPLATE, CONFIG = "/etc/nydus/nydusd-config.json", "/etc/nydus/snapshotter.toml"
CONTAINERD = "/etc/containerd/config.toml"
UNIT, UNIT_FILE = "nydus-snapshotter.service", "/etc/systemd/system/nydus-snapshotter.service"
HOSTS = "/etc/containerd/certs.d/docker.io/hosts.toml"
DROP_IN = f"{UNIT_FILE}.d/50-somebody.conf"
PROGRAM = "/usr/local/bin/containerd-nydus-grpc"
REPAIR = "nydus-agent repair"


INSPECTED_S = 10.0
"""A second until the changes have settled, and then an inspection has to start."""
BY_ROOT_S = 45.0
"""The same for what systemd or a program must tell, on a busy machine; nobody waits for the timer, which
comes each five minutes.
"""
_LONGEST_S = 60.0
"""How long a test waits. What is promised stands in the cases."""


@dataclass(frozen=True)
class Case:
    """What somebody does, what is told of it, and what mends it."""

    kind: str
    subject: str
    act: str
    mend: str = REPAIR
    told_within_s: float = INSPECTED_S
    others: tuple[str, ...] = ()
    """Kinds that follow from it."""

    @property
    def repaired(self) -> bool:
        return self.mend == REPAIR


CASES = {
    "a file of ours is edited": Case("file-edited", TEMPLATE, f"echo >> {TEMPLATE}"),
    "a file of ours is removed": Case("file-removed", CONFIG, f"rm {CONFIG}"),
    "a file of ours is opened to all": Case("file-rights", TEMPLATE, f"chmod 666 {TEMPLATE}"),
    "a file of ours is closed": Case("file-rights", TEMPLATE, f"chmod 600 {TEMPLATE}"),
    "a file of ours is taken over": Case(
        "file-taken-over", CONFIG, f"cp -a {CONFIG} /run/kept && echo '# mine' > {CONFIG}",
        f"mv /run/kept {CONFIG}"
    ),
    "hosts.toml is edited": Case("file-edited", HOSTS, f"echo '# more' >> {HOSTS}"),
    "hosts.toml is removed": Case("file-removed", HOSTS, f"rm -r {HOSTS.rpartition('/')[0]}"),
    "a package replaces containerd's file": Case(
        "keys-lost", CONTAINERD, f"echo 'version = 2' > {CONTAINERD}.new && mv {CONTAINERD}.new {CONTAINERD}"
    ),
    "somebody wants another snapshotter": Case(
        "keys-contradicted", CONTAINERD,
        f"cp -a {CONTAINERD} /run/kept && sed -i 's/snapshotter = \"nydus\"/snapshotter = \"overlayfs\"/' "
        f"{CONTAINERD}",
        f"mv /run/kept {CONTAINERD}",
    ),
    "a drop-in contradicts": Case(
        "unit-overridden", DROP_IN,
        f"mkdir -p {UNIT_FILE}.d && printf '[Service]\\nKillMode=mixed\\n' > {DROP_IN} && systemctl "
        f"daemon-reload",
        f"rm -r {UNIT_FILE}.d && systemctl daemon-reload",
    ),
    "the unit is masked": Case(
        "unit-masked", UNIT,
        f"mv {UNIT_FILE} /run/kept && ln -s /dev/null {UNIT_FILE} && systemctl daemon-reload",
        f"mv /run/kept {UNIT_FILE} && systemctl daemon-reload",
    ),
    "the unit is disabled": Case("unit-disabled", UNIT, f"systemctl disable {UNIT}"),
    "the snapshotter is stopped": Case("unit-down", UNIT, f"systemctl stop {UNIT}"),
    "systemd has not read the unit": Case(
        "unit-not-read", UNIT, f"touch -d '+1 minute' {UNIT_FILE}", told_within_s=BY_ROOT_S
    ),
    "the snapshotter's program is replaced": Case(
        "program-replaced", PROGRAM,
        f"cp {PROGRAM} /run/new && echo >> /run/new && mv {PROGRAM} /run/kept && mv /run/new {PROGRAM}",
        f"mv /run/kept {PROGRAM}", told_within_s=BY_ROOT_S, others=("program-outdated",),
    ),
    "containerd runs on another file": Case(
        "containerd-outdated", "containerd.service",
        f"cp -a {CONTAINERD} /run/kept && echo 'version = 2' > {CONTAINERD} && systemctl restart containerd "
        f"&& mv /run/kept {CONTAINERD}", told_within_s=BY_ROOT_S,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    with scene.staged("reader-nydus") as made:
        wait_until_told(made.node, lambda found: not found)
        yield made


@pytest.fixture(scope="module")
def reader(stage: scene.Stage) -> Iterator[DetachedReader]:
    """A container reads all the time, whatever is done to the node, and whatever a repair restarts."""
    scene.pull(stage.node, stage.ref("reader-nydus"))
    with DetachedReader(stage.node, stage.ref("reader-nydus"), pause_ms=100) as made:
        made.wait_for(3)
        yield made


@pytest.fixture(autouse=True)
def unharmed(reader: DetachedReader) -> Iterator[None]:
    yield
    reader.wait_for(3)
    assert reader.errors() == []


@pytest.fixture
def node(stage: scene.Stage) -> Node:
    return stage.node


def findings(node: Node) -> dict[tuple[str, str], dict[str, object]]:
    """What the daemon has published."""
    listed = json.loads(node.read("/run/nydus-agent/status.json"))["drift"]
    return {(one["kind"], one["subject"]): one for one in listed}


def wait_until_told(node: Node, wanted: Callable[[Mapping[tuple[str, str], object]], bool]) -> float:
    """Seconds until the findings are as `wanted` says."""
    began = time.monotonic()
    while not wanted(findings(node)):
        if time.monotonic() - began > _LONGEST_S:
            raise NodeError(f"what is told is: {json.dumps(list(findings(node).values()), indent=1)}")
        time.sleep(0.005)
    return time.monotonic() - began


def test_each_kind_is_told_in_time_and_mended_or_left_to_people(node: Node) -> None:
    rows, goals = [], []
    for name, case in CASES.items():
        seconds, mended = _through(node, name, case)
        rows.append(report.row(name, [seconds], "s", extra={"kind": case.kind, "then": mended}))
        goals.append(report.Goal(f"{name}: told", seconds, case.told_within_s, "s"))
    assert report.publish("drift", "from the end of the act to status.json, one node", rows, goals=goals) == 0


def _through(node: Node, name: str, case: Case) -> tuple[float, str]:
    """Do it, wait until it is told, try a repair, mend it; what came of the repair."""
    node.run(case.act)
    seconds = wait_until_told(node, lambda found: (case.kind, case.subject) in found)
    finding = findings(node)[case.kind, case.subject]
    assert scene.agent(node, "status", check=False).returncode == 3
    done = scene.agent(node, "repair", check=False)
    if case.repaired:
        assert done.returncode in (0, 3), f"{name}: {done.stdout}{done.stderr}"
        assert finding["remedy"] == "repair"
    else:
        assert done.returncode == 3, f"{name}: {done.stdout}{done.stderr}"
        assert finding["remedy"] in ("hand", "apply")
        assert case.subject in done.stdout, "what is left is named, with what to try"
        node.run(case.mend)
    wait_until_told(node, lambda found: not found)
    return seconds, "repaired" if case.repaired else "left to people"


def test_what_nothing_tells_of_is_seen_by_the_next_inspection(node: Node) -> None:
    file = "/usr/share/nydus-node-agent/agent/__init__.py"
    node.run(f"cp -a {file} /run/kept && echo >> {file}")
    scene.agent(node, "inspect")
    wait_until_told(node, lambda found: ("package-edited", file) in found)
    node.run(f"mv /run/kept {file}")
    scene.agent(node, "inspect")
    wait_until_told(node, lambda found: not found)


def test_a_mount_that_has_not_what_was_applied_is_left_to_whoever_starts_its_container(node: Node) -> None:
    node.write("/etc/nydus-agent/conf.d/80-other.toml", '[mirror]\nurl = "http://127.0.0.1:4999"\n')
    scene.agent(node, "apply", check=False)
    wait_until_told(node, lambda found: ("nydusd-differs", "nydusd") in found)
    assert "4999" in str(findings(node)["nydusd-differs", "nydusd"]["evidence"])
    assert scene.agent(node, "repair", check=False).returncode == 3
    node.run("rm /etc/nydus-agent/conf.d/80-other.toml")
    scene.agent(node, "apply", check=False)
    wait_until_told(node, lambda found: not found)


def test_a_contradiction_names_file_key_both_values_and_a_command(node: Node) -> None:
    case = CASES["somebody wants another snapshotter"]
    node.run(case.act)
    done = scene.agent(node, "repair", "--dry-run", check=False)
    node.run(case.mend)
    assert done.returncode == 3
    assert CONTAINERD in done.stdout
    assert 'snapshotter = "overlayfs", applied was "nydus"' in done.stdout
    assert "sudo nydus-agent plan" in done.stdout
    wait_until_told(node, lambda found: not found)


def test_with_repair_own_a_node_mends_itself_once_and_does_not_fight(node: Node) -> None:
    node.write("/etc/nydus-agent/conf.d/60-own.toml", '[drift]\nrepair = "own"\n')
    restarts = [node.show(unit, "InvocationID") for unit in ("containerd", UNIT)]
    began = time.monotonic()
    # Read at every pull: putting it back restarts nothing, and so does not have to wait for the budget of
    # restarts.
    node.run(f"echo '# more' >> {HOSTS}")
    wait_until_told(node, lambda found: ("file-edited", HOSTS) in found)
    wait_until_told(node, lambda found: not found)
    took = time.monotonic() - began
    print(f"repaired by itself after {took:.1f} s")
    assert [node.show(unit, "InvocationID") for unit in ("containerd", UNIT)] == restarts
    node.run(f"echo '# more' >> {HOSTS}")
    wait_until_told(node, lambda found: ("file-edited", HOSTS) in found)
    done = scene.agent(node, "repair", "--by-itself", check=False)
    assert done.returncode == 3
    assert "is not put back now" in done.stderr
    assert scene.agent(node, "repair").returncode == 0
    wait_until_told(node, lambda found: not found)
    node.run("rm /etc/nydus-agent/conf.d/60-own.toml")


def test_a_change_by_apply_is_no_drift(node: Node) -> None:
    node.write("/etc/nydus-agent/conf.d/70-more.toml", '[snapshotter]\nlog_level = "debug"\n')
    seen = node.run(["journalctl", "--unit=nydus-agent", "--grep=^Drift", "--quiet"], check=False).stdout
    scene.agent(node, "apply")
    assert findings(node) == {}
    node.run("rm /etc/nydus-agent/conf.d/70-more.toml")
    scene.agent(node, "apply")
    assert findings(node) == {}
    assert (
        node.run(["journalctl", "--unit=nydus-agent", "--grep=^Drift", "--quiet"], check=False).stdout == seen
    )


def test_an_inspection_that_may_not_open_dev_null_looks_at_all_and_calls_nothing_gone(node: Node) -> None:
    """As kind and small containers lay it: ProtectKernelLogs= takes away what /dev/kmsg leads to, for its
    own unit.
    """
    node.run("ln -sfn /dev/null /dev/kmsg")
    try:
        opened = ["systemd-run", "--quiet", "--wait", "--pipe", "--property=ProtectKernelLogs=yes"]
        assert node.run([*opened, "cat", "/dev/null"], check=False).returncode != 0, "else this shows nothing"
        inspected = node.run("systemctl restart nydus-agent-inspect.service", check=False)
        looked = json.loads(node.read("/var/lib/nydus-agent/drift.json"))
        told = scene.agent(node, "status", check=False).stdout
        proved = scene.agent(node, "doctor", check=False).stdout
    finally:
        node.run("rm /dev/kmsg")
    assert (looked["findings"], looked["unseen"]) == ([], [])
    assert inspected.returncode == 0, inspected.stderr
    for shown in (told, proved):
        assert "gone" not in shown
        assert "not as applied" not in shown
        assert "of unknown version" not in shown
