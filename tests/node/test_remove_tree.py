"""A node before our package and after its purge: files, users, units, nft, containerd.

What differs was named.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.node import parts, scene
from tests.node.boot import Node
from tests.node.repack import as_version

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |BothBad: )")

NAME = "nydus-node-agent"
ROOT = "/var/lib/containerd-nydus"
TREE = (scene.REPOSITORY / "tests/package/tree.py").read_text()
ALIVE = (
    f"{ROOT}/",
    "/var/lib/containerd/",
    "/var/lib/systemd/",
    "/var/lib/apt/",
    "/var/tmp",
    "/root/",
    "/var/lib/test-",
)
"""What the node's own services and the tests write while they run, and what lies in the root that is
named.
"""
KEPT = (
    "/etc/nydus-agent", "/etc/needrestart", "/var/lib/nydus-agent",
    "/etc/systemd/system/(paths.target.wants$|.*nydus-agent)", "(unit|user|group) nydus-agent",
    "/etc/(passwd|group|shadow|gshadow)$",
)  # fmt: skip
"""What dpkg keeps of a package that was removed and not purged: configuration, state, user, which units are
enabled.
"""
TIMEOUTS = '\n[timeouts]\n  "io.containerd.timeout.task.state" = "3s"\n'


def picture(node: Node) -> dict[str, str]:
    """Everything that is compared, each thing under its name."""
    lines = node.run(["python3", "-I", "-"], input=TREE, timeout=120).stdout.splitlines()
    files = (line.partition(" ") for line in lines)
    found = {path: told for path, _, told in files if not path.startswith(ALIVE)}
    found |= _rows("unit", node.run(["systemctl", "list-unit-files", "--plain", "--no-legend"]).stdout)
    running = node.run(
        ["systemctl", "list-units", "--type=service", "--state=running", "--plain", "--no-legend"]
    )
    found |= {f"running {line.split()[0]}": "" for line in running.stdout.splitlines()}
    found |= _rows("user", node.run(["getent", "passwd"]).stdout) | _rows(
        "group", node.run(["getent", "group"]).stdout
    )
    found["nft"] = node.run(["nft", "list", "ruleset"]).stdout
    # Below the ports that a program gets that asks for any, as containerd's stream server does.
    found["listeners"] = node.run("ss -Hltn | awk '{print $4}' | awk -F: '$NF < 32768' | sort").stdout
    found["mounts"] = node.run(
        "findmnt --noheadings --raw --output=TARGET,FSTYPE | grep -v ^/run/user || true"
    ).stdout
    found["plugins"] = node.run("ctr plugins ls | awk '{print $1, $2, $NF}'").stdout
    found["run"] = node.run("ls -d /run/*nydus* /run/containerd/*nydus* 2>/dev/null || true").stdout
    return found


def _rows(kind: str, text: str) -> dict[str, str]:
    return {f"{kind} {line.split(':')[0].split()[0]}": line for line in text.splitlines() if line.strip()}


def difference(
    before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """What is other than before; printed, so that a reader of the log can judge it too."""
    names = sorted(before.keys() | after.keys())
    found = {
        name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    }
    for name, (was, is_) in found.items():
        print(f"differs: {name}: {was!r} -> {is_!r}")
    print(f"{len(before)} things compared, {len(found)} differ")
    return found


def use(stage: scene.Stage) -> None:
    """Plain and nydus images, pulled and run, then no container any more."""
    for name in ("python", "reader-nydus"):
        scene.pull(stage.node, stage.ref(name))
    with scene.Reader(stage.node, stage.ref("reader-nydus")) as reader:
        reader.wait_for(5)
    stage.node.wait_until(lambda: not containers(stage.node), 20, "the container is gone")


def containers(node: Node) -> str:
    return node.run("ctr -n k8s.io tasks ls -q; ctr -n k8s.io containers ls -q").stdout


def upgrade(node: Node, place: Path) -> None:
    """To a newer version, and until the change is done that on_install orders."""
    newer = as_version(scene.deb(), "9.9", place)
    node.install_deb(newer)
    node.wait_until(lambda: settled(node), 60, "what on_install ordered is done")


def settled(node: Node) -> bool:
    """Whether no change of the node is under way or queued."""
    if node.processes(scene.APPLY_UNIT):
        return False
    state = node.show(scene.APPLY_UNIT, "ActiveState")
    return (
        state in ("inactive", "failed")
        and scene.APPLY_UNIT not in node.run(["systemctl", "list-jobs"]).stdout
    )


def stays(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the removal named as left on purpose."""
    # apt's pseudo-terminal ends lines in its own way.
    return re.findall(r"^ +stays: (.*)$", done.stdout.replace("\r", ""), re.M)


def test_what_is_left_on_a_node_is_what_was_named_and_the_command_clears_it(tmp_path: Path) -> None:
    with scene.staged("python", "reader-nydus", installed=False) as stage:
        node = stage.node
        before = picture(node)
        scene.install(node)
        use(stage)
        upgrade(node, tmp_path)
        named = stays(node.apt("remove", NAME))
        print(named)
        assert len(named) == 1
        assert named[0].startswith(f"{ROOT} ("), named
        differs = difference(before, picture(node))
        assert [name for name in differs if name != ROOT and not re.match("|".join(KEPT), name)] == []
        node.apt("purge", NAME)
        assert set(difference(before, picture(node))) == {ROOT}
        assert node.run("pgrep --list-full nydus", check=False).stdout == ""
        # A unit is known to systemd until the last process of its cgroup has ended.
        units = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "nydus*"]
        node.wait_until(lambda: node.run(units).stdout == "", 60, "systemd knows no unit of ours")
        node.run(named[0].rpartition(": ")[2], timeout=120)
        assert difference(before, picture(node)) == {}
        # And nothing in containerd's database stands in the way of a new beginning.
        node.install_deb(scene.deb(), {"50-site.toml": scene.HTTP_SITE})
        node.wait_until(lambda: settled(node) and node.exists(ROOT), 60, "the node is set up again")
        use(stage)


def test_the_hosts_files_and_edits_of_others_survive_and_former_values_come_back() -> None:
    with scene.staged(installed=False) as stage:
        node = stage.node
        certs = "/etc/containerd/certs.d/registry.example/hosts.toml"
        node.write(certs, 'server = "https://registry.example"\n')
        config = node.read("/etc/containerd/config.toml")
        theirs = config.replace("version = 2\n", f"version = 2\n{TIMEOUTS}")
        node.write("/etc/containerd/config.toml", theirs)
        node.run(["systemctl", "restart", "containerd"])
        before = picture(node)
        scene.install(node)
        since = node.read("/etc/containerd/config.toml") + '\n[debug]\n  level = "warn"\n'
        node.write("/etc/containerd/config.toml", since)
        node.apt("purge", NAME)
        differs = difference(before, picture(node))
        assert set(differs) - {"/etc/containerd/config.toml"} == {
            name for name in differs if name.startswith(ROOT)
        }
        assert node.read("/etc/containerd/config.toml") == theirs + '\n[debug]\n  level = "warn"\n'
        parts.start_mirror(node)
