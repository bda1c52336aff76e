"""Add an image to an OCI image layout: `layout.py plain|nydus LAYOUT NAME SOURCE -- COMMAND…`.

plain: SOURCE is a tar of the root; one gzip layer. nydus: SOURCE is a directory with `blob` and `bootstrap`
from nydus-image; the manifest has two layers, as the snapshotter expects them (nydus' docs/nydus-image.md):
the RAFS blob as it is, whose diff id is its own digest, and a gzip tar that holds the bootstrap as
image/image.boot.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import tarfile
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
_NYDUS_BLOB = "application/vnd.oci.image.layer.nydus.blob.v1"

Descriptor = dict[str, Any]


class Layout:
    """An OCI image layout on disk (image-spec, image-layout.md)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = directory / "blobs" / "sha256"
        self.blobs.mkdir(parents=True, exist_ok=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def add_bytes(self, data: bytes, media_type: str) -> Descriptor:
        digest = hashlib.sha256(data).hexdigest()
        (self.blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def add_file(self, path: Path, media_type: str) -> Descriptor:
        digest = digest_of(path)
        shutil.copyfile(path, self.blobs / digest)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": path.stat().st_size}

    def add_image(self, name: str, layers: list[Descriptor], diff_ids: list[str], command: list[str]) -> None:
        config = {
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": command},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self.add_bytes(_json(config), _CONFIG),
            "layers": layers,
        }
        entry = self.add_bytes(_json(manifest), _MANIFEST)
        entry["annotations"] = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
        index_file = self.directory / "index.json"
        index = (
            json.loads(index_file.read_text())
            if index_file.exists()
            else {"schemaVersion": 2, "manifests": []}
        )
        index["manifests"].append(entry)
        index_file.write_text(json.dumps(index, indent=1))


def add_plain(layout: Layout, name: str, tar: Path, command: list[str]) -> None:
    packed = tar.with_name(tar.name + ".gz")
    with open(tar, "rb") as source, gzip.GzipFile(packed, "wb", compresslevel=6, mtime=0) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    layout.add_image(name, [layout.add_file(packed, _TAR_GZIP)], [f"sha256:{digest_of(tar)}"], command)


def add_nydus(layout: Layout, name: str, made: Path, command: list[str]) -> None:
    blob = layout.add_file(made / "blob", _NYDUS_BLOB)
    blob["annotations"] = {"containerd.io/snapshot/nydus-blob": "true"}
    tar = _bootstrap_tar(made / "bootstrap")
    bootstrap = layout.add_bytes(gzip.compress(tar, mtime=0), _TAR_GZIP)
    bootstrap["annotations"] = {
        "containerd.io/snapshot/nydus-bootstrap": "true",
        "containerd.io/snapshot/nydus-fs-version": "6",
    }
    diff_ids = [blob["digest"], f"sha256:{hashlib.sha256(tar).hexdigest()}"]
    layout.add_image(name, [blob, bootstrap], diff_ids, command)


def _bootstrap_tar(bootstrap: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        directory = tarfile.TarInfo("image")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)
        file = tarfile.TarInfo("image/image.boot")
        file.size, file.mode = bootstrap.stat().st_size, 0o444
        with open(bootstrap, "rb") as data:
            tar.addfile(file, data)
    return out.getvalue()


def digest_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("form", choices=("plain", "nydus"))
    parser.add_argument("layout", type=Path)
    parser.add_argument("name")
    parser.add_argument("source", type=Path)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    os.umask(0o022)
    add = add_plain if options.form == "plain" else add_nydus
    add(Layout(options.layout), options.name, options.source, options.command)


if __name__ == "__main__":
    main()
