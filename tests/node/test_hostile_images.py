"""Images that nobody can read, in a real containerd: whoever may pull can put any bytes there, and root reads
them.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator

import pytest

from tests.node import scene
from tests.node.boot import Node
from tests.node.change import tree
from tests.node.matrix import ground
from tests.node.matrix.ground import COMMAND, Ground

# The agent may see a change in its middle.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |ChangedSinceProof: )")

DEEP = "registry.example.org/evil/deep:1"
NO_JSON = "registry.example.org/evil/no-json:1"
CONTENT = {DEEP: b"[" * 100_000 + b"]" * 100_000, NO_JSON: b"<html>not here</html>"}

_CREATE = """
import sys, grpc

def field(number, value):
    data = value if isinstance(value, bytes) else value.encode()
    size, length = len(data), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data

name, digest, size = sys.argv[1:]
number, varint = int(size), b""
while number > 127:
    varint, number = varint + bytes([number & 127 | 128]), number >> 7
target = field(1, "application/vnd.oci.image.manifest.v1+json") + field(2, digest)
target += b"\\x18" + varint + bytes([number])
image = field(1, name) + field(3, target)
with grpc.insecure_channel("unix:///run/containerd/containerd.sock") as channel:
    create = channel.unary_unary("/containerd.services.images.v1.Images/Create")
    create(field(1, image), metadata=[("containerd-namespace", "k8s.io")], timeout=10)
"""
"""An image's record by containerd's own API (api/services/images/v1/images.proto): its clients look into a
manifest before they make one."""
_REFUSES = "/etc/systemd/system/containerd.service.d/50-refuse.conf"
_REFUSAL = "[Service]\nExecStartPre=/bin/sh -c '! grep -rq proxy_plugins /etc/containerd'\nRestart=no\n"
"""With this containerd starts only with the configuration that it had before us."""


@pytest.fixture(scope="module", params=["1.6", "1.7", "2.1"])
def made(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """A node with our package, on which nothing was applied; each test leaves it so."""
    with ground.ready(request.param) as ready:
        for name, content in CONTENT.items():
            _put(ready.node, name, content)
        yield ready


def _put(node: Node, name: str, content: bytes) -> None:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = f"/run/{digest[-12:]}"
    node.write(path, content.decode())
    ingest = ["ctr", "--namespace", "k8s.io", "content", "ingest", "--expected-digest", digest]
    node.run(shlex.join([*ingest, digest[-12:]]) + f" <{path}")
    node.run(["python3", "-c", _CREATE, name, digest, str(len(content))])
    assert name in _images(node)


def _images(node: Node) -> list[str]:
    return node.run(["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]).stdout.split()


def _said(node: Node, *arguments: str, code: int = 0) -> str:
    done = scene.agent(node, *arguments, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == code, (arguments, told)
    return told


def _names_both(text: str) -> bool:
    return all(f"the image {name} cannot be read" in text for name in CONTENT)


def test_images_that_nobody_can_read_keep_no_verb_from_its_work_and_are_named(made: Ground) -> None:
    node = made.node
    before = tree(node)
    for verb in ("plan", "apply", "doctor"):
        told = _said(node, verb)
        assert _names_both(told), (verb, told)
    node.run(["systemctl", "start", "nydus-agent-inspect.service"], timeout=120)
    status = node.run(["nydus-agent", "status"], check=False).stdout
    assert "real read" in status
    assert "bug" not in status
    assert "cannot be read" not in status, "the manual says who names such an image"
    # The way back is planned by the same look.
    change = "/etc/nydus-agent/conf.d/60-change.toml"
    node.write(change, '[snapshotter]\nlog_level = "warn"\n')
    changed = _said(node, "apply", "--now")
    assert _names_both(changed), changed
    assert "error" not in _said(node, "rollback", "--now")
    node.run(["rm", change])
    scene.pull(node, made.ref)
    assert '"error": null' in scene.pod(node, made.ref, COMMAND)
    _said(node, "remove")
    assert tree(node) == before


def test_the_first_change_beside_images_that_nobody_can_read_can_be_taken_back_to_the_last_byte(
    made: Ground,
) -> None:
    node = made.node
    before, images = tree(node), _images(node)
    node.write(_REFUSES, _REFUSAL)
    node.run(["systemctl", "daemon-reload"])
    assert "NNA0402" in _said(node, "apply", "--now", code=1)
    node.run(["rm", "-r", _REFUSES.rpartition("/")[0]])
    node.run(["systemctl", "daemon-reload"])
    assert tree(node) == before, "what fails puts the node back"
    assert _names_both(_said(node, "apply", "--now", "--confirm", "10m"))
    assert tree(node) != before
    assert "as it was without the agent" in _said(node, "rollback")
    assert tree(node) == before, "what is not confirmed goes back"
    _said(node, "apply", "--now")
    applied = tree(node)
    assert "try:   nydus-agent remove" in _said(node, "rollback", "--now", code=2)
    assert tree(node) == applied
    _said(node, "remove")
    assert tree(node) == before, "a removal is complete"
    assert _images(node) == images
    assert "nydus" not in node.run(["ctr", "plugins", "ls"]).stdout
