"""A container that reads all the time and outlives containerd's restarts."""

from __future__ import annotations

import shlex

from tests.node import images
from tests.node.boot import Node
from tests.node.scene import Read, Reader, read_of


class DetachedReader(Reader):
    """Its shim writes the output to a file: no client of containerd must live for it."""

    def __init__(self, node: Node, ref: str, *, pause_ms: int = 60, name: str = "detached") -> None:
        self._node, self._name = node, name
        self._log = f"/run/test-{name}.log"
        run = "ctr --namespace k8s.io run --detach --cpu-shares 0 --snapshotter nydus"
        argv = [*shlex.split(run), "--log-uri", f"file://{self._log}", ref, name]
        node.run([*argv, "/reader", "read", "/data", str(images.READER_FILES), str(pause_ms), "0"])

    def __exit__(self, *_: object) -> None:
        self.stop()

    def reads(self) -> list[Read]:
        return [read_of(line) for line in self._node.read(self._log).split("\n")[:-1]]

    def stop(self) -> None:
        self.kill()
