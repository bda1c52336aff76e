"""A node on which a change of ours goes wrong, is cut off or is taken back: what tests look at before and
after, how a change is held in its middle, and a container that goes on meanwhile.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.node import scene
from tests.node.boot import Node

CONTAINERD_CONFIG = "/etc/containerd/config.toml"
NO_CHANGE = scene.HTTP_SITE.replace("on_install = true", "on_install = false")
LEFT_OVER = (
    r"^init.scope: nydus-snapshotter.service: "
    r"(Found left-over process|This usually indicates unclean termination)"
)
"""systemd's warning where the snapshotter restarts beside the nydusd that running containers stand on. That
is meant (KillMode=process).
"""
ANY_CHANGE = (r"^nydus-agent.service: (mirror \w+ -> |BothBad: |Drift: |ChangedSinceProof: )", LEFT_OVER)
"""What a node may say that a test changes in every way."""
REF = "127.0.0.1:5000/python-nydus:1"

_GATE = """\
#!/bin/sh
case "$*" in *"config dump"*) touch /run/at-the-check; until [ -e /run/go ]; do sleep 0.05; done;; esac
exec /usr/bin/containerd "$@"
"""
"""containerd in PATH, which holds a change where it lets containerd check the new configuration: the
snapshotter is up by then, and containerd's own configuration is not yet written."""

_TREE = """
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


@contextmanager
def installed() -> Iterator[Node]:
    """A node with our package installed and nothing applied."""
    with scene.staged("python-nydus", installed=False) as stage:
        scene.install_only(stage.node, NO_CHANGE)
        yield stage.node


def tree(node: Node) -> str:
    """Every file below /etc and where units lie: path, mode, owner, digest.

    In one process: it is asked for often.
    """
    return node.run(["python3", "-I", "-S", "-c", _TREE], timeout=120).stdout


def hold(node: Node) -> None:
    """A change stops where it lets containerd check its configuration."""
    node.write("/usr/local/bin/containerd", _GATE, mode=0o755)


def at_the_check(node: Node) -> bool:
    return node.exists("/run/at-the-check")


def held_change(node: Node) -> subprocess.Popen[bytes]:
    """An apply that stands in its middle."""
    hold(node)
    process = node.popen(["nydus-agent", "apply", "--now"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    node.wait_until(lambda: at_the_check(node), 30, "the change is in its middle")
    assert node.exists("/etc/nydus/snapshotter.toml")
    assert node.run(["systemctl", "is-active", "nydus-snapshotter"]).stdout.strip() == "active"
    return process


def let_go(node: Node, process: subprocess.Popen[bytes]) -> str:
    """Let it go on, where it still lives; what it wrote into a pipe until its end."""
    node.write("/run/go", "")
    out, _ = process.communicate(timeout=60)
    node.run(["rm", "-f", "/usr/local/bin/containerd", "/run/go", "/run/at-the-check"])
    return (out or b"").decode()


def pid_of_apply(node: Node) -> str:
    return node.run(["pgrep", "--full", "^/usr/bin/python3.*nydus-agent apply"]).stdout.split()[0]


def state(node: Node) -> tuple[str, str, str]:
    units = node.run(["systemctl", "is-active", "containerd", "nydus-snapshotter"], check=False).stdout
    return tree(node), units, node.run("ls /var/lib/nydus-agent/journal 2>/dev/null || true").stdout


def start_container(node: Node) -> None:
    """A container from a nydus image that goes on until it is killed."""
    scene.pull(node, REF)
    run = ["ctr", "-n", "k8s.io", "run", "--detach", "--cpu-shares", "0"]
    run += ["--snapshotter", "nydus", REF, "long"]
    node.run([*run, "python3", "-c", "import time; time.sleep(600)"])


def read_in_container(node: Node, path: str) -> str:
    """A file that nobody has read yet, read in the running container."""
    return node.run(["ctr", "-n", "k8s.io", "task", "exec", "--exec-id", "read", "long", "cat", path]).stdout


def end_container(node: Node) -> None:
    node.run(["ctr", "-n", "k8s.io", "task", "delete", "--force", "long"])
