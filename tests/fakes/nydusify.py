#!/usr/bin/python3
"""A converter of whole images that takes nydusify's words and archives: for tests of what is done around the real one.

What it makes it makes by the nydus-image that it is given. A tar in the source with a file called OTHER-ENV, -BYTES,
-KIND, -TARS, -RAFS, -NAME, -PARTS, -COUNT or -INDEX makes it do that wrong; OLD makes it one that knows no archives,
FULL one that leaves no room on the disk.
"""

from __future__ import annotations

import contextlib
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
NOTED = "containerd.io/snapshot/nydus-"


class Archive:
    """A layout in a tar."""

    def __init__(self, path: Path) -> None:
        self.files = dict[str, bytes]()
        with tarfile.open(path) as tar:
            for entry in tar:
                if (file := tar.extractfile(entry)) is not None:
                    self.files[entry.name] = file.read()

    def json(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.blob(descriptor))
        return found

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        return self.files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]


class Made:
    """A layout that is written."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def add(self, content: bytes, media_type: str, **notes: str) -> dict[str, Any]:
        digest = sha256(content).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = content
        noted = {NOTED + name.replace("_", "-"): value for name, value in notes.items()}
        body = {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
        return {**body, "annotations": noted} if noted else body

    def write(self, path: Path) -> None:
        with tarfile.open(path, "w") as tar:
            for name, content in self.files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def say(text: str) -> None:
    print(f'time="2026-11-28T01:00:00Z" level=info msg="{text}" module=converter', file=sys.stderr, flush=True)


def convert(flags: dict[str, str], work: Path) -> None:
    source = Archive(Path(flags["--source-archive"]))
    say(f"pulling image {flags['--source']}")
    manifest = source.json(json.loads(source.files["index.json"])["manifests"][0])
    config = source.json(manifest["config"])
    tars = [gzip.decompress(source.blob(layer)) for layer in manifest["layers"]]
    everything = b"".join(tars)
    if b"OLD" in everything:
        sys.exit("Incorrect Usage: flag provided but not defined: -source-archive")
    say(f"converting image {flags['--source']}")
    made, layers, bootstraps = Made(), [], []
    for at, tar in enumerate(tars):
        base = work / str(at)
        base.mkdir()
        (base / "tar").write_bytes(tar)
        run(flags, "create", "--bootstrap", f"{base}/boot", "--blob", f"{base}/blob", f"{base}/tar")
        if data := (base / "blob").read_bytes():
            layers.append(made.add(data, BLOB, blob="true"))
        bootstraps.append(f"{base}/boot")
    run(flags, "merge", "--bootstrap", f"{work}/merged", *bootstraps, "--log-level", "warn")
    bootstrap = (work / "merged").read_bytes()
    if b"OTHER-RAFS" in everything:
        bootstrap = bootstrap[:1024] + bytes(4) + bootstrap[1028:]
    if b"FULL" in everything:
        bootstrap += bytes(1 << 18)  # more than the source leaves when it goes
    packed = packed_of(bootstrap)
    notes = {"bootstrap": "true", "fs_version": "5" if b"OTHER-KIND" in everything else "6"}
    layers.append(made.add(gzip.compress(packed), "application/vnd.oci.image.layer.v1.tar+gzip", **notes))
    ids = [*(layer["digest"] for layer in layers[:-1]), f"sha256:{sha256(packed).hexdigest()}"]
    config["rootfs"]["diff_ids"] = ids[:-1] + ids[:1] if b"OTHER-TARS" in everything else ids
    if b"OTHER-ENV" in everything:
        config["config"]["Env"] = ["LD_PRELOAD=/x"]
    finish(made, manifest, config, layers, everything)
    made.write(Path(flags["--target-archive"]))
    if b"FULL" in everything:
        with contextlib.suppress(OSError), open(work / "full", "wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
    say(f"pushed image {flags['--target']}")


def finish(
    made: Made, manifest: dict[str, Any], config: dict[str, Any], layers: list[dict[str, Any]], everything: bytes
) -> None:
    """Manifest and index, and what is to be wrong about them."""
    kind = "application/vnd.oci.image.manifest.v1+json"
    described = made.add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    body = {**manifest, "mediaType": kind, "config": described, "layers": layers}
    entry = made.add(json.dumps(body).encode(), kind)
    name = layers[-1]["digest"].removeprefix("sha256:")
    if b"OTHER-BYTES" in everything:
        made.files[f"blobs/sha256/{name}"] = made.files[f"blobs/sha256/{name}"][:-1] + b"x"
    if b"OTHER-NAME" in everything:
        made.files["../outside"] = made.files.pop(f"blobs/sha256/{name}")
    if b"OTHER-PARTS" in everything:
        del made.files[f"blobs/sha256/{name}"]
    entries = [entry, described] if b"OTHER-COUNT" in everything else [entry]
    index = json.dumps({"schemaVersion": 2, "manifests": entries})
    made.files["index.json"] = (index[:-1] if b"OTHER-INDEX" in everything else index).encode()


def packed_of(bootstrap: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("image/image.boot")
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
