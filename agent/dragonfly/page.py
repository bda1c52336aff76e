"""What Dragonfly's page on Nydus (d7y.io, v2.4.0 to v2.5.0 and "next") gives, field for field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHECKED = "chart dragonfly 1.7.4, client v1.5.10"
"""What the differences from the page were checked with."""

BLOBS = "blobs/sha256.*"
PROXY_NODE_PORT, HEALTH_NODE_PORT = 30950, 30951

KIND: Mapping[str, Any] = {
    "kind": "Cluster",
    "apiVersion": "kind.x-k8s.io/v1alpha4",
    "nodes": [
        {"role": "control-plane"},
        {
            "role": "worker",
            "extraPortMappings": [
                {"containerPort": PROXY_NODE_PORT, "hostPort": 4001},
                {"containerPort": HEALTH_NODE_PORT, "hostPort": 4003},
            ],
        },
        {"role": "worker"},
    ],
}

DOWNLOAD = {"pieceTimeout": "40s", "collectedPieceTimeout": "5s"}
SCHEDULER = {"retryBackToSourceLimit": 3, "retryLimit": 5, "retryInterval": "100ms"}
_PEER: Mapping[str, Any] = {
    "proxy": {"prefetch": True, "readBufferSize": 65536},
    "storage": {"writePieceTimeout": "30s", "writeBufferSize": 65536, "readBufferSize": 65536},
    "download": DOWNLOAD,
}

HELM_VALUES: Mapping[str, Any] = {
    "manager": {
        "image": {"repository": "dragonflyoss/manager", "tag": "latest"},
        "metrics": {"enable": True},
    },
    "scheduler": {
        "image": {"repository": "dragonflyoss/scheduler", "tag": "latest"},
        "metrics": {"enable": True},
        "config": {"scheduler": SCHEDULER},
    },
    "seedClient": {
        "image": {"repository": "dragonflyoss/client", "tag": "latest"},
        "metrics": {"enable": True},
        "config": _PEER,
    },
    "client": {"enable": False},
}

PEER_SERVICE: Mapping[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "peer", "namespace": "dragonfly-system"},
    "spec": {
        "type": "NodePort",
        "ports": [
            {"name": "http-4001", "nodePort": PROXY_NODE_PORT, "port": 4001},
            {"name": "http-4003", "nodePort": HEALTH_NODE_PORT, "port": 4003},
        ],
        "selector": {"app": "dragonfly", "component": "client", "release": "dragonfly"},
    },
}

DFDAEMON: Mapping[str, Any] = {**_PEER, "proxy": {"rules": [{"regex": BLOBS}], **_PEER["proxy"]}}
"""The page has no dfdaemon.yaml as a whole; these are the fields of its best practices."""
