"""The Containerd contract on a real containerd and nydus-snapshotter. Runs inside a booted test node."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import ContainerdError
from agent.system.containerd import ContainerdClient, SnapshotterClient
from tests.contract.containerd import DEADLINE_S, PROBE, ContainerdContract, ContainerdWorld
from tests.contract.waiting import wait_until

_CONFIG = Path("/etc/containerd/config.toml")
_SOCKET = "/run/containerd/containerd.sock"
_SNAPSHOTTER = "contract-snapshotter.service"
_VERSION_3 = "version = 3\n"
_BROKEN_CRI_1 = '[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "no-such"\n'
_BROKEN_CRI_2 = '[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "no-such"\n'


class _RealWorld(ContainerdWorld):
    """Debian's containerd with a proxy plugin added to its configuration, and the snapshotter as a transient
    unit.
    """

    def __init__(self, directory: Path) -> None:
        self.address, self.root = "/run/contract/snapshotter.sock", str(directory / "root")
        self.image = "registry.test/contract:1"
        self.port = ContainerdClient(_SOCKET)
        self.socket = SnapshotterClient()
        self._directory = directory
        self._stock = _CONFIG.read_text() if _CONFIG.exists() else None
        version = self.port.server(deadline_s=DEADLINE_S).version
        self.shows_root = version >= (1, 7)  # of those that tests run
        self._broken_cri = _BROKEN_CRI_1 if version < (2,) else _BROKEN_CRI_2
        self._configured = (
            f'{self._stock or _VERSION_3}\n[proxy_plugins.nydus]\ntype = "snapshot"\naddress = '
            f'"{self.address}"\n'
            f'[proxy_plugins.nydus.exports]\nroot = "{self.root}"\n'
        )
        self.digest = self._lay_out_image()
        self.set_up()
        _run("ctr", "--namespace=contract", "images", "import", "--no-unpack", str(directory / "image.tar"))

    def set_up(self) -> None:
        """The world as each test finds it."""
        if not _CONFIG.exists() or _CONFIG.read_text() != self._configured:
            _CONFIG.parent.mkdir(exist_ok=True)
            _CONFIG.write_text(self._configured)
            self.start_containerd()
        _run("systemctl", "start", "containerd")
        self._start_backend()

    def tear_down(self) -> None:
        self.stop_backend()
        if self._stock is None:
            _CONFIG.unlink()
        else:
            _CONFIG.write_text(self._stock)
        self.start_containerd()
        _run("ctr", "--namespace=contract", "images", "rm", "--sync", self.image)
        _run("ctr", "namespaces", "rm", "contract")

    def _lay_out_image(self) -> str:
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("file"))
        with tarfile.open(self._directory / "image.tar", "w") as archive:
            blobs = _Blobs(archive)
            layer_blob = blobs.add(layer.getvalue(), "application/vnd.oci.image.layer.v1.tar")
            config = {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [layer_blob["digest"]]},
            }
            manifest = blobs.add_json(
                {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": blobs.add_json(config, "application/vnd.oci.image.config.v1+json"),
                    "layers": [layer_blob],
                },
                "application/vnd.oci.image.manifest.v1+json",
            )
            named = {**manifest, "annotations": {"io.containerd.image.name": self.image}}
            blobs.put("index.json", json.dumps({"schemaVersion": 2, "manifests": [named]}).encode())
            blobs.put("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        return str(manifest["digest"])

    def _start_backend(self) -> None:
        if _is_active(_SNAPSHOTTER):
            return
        template = self._directory / "nydusd.json"
        template.write_text(json.dumps(_TEMPLATE))
        _run(
            "systemd-run", f"--unit={_SNAPSHOTTER}", "--quiet", "--collect", "containerd-nydus-grpc",
            f"--root={self.root}", f"--address={self.address}", f"--nydusd-config={template}",
            "--log-to-stdout",
        )  # fmt: skip
        wait_until(self._backend_answers, "the snapshotter answers")

    def _backend_answers(self) -> bool:
        try:
            self.socket.alive(self.address, deadline_s=1)
        except ContainerdError:
            return False
        return True

    def stop_containerd(self) -> None:
        _run("systemctl", "stop", "containerd")

    def start_containerd(self) -> None:
        # Tests restart it more often than its start limit allows.
        _run("systemctl", "reset-failed", "containerd")
        _run("systemctl", "restart", "containerd")

    def break_cri(self) -> None:
        _CONFIG.write_text(self._configured + self._broken_cri)
        self.start_containerd()

    def stop_backend(self) -> None:
        if _is_active(_SNAPSHOTTER):
            _run("systemctl", "stop", _SNAPSHOTTER)

    def leftovers(self) -> tuple[str, ...]:
        if PROBE in _run("ctr", "namespaces", "ls", "--quiet").split():
            return (PROBE,)
        return tuple(_run("ctr", f"--namespace={PROBE}", "snapshots", "ls").splitlines()[1:])


class _Blobs:
    """An OCI image layout in a tar."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def put(self, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        self._archive.addfile(entry, io.BytesIO(data))

    def add(self, data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        self.put(f"blobs/sha256/{digest}", data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def add_json(self, value: object, media_type: str) -> dict[str, object]:
        return self.add(json.dumps(value).encode(), media_type)


_TEMPLATE = {
    "device": {"backend": {"type": "registry", "config": {"scheme": "http"}}, "cache": {"type": "blobcache"}},
    "mode": "direct",
}


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout


def _is_active(unit: str) -> bool:
    return subprocess.run(["systemctl", "is-active", "--quiet", unit], timeout=20).returncode == 0


@pytest.fixture(scope="module")
def real() -> Iterator[_RealWorld]:
    directory = Path("/var/lib/contract")  # the root's path is bounded: at most 70 bytes
    directory.mkdir()
    made = _RealWorld(directory)
    yield made
    made.tear_down()


@pytest.fixture
def world(real: _RealWorld) -> Iterator[ContainerdWorld]:
    real.set_up()
    yield real
    real.set_up()


class TestContainerd(ContainerdContract):
    pass


def test_a_second_probe_at_the_same_time_does_no_harm(world: ContainerdWorld) -> None:
    _run("ctr", "namespaces", "create", PROBE)
    _run("ctr", f"--namespace={PROBE}", "snapshots", "--snapshotter=nydus", "prepare", "theirs")
    world.port.prepare_and_remove("nydus", PROBE, "ours", deadline_s=DEADLINE_S)
    assert [key for key, _ in world.port.snapshot_keys("nydus", PROBE, deadline_s=DEADLINE_S)] == ["theirs"]
    _run("ctr", f"--namespace={PROBE}", "snapshots", "--snapshotter=nydus", "rm", "theirs")
    world.port.prepare_and_remove("nydus", PROBE, "ours", deadline_s=DEADLINE_S)
    assert world.leftovers() == ()


def test_a_probe_in_a_namespace_of_others_leaves_it_there(world: ContainerdWorld) -> None:
    world.port.prepare_and_remove("nydus", "contract", "ours", deadline_s=DEADLINE_S)
    assert "contract" in world.port.namespaces(deadline_s=DEADLINE_S)
    assert world.port.snapshot_keys("nydus", "contract", deadline_s=DEADLINE_S) == ()


def test_no_credentials_of_registries_come_out_of_cri(world: ContainerdWorld) -> None:
    config = json.loads(world.port.cri_status(deadline_s=DEADLINE_S)["config"])
    if "registry" in config:  # containerd 2.x tells nothing of images here
        assert config["containerd"]["snapshotter"] == "overlayfs"
        assert "configPath" in config["registry"]
    assert not {"auths", "configs", "headers"} & set(config.get("registry", {}))
