"""The Nydusd contract on a real nydusd. Runs inside a booted test node (tests/node/test_contracts.py)."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.nydusd import NydusdApi
from tests.contract.nydusd import NydusdContract, NydusdWorld
from tests.contract.waiting import wait_until


class _Daemon(NydusdWorld):
    """One nydusd with a RAFS v6 image of its own; nothing listens at its registry or proxy."""

    def __init__(self, directory: Path) -> None:
        self.port = NydusdApi()
        self.root = str(directory / "r")
        self.alive, self.deaf = (f"{self.root}/socket/{name}/api.sock" for name in ("alive", "deaf"))
        self._mountpoint = directory / "mnt"
        for path in (self.alive, self.deaf):
            Path(path).parent.mkdir(parents=True)
        self._deaf = socket.socket(socket.AF_UNIX)
        self._deaf.bind(self.deaf)
        self._deaf.listen(1)
        self._process = subprocess.Popen(self._command(directory))
        wait_until(self._serves, "nydusd serves its mount")
        self.pid = self._process.pid

    def _command(self, directory: Path) -> list[str]:
        source, blobs, bootstrap = directory / "source", directory / "blobs", directory / "bootstrap"
        for made in (source, blobs, self._mountpoint):
            made.mkdir()
        (source / "file").write_bytes(b"content" * 1000)
        subprocess.run(
            ["nydus-image", "create", "--type", "directory", "--fs-version", "6", "--blob-dir", blobs,
             "--bootstrap", bootstrap, source],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30,
        )  # fmt: skip
        config = directory / "config.json"
        config.write_text(json.dumps(_template(str(directory / "cache"))))
        return [
            "nydusd", "fuse", "--id", "alive", "--supervisor", str(directory / "none.sock"), "--config",
            str(config),
            "--bootstrap", str(bootstrap), "--mountpoint", str(self._mountpoint), "--apisock", self.alive,
        ]  # fmt: skip

    def _serves(self) -> bool:
        assert self._process.poll() is None, "nydusd ended"
        return Path(self.alive).exists() and self._mountpoint.is_mount()

    def end(self) -> None:
        self._deaf.close()
        self._process.terminate()
        self._process.wait(10)
        subprocess.run(["umount", "--lazy", self._mountpoint], check=False, stderr=subprocess.DEVNULL)


def _template(work_dir: str) -> dict[str, object]:
    registry = {
        "scheme": "http", "host": "127.0.0.1:5000", "repo": "x", "auth": "dXNlcjpwYXNz",
        "proxy": {"url": "http://127.0.0.1:4001", "fallback": True},
    }  # fmt: skip
    device = {
        "backend": {"type": "registry", "config": registry},
        "cache": {"type": "blobcache", "config": {"work_dir": work_dir}},
    }
    return {"device": device, "mode": "direct"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NydusdWorld]:
    made = _Daemon(tmp_path_factory.mktemp("n"))
    yield made
    made.end()


class TestNydusd(NydusdContract):
    @pytest.fixture
    def world(self, daemon: NydusdWorld) -> NydusdWorld:
        return daemon
