"""Back to an earlier generation on a real node: files, units and proof, under a container that reads all the
time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node import parts, scene
from tests.node.boot import Node
from tests.node.change import CONTAINERD_CONFIG, LEFT_OVER, held_change, let_go, tree
from tests.node.detached import DetachedReader

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: (mirror \w+ -> |BothBad: )",
    LEFT_OVER,
)

SITE = "/etc/nydus-agent/conf.d/60-change.toml"
OTHER = '[containerd]\nmode = "runtime-class"\n[snapshotter]\nlog_level = "debug"\n'
FOREIGN = '\n[metrics]\n  address = "127.0.0.1:1338"\n'


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    """Two generations: the site's, and one with another mode and log level; a cold image."""
    with scene.staged("reader-nydus") as made:
        made.node.run(["systemctl", "stop", "nydus-agent-inspect.timer"])
        yield made


@pytest.fixture
def node(stage: scene.Stage) -> Iterator[Node]:
    """Generation N is in force, the site's configuration alone is in place."""
    yield stage.node
    stage.node.run(["rm", "-f", SITE])
    scene.agent(stage.node, "apply", "--now", check=False)


def system(node: Node) -> str:
    """Every file but the operator's configuration of the agent."""
    return "\n".join(line for line in tree(node).splitlines() if not line.startswith("/etc/nydus-agent/"))


def generations(node: Node) -> list[dict[str, object]]:
    found: list[dict[str, object]] = scene.agent_json(node, "generations")["generations"]
    return found


def test_a_rollback_under_a_reading_container_brings_the_former_state_back_and_proves_it(
    stage: scene.Stage, node: Node
) -> None:
    before, first = system(node), generations(node)[-1]["number"]
    ref = stage.ref("reader-nydus")
    scene.pull(node, ref)
    with DetachedReader(node, ref) as reader:
        reader.wait_for(3)
        node.write(SITE, OTHER)
        scene.agent(node, "apply", "--now")
        assert "runtimes.nydus" in node.read(CONTAINERD_CONFIG)
        shown = scene.agent(node, "rollback", "--dry-run").stdout
        assert "+  log_level" not in shown
        assert f"--- {CONTAINERD_CONFIG}" in shown
        result = scene.agent_json(node, "rollback", "--now")
        assert result["kind"] == "RollbackResult", result
        assert result["to"] == first
        reader.wait_for(5)
        assert reader.errors() == []
    assert system(node) == before
    assert {check["state"] for check in result["proof"]["checks"]} == {"ok"}
    assert result["proof"]["drift"] == []
    assert [one["verb"] for one in generations(node)][-2:] == ["apply", "rollback"]


def test_a_rollback_holds_over_a_reboot_and_what_is_pending_is_told_without_root(
    stage: scene.Stage, node: Node
) -> None:
    before, first = system(node), generations(node)[-1]["number"]
    node.write(SITE, OTHER)
    scene.agent(node, "apply", "--now")
    scene.agent(node, "rollback", "--now")
    status = node.run(["runuser", "-u", "nobody", "--", "nydus-agent", "status"], check=False)
    assert status.returncode == 3
    assert f"rolled back to {first}" in status.stdout
    assert "the configuration wants other than is in force" in status.stdout
    node.reboot()
    parts.start_registry(node)
    parts.start_mirror(node)
    scene.wait_for_route(node, "mirror", 60)
    assert node.show("nydus-agent-boot.service", "Result") == "exec-condition"
    assert system(node) == before
    assert scene.agent(node, "due", "boot", check=False).returncode == 3
    assert scene.agent(node, "plan", "--exit-code", check=False).returncode == 3
    scene.agent(node, "apply", "--now")
    assert "runtimes.nydus" in node.read(CONTAINERD_CONFIG)
    assert scene.agent(node, "plan", "--exit-code", check=False).returncode == 0


