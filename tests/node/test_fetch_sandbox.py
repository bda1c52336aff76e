"""What a download may do on a node, shown by trying: it asks servers and fills files that it was handed, no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.artifacts import sandbox
from tests.hostile import stage, tars
from tests.node import scene
from tests.node.boot import Node
from tests.node.test_safety import NO_CHANGE

LINK_LOCAL, PORT = "169.254.7.7", 8099
INSIDE = Path(__file__).parent / "inside"
FREE = "/run/confined.py"
"""Where the programs are that play a download: the sandbox sees /run."""

_SERVE = f"""
import http.server
http.server.ThreadingHTTPServer(("0.0.0.0", {PORT}), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
_FETCH = """
import json, os, sys
sys.path[:0] = ["/usr/share/nydus-node-agent"]
from agent import wire
from agent.artifacts.fetching import Job, Source, SourceKind
from agent.artifacts.lock import parse
with open("/run/lock.toml", "rb") as file:
    lock = parse(file.read(), "/run/lock.toml")
os.makedirs("/var/lib/nydus-agent/artifacts/into")
found = wire.artifact_source().fetch(
    Job(lock.artifacts, Source(SourceKind.RELEASE)), "/var/lib/nydus-agent/artifacts/into", print, deadline_s=30
)
assert found == lock.artifacts
"""


@pytest.fixture
def installed(node: Node) -> Node:
    """With our package, secrets of root's, and a server on the loopback and on a link-local address."""
    scene.install_only(node, NO_CHANGE)
    node.run("mkdir -p /var/lib/nydus-agent/artifacts /srv/files && chmod 755 /root")
    for path in ("/etc/nydus-agent/secret", "/var/lib/nydus-agent/secret", "/root/secret"):
        node.write(path, "s3cret", mode=0o600)
    node.run(["ip", "address", "add", f"{LINK_LOCAL}/16", "dev", "lo"])
    node.write("/run/serve.py", _SERVE)
    node.run(["systemd-run", "--quiet", "--unit=server", "--working-directory=/srv/files", "python3", "/run/serve.py"])
    node.wait_until(lambda: node.run(f"ss -Hltn sport = :{PORT}").stdout != "", 20, "the server listens")
    return node


def _confined(node: Node, *allowed: str) -> dict[str, Any]:
    node.write(FREE, (INSIDE / "confined.py").read_text())
    argv = ["python3", "-I", FREE, LINK_LOCAL, str(PORT)]
    return dict(json.loads(node.run(sandbox.transient("tried.service", 30, allowed, argv)).stdout))


def _tree(node: Node) -> set[str]:
    places = "/etc /usr /var /opt /srv /home /root /boot /tmp /run /dev"
    found = node.run(f"find / -xdev -maxdepth 1; find {places} -xdev -name 'left-by*'", timeout=120)
    return set(found.stdout.split())


def test_a_download_that_was_taken_over_can_neither_write_nor_read_nor_ask_what_it_should_not(installed: Node) -> None:
    node = installed
    reach = f"python3 -c 'import socket; socket.create_connection((\"{LINK_LOCAL}\", {PORT}), 3)'"
    node.run(reach)  # who is not confined reaches it

    before = _tree(node)
    told = _confined(node)
    assert {one: how for one, how in told["writes"].items() if how == "done"} == {}
    assert {one: how for one, how in told["reads"].items() if how == "done"} == {}
    assert _tree(node) == before

    assert told["uid"] >= 61184  # a dynamic user
    assert {name for name, value in told["status"].items() if name.startswith("Cap") and int(value, 16)} == set()
    assert (told["status"]["NoNewPrivs"], told["status"]["Seccomp"]) == ("1", "2")
    assert told["processes of others"] == []
    for wish in ("become root", "a new user namespace", "mount", "a new root", "the clock"):
        assert re.fullmatch(r"killed by signal \d+|Operation not permitted", told[wish]), (wish, told[wish])

    assert told["loopback"] == "done"
    assert told["link-local"] in ("Operation not permitted", "timed out"), told["link-local"]
    assert {told[one] for one in ("unix", "netlink", "packet")} == {"Address family not supported by protocol"}


def test_a_node_whose_name_server_is_link_local_can_still_ask_it(installed: Node) -> None:
    assert _confined(installed, LINK_LOCAL)["link-local"] == "done"


def test_a_release_arrives_through_systemds_sandbox_and_leaves_no_unit(installed: Node) -> None:
    node = installed
    content = tars.gz(stage.release())
    node.write("/srv/files/nydus.tgz", content)
    node.write("/run/lock.toml", stage.lock_of(stage.pinned(content, f"http://127.0.0.1:{PORT}/nydus.tgz")))
    node.write("/run/fetch.py", _FETCH)
    node.run(["python3", "-I", "/run/fetch.py"])

    digests = node.run("sha256sum /var/lib/nydus-agent/artifacts/into/nydus/*").stdout
    for program in stage.pinned(content, "http://x/y").programs:
        assert f"{program.sha256}  /var/lib/nydus-agent/artifacts/into/nydus/{program.name}\n" in digests
    assert node.run("stat -c %U:%a /var/lib/nydus-agent/artifacts/into/nydus/nydusd").stdout == "root:600\n"
    assert node.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "nydus-agent-fetch*"]).stdout == ""
