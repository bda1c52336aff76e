"""nydusify as the converter: an image goes in as an archive, and one comes out.

It could read and write registries itself. Then it would push before anybody has looked at what it made, speak plain
http to a registry that refuses https (goharbor/acceleration-service, pkg/errdefs), and need credentials. With archives
it has no business with a registry: what it makes is checked, compared and sent as our own work is.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable

from agent.adapters.layer_files import unpacked
from agent.adapters.oci_layout import LayoutSource, copied, path_of
from agent.adapters.process import Companion, Tail, companion
from agent.adapters.rooms import working_in
from agent.adapters.tar_index import TarIndex
from agent.errors import ConvertError, ProcessError
from agent.oci import foreign, formats, nydus
from agent.oci.formats import DOCUMENT_CAP, Descriptor
from agent.oci.layouts import WHOLE_NAME
from agent.oci.nydus import Blob, Made
from agent.ports_convert import BuildOptions, LayerFile, Plain, Whole

_GRACE_S = 660.0
_LEAST_RATE = 64 << 10
"""Bytes of the source's layers a second: it unpacks, builds, and copies twice."""
_STEP_S = 0.1
_LINES, _LINE = 6, 300
_MESSAGE = re.compile(r'\bmsg="((?:[^"\\]|\\.)*)"')
_NO_SUCH_FLAG = "flag provided but not defined"
_NOTHING = "/.nydus-agent/nothing"
"""What nydusd loads ahead. nydusify would name "/", and nydusd would fetch whole images where prefetching is on."""
_LONGEST_BOOTSTRAP = 4 << 30


class Nydusify:
    """The `WholeBuilder` port; its files are in `directory`. It has `grace_s`, and more by the size of the layers."""

    def __init__(self, program: str, nydus_image: str, directory: str, *, grace_s: float = _GRACE_S) -> None:
        self._program, self._nydus_image, self._directory, self._grace_s = program, nydus_image, directory, grace_s
        self._count = 0

    def make(self, image: Plain, options: BuildOptions, tell: Callable[[str], None]) -> Whole:
        """See ports_convert.WholeBuilder."""
        self._count += 1
        base = os.path.join(self._directory, f"nydusify-{self._count}")
        source, target, work = f"{base}.source.tar", f"{base}.target.tar", f"{base}.work"
        argv = [
            self._program, "convert", "--source", image.name, "--source-archive", source, "--target", image.name,
            "--target-archive", target, "--nydus-image", self._nydus_image, "--work-dir", work, "--oci",
            "--all-platforms", "--fs-version", "6", "--compressor", options.compressor,
            "--fs-chunk-size", hex(options.chunk_size), "--prefetch-dir", _NOTHING,
        ]  # fmt: skip
        seconds = self._grace_s + sum(layer.size for layer in image.layers) / _LEAST_RATE
        with contextlib.ExitStack() as ended, contextlib.ExitStack() as failed:
            for path in (source, target, work):
                ended.callback(_remove, path)
            failed.callback(_remove, f"{base}.made")  # another one may have to do it, in the same room
            with working_in(self._directory):
                _write_archive(source, image)
            self._run(argv, seconds, tell)
            with working_in(self._directory):
                os.unlink(source)
                whole = _taken(target, f"{base}.made", image)
            failed.pop_all()
        return whole

    def _run(self, argv: list[str], seconds: float, tell: Callable[[str], None]) -> None:
        began = time.monotonic()
        try:
            with Tail() as said, companion(argv, said.fileno()) as child, child.killed_after(seconds):
                _watch(child, said, tell)
                code = child.code
        except ProcessError as error:
            raise ConvertError("NNA1430", "nydusify cannot be run", cause=error.cause, seen=error.seen) from None
        if code and time.monotonic() - began >= seconds:
            raise _failed(f"it did not end within {seconds:.0f} s", said)
        if code:
            raise _failed(f"exit code {code}" if code > 0 else f"killed by signal {-code}", said)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _watch(child: Companion, said: Tail, tell: Callable[[str], None]) -> None:
    """Until it ends; what it says is told."""
    last, runs = "", True
    while runs:
        runs = child.code is None
        said.follow(_STEP_S if runs else 0)
        messages = [found[1] for line in said.lines() if (found := _MESSAGE.search(line))]
        if messages and messages[-1] != last:
            last = messages[-1]
            tell(last[:_LINE])


