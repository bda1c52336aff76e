"""What goes wrong leaves the node as it was, and says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.node import scene
from tests.node.boot import Node

CONTAINERD_CONFIG = "/etc/containerd/config.toml"
NO_CHANGE = scene.HTTP_SITE.replace("on_install = true", "on_install = false")


@contextmanager
def installed() -> Iterator[Node]:
    """A node with our package installed and nothing applied."""
    with scene.staged("python-nydus", installed=False) as stage:
        scene.install_only(stage.node, NO_CHANGE)
        yield stage.node


@pytest.fixture
def node() -> Iterator[Node]:
    """A node for one test alone."""
    with installed() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with installed() as made:
        yield made


@pytest.fixture
def plain(shared: Node) -> Iterator[Node]:
    """One node for many tests: each leaves it as it was."""
    before = tree(shared)
    yield shared
    assert tree(shared) == before


TREE = """
import hashlib, os, stat
NOT = {"/etc/ld.so.cache", "/etc/mtab", "/etc/machine-id", "/var/lib/systemd/random-seed"}
def told(path):
    seen = os.lstat(path)
    if not (stat.S_ISREG(seen.st_mode) or stat.S_ISLNK(seen.st_mode)):
        return
    link = os.readlink(path) if stat.S_ISLNK(seen.st_mode) else ""
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except OSError:  # a link to nothing, or to a directory
        digest = ""
    print(path, oct(stat.S_IMODE(seen.st_mode)), seen.st_uid, seen.st_gid, link, digest)
for top in ("/etc", "/usr/lib/systemd", "/var/lib/systemd"):
    device = os.lstat(top).st_dev
    for place, directories, names in os.walk(top):
        for path in sorted(os.path.join(place, name) for name in [*directories, *names]):
            if path not in NOT and not path.startswith("/var/lib/systemd/timers/"):
                told(path)
        here = (name for name in directories if os.lstat(os.path.join(place, name)).st_dev == device)
        directories[:] = sorted(here)
"""


def tree(node: Node) -> str:
    """Every file below /etc and where units lie: path, mode, owner, digest.

    In one process: it is asked for often.
    """
    return node.run(["python3", "-I", "-S", "-c", TREE], timeout=120).stdout


def test_installing_changes_nothing_but_our_own_files(plain: Node) -> None:
    assert plain.run(["systemctl", "is-active", "nydus-agent"]).stdout.strip() == "active"
    assert "nydus" not in plain.read(CONTAINERD_CONFIG)
    assert not plain.exists("/etc/systemd/system/nydus-snapshotter.service")


def test_a_containerd_that_does_not_come_back_gets_its_old_configuration_back(node: Node) -> None:
    # containerd starts with the old configuration only: the new one names a proxy plugin.
    node.write(
        "/etc/systemd/system/containerd.service.d/50-refuse.conf",
        "[Service]\nExecStartPre=/bin/sh -c '! grep -q proxy_plugins "
        "/etc/containerd/config.toml'\nRestart=no\n",
    )
    node.run(["systemctl", "daemon-reload"])
    before = tree(node)
    done = scene.agent(node, "apply", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "try:   systemctl status containerd.service" in done.stderr, (
        "it was containerd that did not come back"
    )
    assert tree(node) == before
    assert node.run(["systemctl", "is-active", "containerd"]).stdout.strip() == "active"
    node.run(["ctr", "version"])
    assert "containerd" in done.stderr
    assert "put back" in done.stderr
    assert not node.exists("/etc/systemd/system/nydus-snapshotter.service")


# On a machine with much other work the agent sees a change in its middle.
SLOW = r"^nydus-agent.service: ChangedSinceProof: "


@pytest.mark.allow_warnings(r"^init.scope: nydus-snapshotter.service: Failed with result .exit-code", SLOW)
def test_a_snapshotter_that_dies_at_once_is_undone_with_its_own_words_as_evidence(node: Node) -> None:
    before = tree(node)
    node.write(
        "/usr/local/bin/containerd-nydus-grpc",
        "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'Version: v0.16.1'; exit; }\necho it-broke-here "
        ">&2\nexit 1\n",
        mode=0o755,
    )
    done = scene.agent(node, "apply", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "it-broke-here" in done.stderr
    assert tree(node) == before
    assert "proxy_plugins" not in node.read(CONTAINERD_CONFIG)


def test_a_missing_nydusd_is_named_and_nothing_is_touched(plain: Node) -> None:
    before = tree(plain)
    plain.run(["mv", "/usr/local/bin/nydusd", "/run/kept"])
    done = scene.agent(plain, "apply", check=False)
    plain.run(["mv", "/run/kept", "/usr/local/bin/nydusd"])
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert "nydusd" in done.stderr
    assert tree(plain) == before


def test_a_nydusd_of_another_architecture_is_named_and_nothing_is_touched(plain: Node) -> None:
    before = tree(plain)
    patch = "import sys; f = open('/usr/local/bin/nydusd', 'r+b'); f.seek(18); f.write(b'\\xb7\\x00')"
    plain.run(["cp", "-a", "/usr/local/bin/nydusd", "/run/kept"])
    plain.run(["python3", "-c", patch])
    done = scene.agent(plain, "apply", check=False)
    plain.run(["mv", "/run/kept", "/usr/local/bin/nydusd"])
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert "arm64" in done.stderr
    assert tree(plain) == before


def test_a_containerd_config_that_does_not_parse_is_left_alone(node: Node) -> None:
    # On a node of its own: a quarter of a minute later the agent tells of the edit, whoever is on trial then.
    broken = node.read(CONTAINERD_CONFIG) + "\n[[[\n"
    node.write(CONTAINERD_CONFIG, broken)
    done = scene.agent(node, "apply", check=False)
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert CONTAINERD_CONFIG in done.stderr
    assert node.read(CONTAINERD_CONFIG) == broken
    assert not node.exists("/etc/systemd/system/nydus-snapshotter.service")


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
def test_a_full_disk_in_the_middle_of_the_change_puts_everything_back(node: Node) -> None:
    # /etc/containerd becomes a small full file system: the snapshotter's files can be written, containerd's
    # cannot.
    node.run(
        "mkdir /run/full && mount -t tmpfs -o size=64k tmpfs /run/full && cp -a /etc/containerd/. /run/full "
        "&& mount --bind /run/full /etc/containerd && (dd if=/dev/zero of=/etc/containerd/ballast bs=4k || "
        "true) 2>/dev/null"
    )
    before = tree(node)
    done = scene.agent(node, "apply", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No space left" in done.stderr
    assert tree(node) == before
    assert node.run(["systemctl", "is-active", "containerd"]).stdout.strip() == "active"


def test_where_nft_cannot_be_used_the_mode_is_native_and_says_so(node: Node) -> None:
    node.run("mv /usr/lib/python3/dist-packages/nftables /usr/lib/python3/dist-packages/nftables.away")
    scene.agent(node, "apply")
    doctor = scene.agent(node, "doctor", check=False)
    assert "native" in doctor.stdout
    assert '"ping_url"' in node.read("/etc/nydus/nydusd-config.json")


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
