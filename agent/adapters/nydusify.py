"""nydusify as the converter: an image goes in as an archive, and one comes out.

It could read and write registries itself. Then it would push before anybody has looked at what it made, speak plain
http to a registry that refuses https (goharbor/acceleration-service, pkg/errdefs), and need credentials. With archives
it has no business with a registry: what it makes is checked, compared and sent as our own work is.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO

from agent.adapters.oci_layout import WHOLE_NAME, path_of
from agent.adapters.process import Companion, companion, last_written
from agent.errors import ConvertError, ProcessError
from agent.oci import foreign, formats, nydus
from agent.oci.formats import DOCUMENT_CAP, Descriptor
from agent.oci.nydus import Blob, Made
from agent.oci.reference import is_digest
from agent.ports_convert import BuildOptions, Plain, Whole

_GRACE_S = 660.0
_LEAST_RATE = 64 << 10
"""Bytes of the source's layers a second: it unpacks, builds, and copies twice."""
_STEP_S = 0.1
_PIECE = 1 << 20
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
        with _gone_after(source, target, work):  # also where another one is to do it, in the same room
            _write_archive(source, image)
            self._run(argv, f"{base}.log", seconds, tell)
            os.unlink(source)
            return _taken(target, f"{base}.made", image)

    def _run(self, argv: list[str], log: str, seconds: float, tell: Callable[[str], None]) -> None:
        began = time.monotonic()
        try:
            with (
                open(log, "wb") as output,
                companion(argv, output.fileno()) as child,
                child.killed_after(seconds),
            ):
                _watch(child, log, tell)
                code = child.code
        except ProcessError as error:
            raise ConvertError("NNA1430", "nydusify cannot be run", cause=error.cause, seen=error.seen) from None
        if code and time.monotonic() - began >= seconds:
            raise _failed(f"it did not end within {seconds:.0f} s", log)
        if code:
            raise _failed(f"exit code {code}" if code > 0 else f"killed by signal {-code}", log)


@contextlib.contextmanager
def _gone_after(*paths: str) -> Iterator[None]:
    try:
        yield
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _watch(child: Companion, log: str, tell: Callable[[str], None]) -> None:
    """Until it ends; what it says is told."""
    said, runs = "", True
    while runs:
        runs = child.code is None
        messages = [found[1] for line in last_written(log) if (found := _MESSAGE.search(line))]
        if messages and messages[-1] != said:
            said = messages[-1]
            tell(said[:_LINE])
        if runs:
            time.sleep(_STEP_S)


def _failed(cause: str, log: str) -> ConvertError:
    lines = [line.strip() for line in last_written(log) if line.strip()]
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
    """An archive's image: nothing is taken but what its manifest names, each by its digest. Raises ConvertError."""
    os.makedirs(os.path.join(directory, "blobs"), mode=0o700)
    try:
        with tarfile.open(archive, "r:") as tar:
            layout = _Layout(tar, directory)
            manifest = layout.manifest()
            parts = foreign.parts_of(manifest)
            config = layout.small(parts.config)
            different = {one.digest: one for one in parts.blobs}.values()  # two layers may have made one blob
            blobs = tuple((Blob(one.digest, one.size), layout.file(one)) for one in different)
            packed = layout.file(parts.bootstrap)
        bootstrap = f"{directory}.bootstrap"
        diff_id = _unpacked(packed, bootstrap)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise foreign.other(f"what it made cannot be read: {error}") from None
    started = formats.document_of(config, "the configuration that was made")
    foreign.need_config(started, formats.document_of(source.config, source.name), parts, diff_id)
    with open(bootstrap, "rb") as file:
        if not nydus.is_rafs_v6(file.read(nydus.FLAGS_AT)):
            raise foreign.other("its bootstrap is not RAFS v6")
    what = Blob(parts.bootstrap.digest, parts.bootstrap.size, diff_id)
    return Whole(Made(config, manifest, source.platform), bootstrap, (what, packed), blobs)


class _Layout:
    """An OCI layout in a tar."""

    def __init__(self, tar: tarfile.TarFile, directory: str) -> None:
        self._tar, self._directory = tar, directory
        self._entries: Mapping[str, tarfile.TarInfo] = {entry.name: entry for entry in tar if entry.isreg()}

    def manifest(self) -> bytes:
        """Of the only image."""
        index = formats.document_of(self._whole("index.json"), "the index that was made")
        found = index.get("manifests")
        digests = (
            {str(one.get("digest")) for one in found if isinstance(one, dict)} if isinstance(found, list) else set()
        )
        if len(digests) != 1 or not is_digest(digest := digests.pop()):
            raise foreign.other("it did not make one image")
        content = self._whole(path_of(digest))
        if formats.digest_of(content) != digest:
            raise foreign.other(f"{digest} has another digest")
        return content

    def small(self, part: Descriptor) -> bytes:
        """A configuration."""
        content = self._whole(path_of(part.digest))
        if formats.digest_of(content) != part.digest or len(content) != part.size:
            raise foreign.other(f"{part.digest} has another digest")
        return content

    def file(self, part: Descriptor) -> str:
        """A layer as a file that is called as nydusd looks for it."""
        path = os.path.join(self._directory, "blobs", part.digest.removeprefix("sha256:"))
        hashed, count = hashlib.sha256(), 0
        with self._open(path_of(part.digest)) as source, open(path, "xb") as file:
            while piece := source.read(_PIECE):
                hashed.update(piece)
                count += len(piece)
                file.write(piece)
        if f"sha256:{hashed.hexdigest()}" != part.digest or count != part.size:
            raise foreign.other(f"{part.digest} is {count} bytes of sha256:{hashed.hexdigest()}")
        return path

    def _whole(self, name: str) -> bytes:
        with self._open(name) as file:
            content = file.read(DOCUMENT_CAP + 1)
        if len(content) > DOCUMENT_CAP:
            raise foreign.other(f"{name} is longer than {DOCUMENT_CAP} bytes")
        return content

    def _open(self, name: str) -> IO[bytes]:
        entry = self._entries.get(name)
        file = self._tar.extractfile(entry) if entry is not None else None
        if file is None:
            raise foreign.other(f"{name} is not in its archive")
        return file


def _unpacked(packed: str, bootstrap: str) -> str:
    """The metadata out of the layer that holds them, into a file; the digest of the layer's tar."""
    hashed, count, tar_path = hashlib.sha256(), 0, f"{bootstrap}.tar"
    with gzip.open(packed, "rb") as source, open(tar_path, "xb") as target:
        for piece in iter(lambda: source.read(_PIECE), b""):
            hashed.update(piece)
            count += len(piece)
            if count > _LONGEST_BOOTSTRAP:
                raise foreign.other(f"its bootstrap is longer than {_LONGEST_BOOTSTRAP} bytes")
            target.write(piece)
    with tarfile.open(tar_path, "r:") as tar:
        entry = next((one for one in tar if one.isreg() and one.name == nydus.BOOTSTRAP), None)
        file = tar.extractfile(entry) if entry is not None else None
        if file is None:
            raise foreign.other(f"there is no {nydus.BOOTSTRAP} in its bootstrap layer")
        with open(bootstrap, "xb") as target:
            shutil.copyfileobj(file, target, _PIECE)
    os.unlink(tar_path)
    return f"sha256:{hashed.hexdigest()}"