def _failed(cause: str, said: Tail) -> ConvertError:
    lines = [line.strip() for line in said.lines() if line.strip()]
    if any(_NO_SUCH_FLAG in line for line in lines):
        return ConvertError(
            "NNA1430", "this nydusify is too old", cause="it takes no archives; those of nydus 2.3.9 and newer do"
        )
    return ConvertError("NNA1430", "nydusify failed", cause=cause, seen=tuple(line[:_LINE] for line in lines[-_LINES:]))


# In


def _write_archive(path: str, image: Plain) -> None:
    """An OCI layout with this image alone, as a tar."""
    document = image.document
    media_type = str(formats.document_of(document.content, image.name).get("mediaType") or document.media_type)
    entry = Descriptor(media_type, document.digest, len(document.content)).plain()
    entry["annotations"] = {WHOLE_NAME: image.name}
    index = {"schemaVersion": 2, "mediaType": formats.OCI_INDEX, "manifests": [entry]}
    with tarfile.open(path, "x", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        for content in (document.content, image.config):
            _add(tar, path_of(formats.digest_of(content)), content)
        for layer in {layer.digest: layer for layer in image.layers}.values():
            info = tarfile.TarInfo(path_of(layer.digest))
            info.size = layer.size
            with open(layer.path, "rb") as file:
                tar.addfile(info, file)
        _add(tar, "index.json", formats.encoded(index))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


# Out


def _taken(archive: str, directory: str, source: Plain) -> Whole:
    """An archive's image: nothing is taken but what its manifest names, each by its digest. Raises ConvertError
    (NNA1431), and OSError where it has no place."""
    os.makedirs(os.path.join(directory, "blobs"), mode=0o700)
    try:
        return _image_of(LayoutSource(TarIndex(archive)), directory, source)
    except ConvertError as error:
        if error.code == "NNA1431":
            raise
        raise foreign.other(str(error)) from None


def _image_of(made: LayoutSource, directory: str, source: Plain) -> Whole:
    manifest = made.document("", DOCUMENT_CAP).content
    parts = foreign.parts_of(manifest)
    config = made.small(parts.config, DOCUMENT_CAP)
    *blobs, packed = [_fetched(made, part, directory) for part in (*parts.blobs, parts.bootstrap)]
    bootstrap = os.path.join(directory, f"{os.path.basename(directory)}.bootstrap")
    diff_id = _unpacked(*packed, bootstrap)
    started = formats.document_of(config, "the configuration that was made")
    foreign.need_config(started, formats.document_of(source.config, source.name), parts, diff_id)
    with open(bootstrap, "rb") as file:
        if not nydus.is_rafs_v6(file.read(nydus.FLAGS_AT)):
            raise foreign.other("its bootstrap is not RAFS v6")
    layer, path = packed
    different = {blob.digest: (blob, path) for blob, path in blobs}  # two layers may have made one blob
    what = Blob(layer.digest, layer.size, diff_id)
    return Whole(Made(config, manifest, source.platform), bootstrap, (what, path), tuple(different.values()))


def _fetched(made: LayoutSource, part: Descriptor, directory: str) -> tuple[Blob, str]:
    """A layer, and its file, which is called as nydusd looks for it."""
    path = os.path.join(directory, "blobs", part.digest.removeprefix("sha256:"))
    if not os.path.exists(path):
        made.fetch(part, path, lambda _: None)
    elif os.path.getsize(path) != part.size:
        raise foreign.other(f"its manifest says that {part.digest} has two sizes")
    return Blob(part.digest, part.size), path


def _unpacked(packed: Blob, path: str, bootstrap: str) -> str:
    """The metadata out of the layer that holds them, into a file; the digest of the layer's tar."""
    hashed, tar = hashlib.sha256(), f"{bootstrap}.tar"
    with open(tar, "xb") as target:
        for piece in unpacked(LayerFile(path, "gzip", "", packed.size, _LONGEST_BOOTSTRAP)):
            hashed.update(piece)
            target.write(piece)
    copied(TarIndex(tar), nydus.BOOTSTRAP, bootstrap, _LONGEST_BOOTSTRAP, lambda _: None)
    os.unlink(tar)
    return f"sha256:{hashed.hexdigest()}"
