"""Nydus set up on a node by hand: what the harness's own tests use to show that its parts work together.

Tests of the product must not use this: there the product writes these files.
"""

from __future__ import annotations

import json
from typing import Any

from tests.node import parts
from tests.node.boot import Node

SOCKET = "/run/containerd-nydus/containerd-nydus-grpc.sock"
ROOT = "/var/lib/containerd-nydus"

_SNAPSHOTTER = f"""version = 1
root = "{ROOT}"
address = "{SOCKET}"
daemon_mode = "dedicated"
[daemon]
nydusd_config = "/etc/nydus/test.json"
nydusd_path = "/usr/local/bin/nydusd"
nydusimage_path = "/usr/local/bin/nydus-image"
fs_driver = "fusedev"
[log]
log_to_stdout = true
"""
_PROXY_PLUGIN = f"""
[proxy_plugins]
  [proxy_plugins.nydus]
    type = "snapshot"
    address = "{SOCKET}"
    [proxy_plugins.nydus.exports]
      root = "{ROOT}"
"""
_CRI = """    [plugins."io.containerd.grpc.v1.cri".containerd]
      snapshotter = "nydus"
      disable_snapshot_annotations = false
      discard_unpacked_layers = false
    [plugins."io.containerd.grpc.v1.cri".cni]
"""


def set_up(node: Node, proxy: str = "http://127.0.0.1:4001") -> parts.Unit:
    """Snapshotter and containerd configured and running, nydusd's reads through `proxy`."""
    node.write("/etc/nydus/test.json", json.dumps(_template(proxy)))
    node.write("/etc/nydus/test.toml", _SNAPSHOTTER)
    unit = parts.start_unit(
        node, "snapshotter", ["containerd-nydus-grpc", "--config", "/etc/nydus/test.toml"]
    )
    node.wait_until(lambda: node.exists(SOCKET), 20, "the snapshotter's socket is there")
    config = node.read("/etc/containerd/config.toml")
    config = config.replace('    [plugins."io.containerd.grpc.v1.cri".cni]\n', _CRI) + _PROXY_PLUGIN
    node.write("/etc/containerd/config.toml", config)
    node.run(["systemctl", "restart", "containerd"])
    return unit


def _template(proxy: str) -> dict[str, Any]:
    backend = {
        "scheme": "http",
        "timeout": 10,
        "connect_timeout": 10,
        "retry_limit": 3,
        "proxy": {"url": proxy, "fallback": True, "use_http": True},
    }
    return {
        "device": {
            "backend": {"type": "registry", "config": backend},
            "cache": {"type": "blobcache", "config": {"work_dir": f"{ROOT}/cache"}},
        },
        "mode": "direct",
        "enable_xattr": True,
    }
