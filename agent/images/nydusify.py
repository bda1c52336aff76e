"""nydusify, upstream's converter, where it is asked for: an image goes in as an archive, and one comes out.

It could read and write registries itself. Then it would push before anybody has looked at what it made, and
need credentials. With archives it has no business with a registry. Only its blobs and its metadata are taken:
manifest and configuration are written here, so a container of it starts as one of the source does.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

from agent.errors import ConvertError, ProcessError
from agent.images import manifest
from agent.images.manifest import Descriptor, Layout
from agent.images.nydus_image import BuildOptions
from agent.images.skopeo import Skopeo, Tell
from agent.system.followed import follow

_GRACE_S = 660.0
_LEAST_RATE = 64 << 10
"""Bytes of the layers of the source a second: it unpacks, builds, and copies twice."""
_MESSAGE = re.compile(r'\bmsg="((?:[^"\\]|\\.)*)"')
_NO_SUCH_FLAG = "flag provided but not defined"
_IMAGE = "localhost/image:latest"
_NOTHING = "/.nydus-agent/nothing"
"""What nydusd loads ahead. nydusify would name "/", and nydusd would fetch whole images where prefetching is
on.
"""


class Nydusify:
    """The program, with its files in a directory of the run."""

    def __init__(self, program: str, nydus_image: str, directory: Path, skopeo: Skopeo) -> None:
        self._program, self._nydus_image = program, nydus_image
        self._directory, self._skopeo = directory, skopeo

    def make(
        self, image: Path, size: int, options: BuildOptions, layout: Layout, tell: Tell
    ) -> tuple[tuple[Descriptor, ...], Path]:  # fmt: skip
        """The blobs, which are in the layout then, and the metadata of the image in a directory; `size`:
        bytes of its layers. Raises ConvertError: NNA1410 it failed, or made something else."""
        self._directory.mkdir(mode=0o700)
        source, target, made = (self._directory / name for name in ("source.tar", "target.tar", "made"))
        self._skopeo.archive(image, source, _IMAGE, tell)
        self._run(source, target, options, _GRACE_S + size / _LEAST_RATE, tell)
        self._skopeo.unarchive(target, made, tell)
        *layers, last = manifest.read_layers(made, "what nydusify made")
        if any(layer.media_type != manifest.NYDUS_BLOB for layer in layers):
            raise _other("a layer is no nydus blob")
        blobs = {layer.digest: manifest.blob_descriptor(layer.digest, layer.size) for layer in layers}
        for blob in blobs.values():
            layout.link(made / blob.name, blob)
        return tuple(blobs.values()), self._bootstrap(made / last.name)

    def _run(
        self, source: Path, target: Path, options: BuildOptions, silence_s: float, tell: Tell
    ) -> None:  # fmt: skip
        argv = [
            self._program, "convert", "--source", _IMAGE, "--source-archive", str(source), "--target", _IMAGE,
            "--target-archive", str(target), "--nydus-image", self._nydus_image, "--work-dir",
            str(self._directory / "work"), "--oci", "--all-platforms", "--fs-version", "6", "--compressor",
            options.compressor, "--fs-chunk-size", hex(options.chunk_size), "--prefetch-dir", _NOTHING,
        ]  # fmt: skip

        said = ""

        def told(_: int, line: str) -> None:
            nonlocal said
            message = _MESSAGE.search(line)
            if message is not None and message[1] != said:
                said = message[1]
                tell(0, said)

        try:
            code, lines = follow(argv, told, silence_s=silence_s, environment={})
        except ProcessError as error:
            what = "nydusify cannot be run"
            raise ConvertError("NNA1410", what, cause=error.cause, seen=error.seen) from None
        if any(_NO_SUCH_FLAG in line for line in lines):
            cause = "it takes no archives; those of nydus 2.3.9 and newer do"
            raise ConvertError("NNA1410", "this nydusify is too old", cause=cause)
        if code:
            raise ConvertError("NNA1410", "nydusify failed", cause=f"exit code {code}", seen=tuple(lines))

    def _bootstrap(self, packed: Path) -> Path:
        """The metadata out of the layer that holds them. Nothing else in it counts."""
        bootstrap = self._directory / "bootstrap"
        try:
            with tarfile.open(packed, mode="r|gz") as tar:
                for entry in tar:
                    found = entry.isreg() and entry.name == manifest.BOOTSTRAP
                    if found and (file := tar.extractfile(entry)) is not None:
                        with open(bootstrap, "wb") as target:
                            shutil.copyfileobj(file, target)
                        return bootstrap
        except (tarfile.TarError, EOFError) as error:
            raise _other(str(error)) from None
        raise _other("its last layer holds no metadata")


def _other(cause: str) -> ConvertError:
    return ConvertError("NNA1410", "nydusify made something else", cause=cause)
