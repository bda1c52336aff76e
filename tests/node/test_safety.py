"""What goes wrong leaves the node as it was, and says why."""

from __future__ import annotations

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import CONTAINERD_CONFIG, NO_CHANGE, tree


def test_installing_changes_nothing_but_our_own_files(plain: Node) -> None:
    assert plain.run(["systemctl", "is-active", "nydus-agent"]).stdout.strip() == "active"
    assert "nydus" not in plain.read(CONTAINERD_CONFIG)
    assert not plain.exists("/etc/systemd/system/nydus-snapshotter.service")


def test_a_containerd_that_does_not_come_back_gets_its_old_configuration_back(bare: Node) -> None:
    # containerd starts with the old configuration only: the new one names a proxy plugin.
    bare.write(
        "/etc/systemd/system/containerd.service.d/50-refuse.conf",
        "[Service]\nExecStartPre=/bin/sh -c '! grep -q proxy_plugins "
        "/etc/containerd/config.toml'\nRestart=no\n",
    )
    bare.run(["systemctl", "daemon-reload"])
    before = tree(bare)
    done = scene.agent(bare, "apply", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "try:   systemctl status containerd.service" in done.stderr, (
        "it was containerd that did not come back"
    )
    assert tree(bare) == before
    assert bare.run(["systemctl", "is-active", "containerd"]).stdout.strip() == "active"
    bare.run(["ctr", "version"])
    assert "containerd" in done.stderr
    assert "put back" in done.stderr
    assert not bare.exists("/etc/systemd/system/nydus-snapshotter.service")


# On a machine with much other work the agent sees a change in its middle.
SLOW = r"^nydus-agent.service: ChangedSinceProof: "


@pytest.mark.allow_warnings(r"^init.scope: nydus-snapshotter.service: Failed with result .exit-code", SLOW)
def test_a_snapshotter_that_dies_at_once_is_undone_with_its_own_words_as_evidence(bare: Node) -> None:
    before = tree(bare)
    bare.write(
        "/usr/local/bin/containerd-nydus-grpc",
        "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'Version: v0.16.1'; exit; }\necho it-broke-here "
        ">&2\nexit 1\n",
        mode=0o755,
    )
    done = scene.agent(bare, "apply", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "it-broke-here" in done.stderr
    assert tree(bare) == before
    assert "proxy_plugins" not in bare.read(CONTAINERD_CONFIG)


OTHER_ARCHITECTURE = r"""
f=/usr/local/bin/nydusd; cp -a /run/kept $f
printf '\xb7\x00' | dd of=$f bs=1 seek=18 conv=notrunc status=none
"""


@pytest.mark.parametrize(("act", "named"), [("true", "nydusd"), (OTHER_ARCHITECTURE, "arm64")])
def test_a_nydusd_that_is_missing_or_of_another_architecture_is_named_and_nothing_is_touched(
    plain: Node, act: str, named: str
) -> None:
    before = tree(plain)
    plain.run(["mv", "/usr/local/bin/nydusd", "/run/kept"])
    plain.run(act)
    done = scene.agent(plain, "apply", check=False)
    plain.run(["mv", "/run/kept", "/usr/local/bin/nydusd"])
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert named in done.stderr
    assert tree(plain) == before


def test_a_containerd_config_that_does_not_parse_is_left_alone(bare: Node) -> None:
    # On a node of its own: a quarter of a minute later the agent tells of the edit, whoever is on trial then.
    broken = bare.read(CONTAINERD_CONFIG) + "\n[[[\n"
    bare.write(CONTAINERD_CONFIG, broken)
    done = scene.agent(bare, "apply", check=False)
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert CONTAINERD_CONFIG in done.stderr
    assert bare.read(CONTAINERD_CONFIG) == broken
    assert not bare.exists("/etc/systemd/system/nydus-snapshotter.service")


def test_without_root_a_change_is_refused_before_anything_is_read(plain: Node) -> None:
    done = plain.run(["nydus-agent", "apply"], user="nobody", check=False)
    assert done.returncode == 2
    assert "NNA1001" in done.stderr


@pytest.mark.allow_warnings(r"^nydus-agent.service: .*the configuration is wrong \(3 problems\)")
def test_a_wrong_configuration_is_told_with_every_problem_at_once(plain: Node) -> None:
    plain.write(
        "/etc/nydus-agent/conf.d/60-wrong.toml", '[mirror]\nurll = "x"\nping_url = 3\n[nope]\na = 1\n'
    )
    done = scene.agent(plain, "apply", check=False)
    assert done.returncode == 2
    for expected in ("60-wrong.toml", "mirror.urll", "mirror.ping_url", "nope"):
        assert expected in done.stderr
    plain.run(["systemctl", "reload", "nydus-agent"], check=False)
    assert plain.run(["systemctl", "is-active", "nydus-agent"]).stdout.strip() == "active"
    plain.run("rm /etc/nydus-agent/conf.d/60-wrong.toml && systemctl reload nydus-agent")


@pytest.mark.allow_warnings(SLOW)
def test_a_full_disk_in_the_middle_of_the_change_puts_everything_back(bare: Node) -> None:
    # /etc/containerd becomes a small full file system: the snapshotter's files can be written, containerd's
    # cannot.
    bare.run(
        "mkdir /run/full && mount -t tmpfs -o size=64k tmpfs /run/full && cp -a /etc/containerd/. /run/full "
        "&& mount --bind /run/full /etc/containerd && (dd if=/dev/zero of=/etc/containerd/ballast bs=4k || "
        "true) 2>/dev/null"
    )
    before = tree(bare)
    done = scene.agent(bare, "apply", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No space left" in done.stderr
    assert tree(bare) == before
    assert bare.run(["systemctl", "is-active", "containerd"]).stdout.strip() == "active"


def test_where_nft_cannot_be_used_the_mode_is_native_and_says_so(bare: Node) -> None:
    bare.run("mv /usr/lib/python3/dist-packages/nftables /usr/lib/python3/dist-packages/nftables.away")
    scene.agent(bare, "apply")
    doctor = scene.agent(bare, "doctor", check=False)
    assert "native" in doctor.stdout
    assert '"ping_url"' in bare.read("/etc/nydus/nydusd-config.json")


@pytest.mark.allow_warnings(r"^nydus-agent.service: (EndpointPortTaken: |mirror \w+ -> )")
def test_a_taken_port_is_reported_with_its_owner_and_the_agent_still_guards() -> None:
    with Node() as node:
        serve = ["python3", "-m", "http.server", "-b", "127.0.0.1", "14003"]
        node.run(["systemd-run", "--unit=squatter", "--uid=nobody", *serve])
        node.wait_until(
            lambda: node.run(["ss", "-Hltn", "sport", "=", ":14003"]).stdout, 10, "the squatter listens"
        )
        scene.install_only(node, NO_CHANGE)
        assert node.run(["systemctl", "is-active", "nydus-agent"]).stdout.strip() == "active"
        told = scene.agent(node, "status", check=False).stdout
        assert "14003" in told
        assert "nobody" in told
