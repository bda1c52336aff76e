"""A container that reads all the time and outlives containerd's restarts."""

from __future__ import annotations

import json
from typing import Self

from tests.node import images
from tests.node.boot import Node, NodeError
from tests.node.scene import Read


class DetachedReader:
    """As scene.Reader, but its shim writes the output to a file: no client of containerd must live for it."""

    def __init__(self, node: Node, ref: str, *, pause_ms: int = 60, name: str = "detached") -> None:
        self._node, self._name = node, name
        self._log = f"/run/test-{name}.log"
        argv = [
            "ctr",
            "--namespace",
            "k8s.io",
            "run",
            "--detach",
            "--cpu-shares",
            "0",
            "--snapshotter",
            "nydus",
        ]
        argv += ["--log-uri", f"file://{self._log}", ref, name]
        node.run([*argv, "/reader", "read", "/data", str(images.READER_FILES), str(pause_ms), "0"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def reads(self) -> list[Read]:
        """All reads so far. Raises NodeError where the container wrote something else."""
        lines = self._node.read(self._log).split("\n")[:-1]
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                raise NodeError(f"reader: {line}") from None
            found.append(Read(entry["at"], entry["ms"], entry["error"]))
        return found

    def wait_for(self, count: int, deadline_s: float = 30) -> None:
        """Wait until `count` more reads are done."""
        wanted = len(self.reads()) + count
        self._node.wait_until(
            lambda: len(self.reads()) >= wanted, deadline_s, f"the reader has done {count} more reads"
        )

    def errors(self) -> list[str]:
        """Errors of all reads so far."""
        return [read.error for read in self.reads() if read.error]

    def stop(self) -> None:
        """Kill the container."""
        task = ["ctr", "--namespace", "k8s.io", "task", "kill", "--signal", "SIGKILL", self._name]
        self._node.run(task, check=False)
