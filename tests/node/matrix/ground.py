"""A node of one line of releases on which combinations are run one after the other."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.node import images, parts, releases, scene, stock
from tests.node.boot import Node

IMAGE = "reader-nydus"
COMMAND = ("/reader", "read", "/data", "4", "0", "1")
PAUSE = "registry.k8s.io/pause"

_SITE = """\
[apply]
on_install = false
restarts_per_hour = 60
[fleet]
return_window_s = 0
[containerd]
mode = "{mode}"
[[registries.hosts]]
host = "127.0.0.1:5000"
scheme = "http"
"""
_SITE_FILE = "/etc/nydus-agent/conf.d/50-site.toml"


@dataclass(frozen=True)
class Ground:
    """The node, with registry, mirror and our package, nothing applied."""

    line: str
    node: Node
    registry: parts.Registry
    mirror: parts.Mirror

    @property
    def ref(self) -> str:
        """The nydus image as CRI pulls it."""
        return f"{self.registry.host}/{IMAGE}:1"

    def configure(self, mode: str) -> None:
        """Our configuration for a mode."""
        self.node.write(_SITE_FILE, _SITE.format(mode=mode))


@contextmanager
def ready(line: str) -> Iterator[Ground]:
    """Boot and dress a node."""
    with releases.booted(line) as node:
        registry, mirror = parts.start_registry(node), parts.start_mirror(node)
        ground = Ground(line, node, registry, mirror)
        images.push(node, IMAGE, ground.ref)
        node.push(stock.puller(), "/usr/local/bin/puller")
        load_pause(node)
        scene.install_only(node, _SITE.format(mode="default"))
        yield ground


def load_pause(node: Node) -> None:
    """The sandbox image under every name that a containerd of ours asks for: nodes have no network."""
    tar = ["tar", "--create", "--directory", str(images.made() / "pause"), "."]
    packed = subprocess.run(tar, capture_output=True, check=True, timeout=60).stdout
    node.run(["ctr", "--namespace=k8s.io", "images", "import", "-"], input=packed)
    for tag in ("3.6", "3.9", "3.10", "3.10.1", "3.10.2"):
        node.run(["ctr", "--namespace=k8s.io", "images", "tag", images.PAUSE_REF, f"{PAUSE}:{tag}"])
    node.wait_until(lambda: images.has_pause(node), 20, f"CRI knows {images.PAUSE_REF}")