def test_what_the_operator_wrote_into_containerds_configuration_since_survives(node: Node) -> None:
    before = node.read(CONTAINERD_CONFIG)
    node.write(SITE, OTHER)
    scene.agent(node, "apply", "--now")
    node.write(CONTAINERD_CONFIG, node.read(CONTAINERD_CONFIG) + FOREIGN)
    told = scene.agent(node, "rollback", "--now")
    assert "only ours goes back" in told.stderr
    assert node.read(CONTAINERD_CONFIG) == before + FOREIGN
    node.wait_until(
        lambda: node.run(["curl", "-sf", "http://127.0.0.1:1338/v1/metrics"], check=False).returncode == 0,
        20,
        "the new containerd has read what the operator wrote",
    )  # fmt: skip
    node.write(CONTAINERD_CONFIG, before)
    node.run(["systemctl", "restart", "containerd"])


MIDDLE = pytest.mark.allow_warnings(r"^nydus-agent.service: ChangedSinceProof: ")  # may be seen in its middle
EDIT = f"echo '# by hand' >>{CONTAINERD_CONFIG}"
SWAP = (
    "mkdir /home/mo && cp -a /etc/containerd /home/mo/ && chown -R nobody: /home/mo && mv /etc/containerd "
    "/etc/kept && ln -s /home/mo/containerd /etc/containerd"
)


@MIDDLE
def test_what_somebody_writes_between_the_look_and_the_write_is_not_overwritten(bare: Node) -> None:
    node = bare
    before = tree(node)
    process = held_change(node)
    node.run(EDIT)
    told = let_go(node, process)
    assert process.returncode == 1, told
    assert "error[NNA0402]" in told
    assert f"[NNA0412] {CONTAINERD_CONFIG} is not what it was" in told
    text = node.read(CONTAINERD_CONFIG)
    assert text.endswith("# by hand\n")
    node.write(CONTAINERD_CONFIG, text.removesuffix("# by hand\n"))
    assert tree(node) == before
    assert "nothing to recover" in scene.agent(node, "recover").stdout


@MIDDLE
def test_nothing_is_written_into_a_directory_that_was_swapped_for_a_users_meanwhile(bare: Node) -> None:
    node = bare
    before = tree(node)
    process = held_change(node)
    node.run(SWAP)
    told = let_go(node, process)
    assert process.returncode == 4, told
    assert "error[NNA0403]" in told
    assert "others than root can write to" in told
    assert "proxy_plugins" not in node.read("/home/mo/containerd/config.toml")
    assert not node.exists("/etc/nydus/snapshotter.toml")
    # The candidate could not be taken out of a directory that is not there any more; once it is back, it is.
    node.run("rm /etc/containerd && mv /etc/kept /etc/containerd")
    scene.agent(node, "recover")
    assert tree(node) == before


def test_a_plan_in_a_file_is_carried_out_exactly_or_not_at_all(bare: Node) -> None:
    node = bare
    scene.agent(node, "plan", "--output", "/root/plan.json")
    assert node.run(["stat", "--format=%a %U", "/root/plan.json"]).stdout == "600 root\n"
    before = tree(node)
    node.run(EDIT)
    node.write("/etc/nydus-agent/conf.d/60-change.toml", OTHER)
    stale = scene.agent(node, "apply", "/root/plan.json", check=False)
    assert stale.returncode == 2
    assert f"file {CONTAINERD_CONFIG}: sha256" in stale.stderr
    assert "setting containerd.mode: default then, runtime-class now" in stale.stderr
    node.run(f"sed -i '/# by hand/d' {CONTAINERD_CONFIG}; rm /etc/nydus-agent/conf.d/60-change.toml")
    assert tree(node) == before
    scene.agent(node, "apply", "/root/plan.json")
    assert "proxy_plugins" in node.read(CONTAINERD_CONFIG)
    assert scene.agent(node, "apply", "/root/plan.json", check=False).returncode == 2
