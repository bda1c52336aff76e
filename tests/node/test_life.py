"""From installation to removal: reboots, a power cut in the middle of a change, upgrades, purge."""

from __future__ import annotations

import pytest

from tests.node import parts, scene
from tests.node.boot import Node

CONTAINERD_CONFIG = "/etc/containerd/config.toml"
STARTED_WITHOUT_MIRROR = r"^nydus-agent.service: (mirror \w+ -> |BothBad: )"


def states(node: Node) -> list[str]:
    return [check["state"] for check in scene.agent_json(node, "doctor")["checks"]]


@pytest.mark.allow_warnings(STARTED_WITHOUT_MIRROR)
def test_after_a_reboot_all_checks_are_proved_again_without_anybody() -> None:
    with scene.staged("python-nydus") as stage:
        node = stage.node
        ref = stage.ref("python-nydus")
        assert scene.start_nydus(node, ref).output == "hello from python\n"
        node.reboot()
        parts.start_registry(node)
        parts.start_mirror(node)
        scene.wait_for_route(node, "mirror", 60)
        assert (
            node.run(["systemctl", "is-active", "nydus-snapshotter", "containerd"]).stdout.split()
            == ["active"] * 2
        )
        assert scene.start_nydus(node, ref).output == "hello from python\n"
        assert states(node) == ["ok"] * 10
        assert node.failed_units() == []


@pytest.mark.allow_warnings(STARTED_WITHOUT_MIRROR, r"^init.scope: nydus-snapshotter.service: ")
def test_a_power_cut_in_the_middle_of_the_change_is_undone_before_the_runtimes_start() -> None:
    with scene.staged(installed=False) as stage:
        node = stage.node
        scene.install_only(node, scene.HTTP_SITE.replace("on_install = true", "on_install = false"))
        before = node.read(CONTAINERD_CONFIG)
        # containerd's restart takes long: the change waits for it with everything written.
        slow = (
            "[Service]\nExecStartPre=/bin/sh -c '! grep -q proxy_plugins /etc/containerd/config.toml || "
            "sleep 600'\n"
        )
        node.write("/run/systemd/system/containerd.service.d/50-slow.conf", slow)
        node.run(["systemctl", "daemon-reload"])
        change = node.popen(["nydus-agent", "apply"])
        try:
            node.wait_until(
                lambda: "proxy_plugins" in node.read(CONTAINERD_CONFIG), 30, "the change is half done"
            )
            node.run(["sync"])
            node.power_cut()
        finally:
            change.wait(30)
        assert node.read(CONTAINERD_CONFIG) == before
        assert not node.exists("/etc/systemd/system/nydus-snapshotter.service")
        assert not node.exists("/etc/nydus/nydusd-config.json")
        node.run(["ctr", "version"])
        status = scene.agent(node, "status", check=False)
        assert "not applied" in status.stdout.splitlines()[0]
        # And the change can simply be made again.
        parts.start_registry(node)
        parts.start_mirror(node)
        scene.agent(node, "apply")
        assert "failed" not in states(node)


@pytest.mark.allow_warnings(STARTED_WITHOUT_MIRROR)
def test_purge_is_refused_while_nydus_containers_run_and_then_leaves_nothing() -> None:
    with scene.staged("python", "reader-nydus", installed=False) as stage:
        node = stage.node
        before = node.read(CONTAINERD_CONFIG)
        scene.install(node)
        scene.pull(node, stage.ref("reader-nydus"))
        with scene.Reader(node, stage.ref("reader-nydus")) as reader:
            reader.wait_for(5)
            refused = node.run(["apt-get", "--yes", "purge", "nydus-node-agent"], check=False, timeout=120)
            assert refused.returncode != 0
            assert "nydus-agent remove --force" in refused.stdout + refused.stderr
            reader.wait_for(5)
            assert reader.errors() == []
        node.apt("purge", "nydus-node-agent")
        assert node.read(CONTAINERD_CONFIG) == before
        left = node.run(
            "ls -d /etc/nydus /etc/nydus-agent /var/lib/nydus-agent /run/nydus-agent "
            "/usr/share/nydus-node-agent /etc/systemd/system/nydus-snapshotter.service "
            "/etc/containerd/certs.d /usr/bin/nydus-agent 2>/dev/null || true"
        ).stdout
        assert left == ""
        assert "nydus" not in node.run(["nft", "list", "ruleset"]).stdout
        # A unit is known to systemd for as long as a process of its cgroup has not ended: the last nydusd
        # just does.
        units = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "nydus*"]
        node.wait_until(lambda: node.run(units).stdout == "", 60, "systemd knows no unit of ours")
        assert node.run("pgrep --list-full nydus", check=False).stdout == ""
        assert node.run(["ctr", "plugins", "ls"]).stdout.count("nydus") == 0
        assert scene.start_plain(node, stage.ref("python")).output == "hello from python\n"


@pytest.mark.allow_warnings(STARTED_WITHOUT_MIRROR)
def test_an_upgrade_of_the_package_costs_a_reading_container_nothing_and_keeps_the_route() -> None:
    with scene.staged("reader-nydus") as stage:
        node = stage.node
        scene.pull(node, stage.ref("reader-nydus"))
        with scene.Reader(node, stage.ref("reader-nydus")) as reader:
            reader.wait_for(5)
            stage.mirror.unit.kill("KILL")
            scene.wait_for_route(node, "origin", 10)
            snapshotter = node.main_pid("nydus-snapshotter")
            node.apt("install", "--reinstall", f"/var/tmp/{scene.deb().name}")
            assert scene.route(node) == "origin", "the new daemon adopts the fence"
            assert node.main_pid("nydus-snapshotter") == snapshotter
            reader.wait_for(10)
            assert reader.errors() == []
