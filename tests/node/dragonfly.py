"""A node that is set up with a real dfdaemon as its mirror, and what tests do to one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.node import images, parts, peers, scene, stock
from tests.node.boot import Node, NodeError

_BEHIND = 5009
"""Where a registry listens that is far away."""


@dataclass
class DragonflyStage:
    """What `staged` made."""

    node: Node
    registry: parts.Registry
    dfdaemon: parts.Dfdaemon
    peers: peers.Peers | None = None
    """Both peers, where there is another."""

    def ref(self, name: str) -> str:
        """The reference of an image of `images` in the stage's registry."""
        return f"{self.registry.host}/{name}:1"

    def share(self, name: str) -> int:
        """Have both peers hold the data of a nydus image, the other one from ours; how many bytes that is."""
        if self.peers is None:
            raise NodeError(f"{self.node.name}: no other peer")
        return self.peers.share(self.blob(name)[0])

    def blob(self, name: str) -> tuple[str, int]:
        """Where the registry has the data of a nydus image, and its size in bytes."""
        digest, size = images.image(name).layers[0]
        repository = self.ref(name).partition("/")[2].rpartition(":")[0]
        return f"http://{self.registry.host}/v2/{repository}/blobs/{digest}", size

    def bytes(self) -> int:
        """What dfdaemon has moved so far, by its own account; what it fetches ahead included."""
        return scene.mirror_bytes(self.dfdaemon)


@contextmanager
def staged(
    *names: str,
    site: str = scene.HTTP_SITE,
    shares: Mapping[str, Path] | None = None,
    far: int = 0,
    beside: bool = False,
) -> Iterator[DragonflyStage]:
    """A node with an http registry that holds the named images, dfdaemon with its scheduler, our package
    applied.

    `far`: the registry sends so many bytes a second on each connection, as one that is far away. `beside`:
    another host has a peer too, and the scheduler is Dragonfly's own, which knows both.
    """
    with Node(shares={**(peers.shares() if beside else parts.dragonfly_shares()), **(shares or {})}) as node:
        registry = parts.start_registry(node, port=_BEHIND if far else 5000, anywhere=beside)
        both = peers.start(node, _BEHIND if far else 5000) if beside else None
        stage = DragonflyStage(node, registry, both.ours if both else parts.start_dfdaemon(node), both)
        for name in names:
            images.push(node, name, stage.ref(name))
        if far:
            registry.host = "127.0.0.1:5000"
            parts.start_front(node, 5000, _BEHIND, raw=True).fault("trickle", rate=far)
        images.load_pause(node)
        scene.install(node, site)
        yield stage


class Load:
    """Parallel readers of one image's blob through port 4001, for `seconds` or until stopped
    (inside/load.py).
    """

    def __init__(
        self, stage: DragonflyStage, image: str, *, clients: int, seconds: float, piece: int = 1 << 20
    ) -> None:
        url, size = stage.blob(image)
        argv = [
            "env",
            f"PYTHONPATH={stock.PYTHONPATH_ON_NODE}",
            "python3",
            "-S",
            "-m",
            "tests.node.inside.load",
        ]
        argv += ["--url", url, "--size", str(size), "--piece", str(piece)]
        argv += ["--clients", str(clients), "--seconds", str(seconds)]
        self._seconds = seconds
        self._process = stage.node.popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def result(self) -> dict[str, Any]:
        """What it did, once its time is over: requests by status, bytes, latency.

        Raises NodeError where it died.
        """
        out, _ = self._process.communicate(timeout=self._seconds + 60)
        if self._process.returncode != 0:
            raise NodeError(f"the load ended with {self._process.returncode}")
        result: dict[str, Any] = json.loads(out)
        return result


def benched(node: Node, *words: str) -> dict[str, dict[str, Any]]:
    """The cases of a `nydus-agent bench` of one start each, by name, those too that it could not run."""
    command = ["nydus-agent", "bench", *words, "-n", "1", "--yes", "--format", "json"]
    done = node.run([*command, "--dfdaemon-socket", "/run/dragonfly/dfdaemon.sock"], check=False, timeout=600)
    print(done.stderr)
    assert done.returncode == 0, done.stdout
    return {case["case"]: case for case in json.loads(done.stdout)["pairs"][0]["cases"]}


def ran(cases: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The cases that were run."""
    return {name for name, case in cases.items() if case["runs"]}
