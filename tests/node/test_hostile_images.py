"""Images that nobody can read, in a real containerd: whoever may pull can put any bytes there, and root reads them."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator

import pytest

from tests.node import scene
from tests.node.boot import Node

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
target = field(1, "application/vnd.oci.image.manifest.v1+json") + field(2, digest) + b"\\x18" + varint + bytes([number])
image = field(1, name) + field(3, target)
with grpc.insecure_channel("unix:///run/containerd/containerd.sock") as channel:
    create = channel.unary_unary("/containerd.services.images.v1.Images/Create")
    create(field(1, image), metadata=[("containerd-namespace", "k8s.io")], timeout=10)
"""
"""An image's record by containerd's own API (api/services/images/v1/images.proto): its clients look into a manifest
before they make one."""


@pytest.fixture
def stage() -> Iterator[scene.Stage]:
    with scene.staged("python-nydus") as made:
        for name, content in CONTENT.items():
            _put(made.node, name, content)
        yield made


def _put(node: Node, name: str, content: bytes) -> None:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = f"/run/{digest[-12:]}"
    node.write(path, content.decode())
    ingest = ["ctr", "--namespace", "k8s.io", "content", "ingest", "--expected-digest", digest]
    node.run(shlex.join([*ingest, digest[-12:]]) + f" <{path}")
    node.run(["python3", "-c", _CREATE, name, digest, str(len(content))])
    assert name in node.run(["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]).stdout.split()


def _names_both(text: str) -> bool:
    return all(f"the image {name} cannot be read" in text for name in CONTENT)


def test_images_that_nobody_can_read_keep_no_verb_from_its_work_and_are_named(stage: scene.Stage) -> None:
    node = stage.node
    for verb in ("plan", "apply", "doctor"):
        done = node.run(f"nydus-agent {verb} 2>&1", check=False, timeout=120)
        assert done.returncode == 0, (verb, done.stdout)
        assert _names_both(done.stdout), (verb, done.stdout)
    node.run(["systemctl", "start", "nydus-agent-inspect.service"], timeout=120)
    status = node.run(["nydus-agent", "status"], check=False).stdout
    assert "real read" in status
    assert "bug" not in status
    # The way back is planned by the same look.
    node.write("/etc/nydus-agent/conf.d/60-change.toml", '[snapshotter]\nlog_level = "warn"\n')
    changed = node.run("nydus-agent apply 2>&1", timeout=120).stdout
    assert _names_both(changed), changed
    back = node.run("nydus-agent rollback 2>&1", timeout=120).stdout
    assert "error" not in back, back
    scene.pull(node, stage.ref("python-nydus"))
