"""A node that is set up with a real dfdaemon as its mirror, and what tests do to one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.node import images, parts, scene, stock
from tests.node.boot import Node, NodeError

_BEHIND = 5009
"""Where a registry listens that is far away."""


@dataclass
class DragonflyStage:
    """What `staged` made."""

    node: Node
    registry: parts.Registry
    dfdaemon: parts.Dfdaemon

    def ref(self, name: str) -> str:
        """The reference of an image of `images` in the stage's registry."""
        return f"{self.registry.host}/{name}:1"

    def bytes(self) -> int:
        """What dfdaemon has moved so far, by its own account; what it fetches ahead included."""
        return scene.mirror_bytes(self.dfdaemon)


@contextmanager
def staged(
    *names: str, site: str = scene.HTTP_SITE, shares: Mapping[str, Path] | None = None, far: int = 0
) -> Iterator[DragonflyStage]:
    """A node with an http registry that holds the named images, dfdaemon with its scheduler, our package applied.

    `far`: the registry sends so many bytes a second on each connection, as one that is far away.
    """
    with Node(shares={**parts.dragonfly_shares(), **(shares or {})}) as node:
        registry = parts.start_registry(node, port=_BEHIND if far else 5000)
        stage = DragonflyStage(node, registry, parts.start_dfdaemon(node))
        for name in names:
            images.push(node, name, stage.ref(name))
        if far:
            registry.host = "127.0.0.1:5000"
            parts.start_front(node, 5000, _BEHIND, raw=True).fault("trickle", rate=far)
        images.load_pause(node)
        scene.install(node, site)
        yield stage


class Load:
    """Parallel readers of one image's blob through port 4001, for `seconds` or until stopped (inside/load.py)."""

    def __init__(
        self, stage: DragonflyStage, image: str, *, clients: int, seconds: float, piece: int = 1 << 20
    ) -> None:
        blob, size = images.image(image).layers[0]
        repository = stage.ref(image).partition("/")[2].rpartition(":")[0]
        url = f"http://{stage.registry.host}/v2/{repository}/blobs/{blob}"
        argv = ["env", f"PYTHONPATH={stock.PYTHONPATH_ON_NODE}", "python3", "-S", "-m", "tests.node.inside.load"]
        argv += ["--url", url, "--size", str(size), "--piece", str(piece)]
        argv += ["--clients", str(clients), "--seconds", str(seconds)]
        self._seconds = seconds
        self._process = stage.node.popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def result(self) -> dict[str, Any]:
        """What it did, once its time is over: requests by status, bytes, latency. Raises NodeError where it died."""
        out, _ = self._process.communicate(timeout=self._seconds + 60)
        if self._process.returncode != 0:
            raise NodeError(f"the load ended with {self._process.returncode}")
        result: dict[str, Any] = json.loads(out)
        return result
