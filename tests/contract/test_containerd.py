"""Containerd: the contract on the fake (on real ones: tests/contract/node), and a server that never
answers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import ContainerdError, ContainerdUnavailableError
from agent.ports import ImageRecord
from agent.system.containerd import ContainerdClient, SnapshotterClient
from tests.contract.containerd import ContainerdContract, ContainerdWorld
from tests.fakes.containerd import STOCK_PLUGINS, FakeContainerd, FakeSnapshotterSocket, nydus_plugin


class _FakeWorld(ContainerdWorld):
    def __init__(self) -> None:
        self.address, self.root = (
            "/run/containerd-nydus/containerd-nydus-grpc.sock",
            "/var/lib/containerd-nydus",
        )
        self.image, self.digest = "registry.test/a:1", "sha256:" + "a" * 64
        self.port = self.fake = FakeContainerd((*STOCK_PLUGINS, nydus_plugin(self.address, self.root)))
        self.socket = self.backend = FakeSnapshotterSocket(self.address)
        self.backend.pid = 600
        self.fake.backend_alive = lambda name: name != "nydus" or bool(self.backend.answering)
        record = ImageRecord(self.image, self.digest, "application/vnd.oci.image.manifest.v1+json", {})
        self.fake.namespace_images["contract"] = [record]
        self.fake.blobs["contract", self.digest] = b'{"schemaVersion": 2}'

    def stop_containerd(self) -> None:
        self.fake.up = False

    def start_containerd(self) -> None:
        self.fake.restart()

    def break_cri(self) -> None:
        self.fake.restart()
        self.fake.set_init_err("cri", "failed to find snapshotter")

    def stop_backend(self) -> None:
        self.backend.answering.clear()

    def leftovers(self) -> tuple[str, ...]:
        return ()


class TestFake(ContainerdContract):
    @pytest.fixture
    def world(self) -> ContainerdWorld:
        return _FakeWorld()


_SILENT = """
import socket, sys, time
from agent.system.containerd import ContainerdClient, SnapshotterClient
from agent.system.process import ChildProcesses
from agent.errors import ContainerdError, ContainerdUnavailableError

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
for ask in (
    lambda: ContainerdClient(sys.argv[1]).server(deadline_s=0.5),
    lambda: SnapshotterClient().alive(sys.argv[1], deadline_s=0.5),
):
    started = time.monotonic()
    try:
        ask()
    except ContainerdUnavailableError as error:
        print(error.code, time.monotonic() - started < 30)
print(ChildProcesses().run(["echo", "a child ran"], deadline_s=5).stdout)
"""


def test_a_socket_that_accepts_and_says_nothing_ends_at_the_deadline_and_children_still_run(
    tmp_path: Path,
) -> None:
    # In a process of its own: while grpc winds the channel down, nothing may fork there (and other tests do).
    argv = [sys.executable, "-c", _SILENT, str(tmp_path / "s")]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[:3] == ["NNA0602 True", "NNA0602 True", "a child ran"]


def test_an_absent_socket_is_unavailable_and_one_that_is_roots_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "containerd.sock")
    asks: list[Callable[[], object]] = [
        lambda: ContainerdClient(path).plugins(deadline_s=1),
        lambda: SnapshotterClient().alive(path, deadline_s=1),
    ]
    for ask in asks:
        with pytest.raises(ContainerdUnavailableError) as caught:
            ask()
        assert (caught.value.code, caught.value.cause) == ("NNA0602", "No such file or directory")
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(ContainerdError) as refused:
            ContainerdClient(path).plugins(deadline_s=1)
    finally:
        os.seteuid(0)
    assert refused.value.code == "NNA0601"
