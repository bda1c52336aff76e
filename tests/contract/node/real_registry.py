"""The contract of registries on Debian's docker-registry. Runs in a booted test node (tests/node/test_contracts.py)."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.oci_registry import RegistryContract
from tests.contract.waiting import wait_until


class _Real:
    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        config = directory / "registry.yml"
        storage = {"filesystem": {"rootdirectory": str(directory / "storage")}, "delete": {"enabled": True}}
        config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": self.host}}))
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._listens, "docker-registry listens")

    def _listens(self) -> bool:
        host, _, port = self.host.partition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Real]:
    made = _Real(tmp_path_factory.mktemp("registry"))
    yield made
    made.end()


class TestDockerRegistry(RegistryContract):
    """The contract, on the real one."""
