"""A newcomer with our pages and nothing else gets from a bare machine to a proved node, and back: each
command of docs/start.md, operate.md and remove.md is typed as it is printed, and what it prints is compared.

What stands in for the internet: upstream's release host and the operator's registry, both by their names and
over https, Dragonfly's scheduler, and the files that the blocks marked `download` would bring.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.programs.versions import Project
from tests.node import images, parts, releases_host, scene, typed, upstream
from tests.node.boot import Node

pytestmark = pytest.mark.allow_warnings(
    r"^nydus-agent.service: (mirror \w+ -> |BothBad: |Drift: |ChangedSinceProof: )"
)

DOCS = Path(__file__).parents[2] / "docs"
REGISTRY = "registry.example.org"
RELEASES = "github.com"
SCHEDULER = "scheduler.example.org"
DFDAEMON_DEB = "/root/dragonfly-client-v1.5.1-x86_64-unknown-linux-gnu.deb"
_NETWORK = """\
ip link add machine type veth peer name wire
ip address add 192.0.2.10/24 dev machine
ip link set machine up
ip link set wire up
ip route add default via 192.0.2.1
"""  # dfdaemon tells its peers the address of the default route; nothing answers there
_DFDAEMON_UNIT = """\
[Unit]
Description=dfdaemon is a high performance P2P download daemon
After=network-online.target network.target

[Service]
ExecStart=/usr/bin/dfdaemon --config /etc/dragonfly/dfdaemon.yaml --console
Type=simple
Restart=on-success

[Install]
WantedBy=multi-user.target
"""
_DEB = f"""
tree=/var/tmp/dfdaemon; mkdir -p $tree/DEBIAN $tree/usr/bin $tree/lib/systemd/system
printf '%s\\n' 'Package: dragonfly-client' 'Version: 1.5.1-1' 'Architecture: amd64' 'Maintainer: Dragonfly' \\
    'Description: Dragonfly client' >$tree/DEBIAN/control
cp {parts.DFDAEMON_ON_NODE}/bin/dfdaemon $tree/usr/bin/
cat >$tree/lib/systemd/system/dfdaemon.service
dpkg-deb --root-owner-group -Znone --build $tree {DFDAEMON_DEB}
"""


def release(node: Node, ca: str) -> None:
    """Upstream's release host, with what we have built under the names that upstream gives it."""
    programs = {Project.NYDUS: releases_host.nydus(node), Project.SNAPSHOTTER: releases_host.snapshotter()}
    for project, held in programs.items():
        made = upstream.packed(project, held, upstream.VERSIONS[project])
        place = urlsplit(made.release.url).path.rpartition("/")[0]
        for file, content in made.files.items():
            node.write(f"{releases_host.PLACE}{place}/{file}", content)
    certificate, key = parts.make_certificate(node, ca, RELEASES)
    parts.name_host(node, RELEASES, "127.0.0.2")
    arguments = ["--address", "127.0.0.2", "--directory", releases_host.PLACE]
    arguments += ["--certificate", certificate, "--key", key]
    parts.start_program(node, "releases", "releases", *arguments)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A bare machine: containerd, no nydus program, nothing of Dragonfly's; and the world around it."""
    with Node(nydus=False, snapshotter="none", shares=parts.dragonfly_shares()) as made:
        made.run(["bash", "-euc", _NETWORK])
        registry = parts.start_tls_registry(made, port=443, trusted=True, name=REGISTRY)
        images.push(made, "python", f"{REGISTRY}:443/python:3.13", tls=True)
        images.load_pause(made)
        release(made, registry.ca or "")
        parts.start_scheduler(made)
        parts.name_host(made, SCHEDULER)
        made.run(["bash", "-euc", _DEB], input=_DFDAEMON_UNIT)
        made.push(scene.deb(), f"/root/{scene.deb().name}", mode=0o644)
        yield made


def follow(node: Node, page: str) -> float:
    """Type all that the page says; how long that took (seconds)."""
    began = time.monotonic()
    for one in typed.commands((DOCS / page).read_text().replace("2.4.4", "2.2.0")):
        done = node.run(
            f"cd /root\n{one.command}", check=False, timeout=300, env={"DEBIAN_FRONTEND": "noninteractive"}
        )
        print(
            f"[{time.monotonic() - began:6.1f} s] {page}:{one.line}: "
            f"{one.command}\n{done.stdout}{done.stderr}"
        )
        assert done.returncode == one.exit, f"{page}:{one.line}: {one.command}"
        printed = done.stdout.replace("\r\n", "\n")  # dpkg's scripts have a terminal
        assert one.agrees(printed), f"{page}:{one.line}: it prints something else"
    return time.monotonic() - began


def test_a_newcomer_gets_from_a_bare_machine_to_a_proved_node(node: Node) -> None:
    took = follow(node, "start.md")
    print(f"start.md: {took:.1f} s")
    checks = scene.agent_json(node, "doctor")["checks"]
    assert {check["state"] for check in checks} == {"ok"}, checks


def test_an_operator_does_what_the_page_on_operating_says(node: Node) -> None:
    print(f"operate.md: {follow(node, 'operate.md'):.1f} s")
    assert scene.daemon_status(node)["pin"] is None
    assert len(scene.agent_json(node, "generations")["generations"]) == 1


def test_who_removes_it_as_the_page_says_has_the_node_of_before(node: Node) -> None:
    print(f"remove.md: {follow(node, 'remove.md'):.1f} s")
    assert "nydus" not in node.read("/etc/containerd/config.toml")
