"""Containers on a node: through CRI as a kubelet would, and through ctr."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.node import images
from tests.node.boot import Node, NodeError

_HOST_NETWORK = 2  # runtime.v1.NamespaceMode.NODE: needs no CNI configuration
_LOGS = "/var/log/test-pods"


@dataclass(frozen=True)
class Read:
    """One line of the reader (programs/reader.c)."""

    at: float
    """Seconds since the epoch when the read began, by the node's clock."""
    file: int
    ms: float
    error: str | None


class Pod:
    """A pod sandbox with one container in it, both on the host's network."""

    def __init__(self, node: Node, name: str, container: str, sandbox: str) -> None:
        self.node = node
        self.name = name
        self.container = container
        self.sandbox = sandbox

    def output(self) -> str:
        """What the container wrote so far."""
        lines = self.node.run(["cat", f"{_LOGS}/{self.name}/0.log"], check=False).stdout.splitlines()
        return "".join(f"{line.split(' ', 3)[3]}\n" for line in lines if line.count(" ") >= 3)

    def reads(self) -> list[Read]:
        """The reads that its reader did so far."""
        entries = (json.loads(line) for line in self.output().splitlines() if line.startswith("{"))
        return [Read(entry["at"], entry["file"], entry["ms"], entry["error"]) for entry in entries]

    def errors(self) -> list[Read]:
        return [read for read in self.reads() if read.error is not None]

    def wait_for_reads(self, more: int, deadline_s: float) -> list[Read]:
        """Wait until the reader has done so many reads more; returns those."""
        before = len(self.reads())
        self.node.wait_until(lambda: len(self.reads()) >= before + more, deadline_s, f"{more} more reads in {self.name}")
        return self.reads()[before:]

    def state(self) -> dict[str, Any]:
        """CRI's status of the container: state, exitCode, startedAt, …"""
        status: dict[str, Any] = json.loads(crictl(self.node, "inspect", "--output=json", self.container))["status"]
        return status

    def wait(self, deadline_s: float = 60) -> int:
        """Wait for the container's end; returns its exit status."""
        self.node.wait_until(
            lambda: self.state()["state"] == "CONTAINER_EXITED", deadline_s, f"the container of {self.name} has ended"
        )
        return int(self.state()["exitCode"])

    def remove(self) -> None:
        crictl(self.node, "rmp", "--force", self.sandbox)


def crictl(node: Node, *arguments: str, timeout: float = 120) -> str:
    """crictl's output. Raises NodeError when it fails."""
    return node.run(["crictl", f"--timeout={timeout:.0f}s", *arguments], timeout=timeout + 10).stdout


def pull(node: Node, ref: str, *, timeout: float = 120) -> None:
    """Pull through CRI, as the kubelet does: with the configured snapshotter and hosts.toml."""
    crictl(node, "pull", ref, timeout=timeout)


def start_pod(node: Node, ref: str, command: Sequence[str] = (), *, name: str = "test", timeout: float = 120) -> Pod:
    """Start a pod from an image that was pulled; the image's own command unless one is given."""
    if not images.has_pause(node):
        images.load_pause(node)
    security = {"namespace_options": {"network": _HOST_NETWORK}}
    sandbox_config = {
        "metadata": {"name": name, "uid": name, "namespace": "default"},
        "log_directory": f"{_LOGS}/{name}",
        "linux": {"security_context": security, "cgroup_parent": "/test-pods"},
    }
    container_config: dict[str, Any] = {
        "metadata": {"name": name},
        "image": {"image": ref},
        "log_path": "0.log",
        "linux": {"security_context": security},
    }
    if command:
        container_config["command"] = list(command)
    node.write(f"/run/test-pods/{name}-sandbox.json", json.dumps(sandbox_config))
    node.write(f"/run/test-pods/{name}.json", json.dumps(container_config))
    files = [f"/run/test-pods/{name}.json", f"/run/test-pods/{name}-sandbox.json"]
    sandbox = crictl(node, "runp", files[1], timeout=timeout).strip()
    container = crictl(node, "create", "--no-pull", sandbox, *files, timeout=timeout).strip()
    crictl(node, "start", container, timeout=timeout)
    return Pod(node, name, container, sandbox)


def start_reader(node: Node, ref: str, *, pause_ms: int = 100, rounds: int = 0, name: str = "reader") -> Pod:
    """A pod that reads the reader image's files one after another: cold ones for 600 reads, then again and again."""
    command = ["/reader", "read", "/data", str(images.READER_FILES), str(pause_ms), str(rounds)]
    pod = start_pod(node, ref, command, name=name)
    pod.wait_for_reads(1, 60)
    return pod


def ctr_run(
    node: Node, ref: str, command: Sequence[str] = (), *, snapshotter: str | None = None, namespace: str = "k8s.io",
    timeout: float = 120, check: bool = True,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a container to its end by ctr, from an image that was pulled into the namespace (by CRI: k8s.io)."""
    chosen = [f"--snapshotter={snapshotter}"] if snapshotter else []
    flags = ["--rm", "--net-host", *node.machine.ctr_flags, *chosen]
    container = f"run-{len(ref)}-{abs(hash((ref, *command))) % 10**8}"
    return node.run(["ctr", f"--namespace={namespace}", "run", *flags, ref, container, *command], timeout=timeout, check=check)


__all__ = ["NodeError", "Pod", "Read", "crictl", "ctr_run", "pull", "start_pod", "start_reader"]
