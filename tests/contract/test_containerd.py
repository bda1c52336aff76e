"""Containerd: the contract on the fake (on real ones: tests/contract/node), and a server that never answers."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from agent.adapters.containerd import ContainerdClient, SnapshotterClient
from agent.errors import ContainerdUnavailableError
from agent.ports import ImageRecord
from tests.contract.containerd import ContainerdContract, ContainerdWorld
from tests.fakes.containerd import STOCK_PLUGINS, FakeContainerd, FakeSnapshotterSocket, nydus_plugin


class _FakeWorld(ContainerdWorld):
    def __init__(self) -> None:
        self.address, self.root = "/run/containerd-nydus/containerd-nydus-grpc.sock", "/var/lib/containerd-nydus"
        self.image, self.digest = "registry.test/a:1", "sha256:" + "a" * 64
        self.port = self.fake = FakeContainerd((*STOCK_PLUGINS, nydus_plugin(self.address, self.root)))
        self.socket = self.backend = FakeSnapshotterSocket(self.address)
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


def test_a_socket_that_accepts_and_says_nothing_ends_at_the_deadline(tmp_path: Path) -> None:
    path = str(tmp_path / "containerd.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(4)
        started = time.monotonic()
        with pytest.raises(ContainerdUnavailableError) as caught:
            ContainerdClient(path).server(deadline_s=0.5)
        assert caught.value.code == "NNA0602"
        with pytest.raises(ContainerdUnavailableError):
            SnapshotterClient().alive(path, deadline_s=0.5)
        assert time.monotonic() - started < 3
