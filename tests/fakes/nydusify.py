#!/usr/bin/python3
"""A converter of whole images that takes nydusify's words and archives: for tests of what is done around the
real one.

What it makes it makes by the nydus-image that it is given. A tar in the source with a file called
OTHER-LAYERS, OTHER-PACK, OTHER-RAFS or OTHER-PARTS makes it do that wrong; OLD makes it one that knows no
archives.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

BLOB = "application/vnd.oci.image.layer.nydus.blob.v1"


class Archive:
    """A layout in a tar: one that is read, or one that is written."""

    def __init__(self, path: Path | None = None) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        if path is not None:
            with tarfile.open(path) as tar:
                for entry in tar:
                    if (file := tar.extractfile(entry)) is not None:
                        self.files[entry.name.removeprefix("./")] = file.read()

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        return self.files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]

    def add(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = sha256(content).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def write(self, path: Path) -> None:
        with tarfile.open(path, "w") as tar:
            for name, content in self.files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def say(text: str) -> None:
    print(
        f'time="2026-11-28T01:00:00Z" level=info msg="{text}" module=converter', file=sys.stderr, flush=True
    )


def convert(flags: dict[str, str], work: Path) -> None:
    source = Archive(Path(flags["--source-archive"]))
    say(f"pulling image {flags['--source']}")
    manifest = json.loads(source.blob(json.loads(source.files["index.json"])["manifests"][0]))
    tars = [gzip.decompress(source.blob(layer)) for layer in manifest["layers"]]
    everything = b"".join(tars)
    if b"OLD" in everything:
        sys.exit("Incorrect Usage: flag provided but not defined: -source-archive")
    made, layers, bootstraps = Archive(), [], []
    for at, tar in enumerate(tars):
        base = work / str(at)
        base.mkdir()
        (base / "tar").write_bytes(tar)
        run(flags, "create", "--bootstrap", f"{base}/boot", "--blob", f"{base}/blob", f"{base}/tar")
        if data := (base / "blob").read_bytes():
            layers.append(made.add(data, "text/plain" if b"OTHER-LAYERS" in everything else BLOB))
        bootstraps.append(f"{base}/boot")
    run(flags, "merge", "--bootstrap", f"{work}/merged", *bootstraps, "--log-level", "warn")
    bootstrap = (work / "merged").read_bytes()
    if b"OTHER-RAFS" in everything:
        bootstrap = bootstrap[:1024] + bytes(4) + bootstrap[1028:]
    packed = packed_of(bootstrap, "image/other" if b"OTHER-PACK" in everything else "image/image.boot")
    layers.append(made.add(gzip.compress(packed), "application/vnd.oci.image.layer.v1.tar+gzip"))
    config = json.loads(source.blob(manifest["config"]))
    config["rootfs"]["diff_ids"] = [layer["digest"] for layer in layers]
    finish(made, manifest, config, layers)
    if b"OTHER-PARTS" in everything:
        del made.files["blobs/sha256/" + layers[-1]["digest"].removeprefix("sha256:")]
    made.write(Path(flags["--target-archive"]))
    say(f"pushed image {flags['--target']}")


def finish(
    made: Archive, manifest: dict[str, Any], config: dict[str, Any], layers: list[dict[str, Any]]
) -> None:
    """Manifest and index."""
    kind = "application/vnd.oci.image.manifest.v1+json"
    described = made.add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    entry = made.add(
        json.dumps({**manifest, "mediaType": kind, "config": described, "layers": layers}).encode(), kind
    )
    made.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()


def packed_of(bootstrap: bytes, name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(bootstrap)
        tar.addfile(info, io.BytesIO(bootstrap))
    return out.getvalue()


def run(flags: dict[str, str], *words: str) -> None:
    done = subprocess.run([flags["--nydus-image"], *words], capture_output=True, text=True)
    if done.returncode:
        say(done.stderr.strip())
        sys.exit(f'time="x" level=fatal msg="convert image: exit status {done.returncode}"')


def main() -> None:
    words = iter(sys.argv[2:])
    flags = {word: next(words) for word in words if word not in ("--oci", "--all-platforms")}
    work = Path(flags["--work-dir"])
    work.mkdir()
    convert(flags, work)


if __name__ == "__main__":
    main()
