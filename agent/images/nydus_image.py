"""The two programs that build: nydus-image, one layer after the other from a stream, then the merge of their
metadata; and nydusify, where the operator chooses it.

The tar of a layer goes through a pipe, so it is never on the disk, and nothing is extracted. Known of 2.2.0,
the first that takes tars:

- `create --parent-bootstrap` of a tar lets the files of an upper layer point into the blob of the lowest one,
  with other content, and `check` says nothing. So layers are built by themselves and merged.
- `merge` takes from the uppermost layer alone whether files have extended attributes. nydusd then shows none,
  unless its configuration insists. The flag is set where a layer has it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import shutil
import struct
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ConvertError, ProcessError
from agent.facts.node import Unknown
from agent.images import manifest
from agent.images.layer import PIECE, LayerFile, with_directories
from agent.images.manifest import Descriptor, Layout
from agent.images.skopeo import Skopeo, Tell
from agent.programs import versions
from agent.system.followed import follow
from agent.system.process import ChildProcesses, companion, last_lines, last_written

_START_S, _END_S = 30.0, 600.0
_NOT_VALID = "the converted image is not valid"
_LEAST_RATE = 256 << 10
"""Bytes a second of a tar that it takes at least; one that hangs is ended."""
# dragonflyoss/nydus, rafs/src/metadata/layout/v6.rs and mod.rs: the extended superblock is behind the one of
# EROFS.
_EROFS_AT, _EROFS = 1024, b"\xe2\xe1\xf5\xe0"  # linux/fs/erofs/erofs_fs.h
_FLAGS_AT, _HAS_XATTR = _EROFS_AT + 128, 0x10


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How blobs are made."""

    compressor: str
    chunk_size: int
    """Bytes; a power of two."""
    reference: bool = False
    """The data stays in the layers of the source: what is made says where in them it is (targz-ref,
    "zran").
    """


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """What became of a layer."""

    bootstrap: Path
    """Its metadata."""
    blobs: tuple[Descriptor, ...]
    """What was made of its data, and with --reference the layer itself; nothing where it has no data."""


class NydusImage:
    """The program; its files are in a directory of the run, its blobs in the layout of the result."""

    def __init__(self, program: str, directory: Path, layout: Layout, options: BuildOptions) -> None:
        self._program, self._directory, self._layout, self._options = program, directory, layout, options
        self._count = 0

    def version(self) -> str:
        """What it calls itself; empty where it does not know.

        Raises ConvertError (NNA1410) where it cannot be used.
        """
        try:
            said = ChildProcesses().run([self._program, "--version"], deadline_s=_START_S).stdout
        except ProcessError as error:
            what = f"{self._program} cannot be run"
            raise ConvertError("NNA1410", what, cause=error.cause, seen=error.seen) from None
        version, text = versions.nydus(said)
        return "" if isinstance(version, Unknown) else text

    def build(self, layer: LayerFile, tell: Callable[[int], None]) -> BuiltLayer:
        """One layer. Raises ConvertError (NNA1423)."""
        base = self._base()
        blob, bootstrap = base / "blob", base / "bootstrap"
        argv = [self._program, "create", "--fs-version", "6"]
        argv += ["--bootstrap", str(bootstrap), "--blob", str(blob)]
        if self._options.reference:
            self._run("a layer could not be converted", *argv[1:], "--type", "targz-ref", str(layer.path))
        else:
            argv += ["--compressor", self._options.compressor, "--chunk-size", hex(self._options.chunk_size)]
            argv += ["--type", "tar-rafs", "--log-level", "warn", "/dev/stdin"]
            self._build_from_pipe(argv, base / "log", layer, tell)
        if not bootstrap.exists():
            raise _failed("it ended well and wrote no metadata", base / "log")
        made = () if self._options.reference and not layer.tar.data else tuple(self._kept(blob))
        if made and self._options.reference:
            referenced = manifest.blob_descriptor(layer.descriptor.digest, layer.descriptor.size)
            self._layout.link(layer.path, referenced)
            made = (*made, referenced)
        # `merge` takes the name of the metadata of a layer for the name of its blob, the one with the data.
        return BuiltLayer(bootstrap.rename(base / (made[-1].name if made else "empty")), made)

    def merge(self, layers: Iterable[BuiltLayer]) -> Path:
        """The metadata of an image of these layers, lowest first, checked.

        Raises ConvertError (NNA1423, NNA1410).
        """
        parts = [layer.bootstrap for layer in layers]
        merged = self._base() / "merged"
        self._run(_NOT_VALID, "merge", "--bootstrap", str(merged), *map(str, parts))
        flags = _flags(merged)
        wanted = flags | (_HAS_XATTR if any(_flags(part) & _HAS_XATTR for part in parts) else 0)
        if wanted != flags:
            with open(merged, "r+b") as file:
                file.seek(_FLAGS_AT)
                file.write(struct.pack("<Q", wanted))
        self.check(merged)
        return merged

    def check(self, bootstrap: Path, blobs: Path | None = None) -> None:
        """Let it validate metadata; with the directory of the blobs where these hold a part of them. Raises
        ConvertError (NNA1423, NNA1410)."""
        _flags(bootstrap)
        within = ("--blob-dir", str(blobs)) if blobs is not None else ()
        self._run(_NOT_VALID, "check", str(bootstrap), *within)

    def pack(self, bootstrap: Path) -> tuple[Descriptor, str]:
        """The metadata as the layer that a registry keeps, and the digest of its tar."""
        packed, hashed = bootstrap.with_name("packed"), hashlib.sha256()
        with open(packed, "xb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped:
            for piece in _tar_of(bootstrap):
                hashed.update(piece)
                zipped.write(piece)
        return manifest.bootstrap_descriptor(*self._layout.take(packed)), f"sha256:{hashed.hexdigest()}"

    def _base(self) -> Path:
        self._count += 1
        base = self._directory / f"built-{self._count}"
        base.mkdir(mode=0o700)
        return base

    def _kept(self, blob: Path) -> Iterable[Descriptor]:
        if blob.exists() and blob.stat().st_size:
            yield manifest.blob_descriptor(*self._layout.take(blob))

    @staticmethod
    def _build_from_pipe(argv: list[str], log: Path, layer: LayerFile, tell: Callable[[int], None]) -> None:
        """Hand it the tar of a layer."""
        reader, writer = os.pipe()
        with open(reader, "rb") as source, open(writer, "wb", buffering=0) as sink, open(log, "wb") as output:
            try:
                with companion(argv, output.fileno(), stdin=source.fileno()) as child:
                    source.close()
                    with child.killed_after(_START_S + layer.tar.length / _LEAST_RATE):
                        _feed(sink.fileno(), layer, tell)
                    sink.close()
                    if (code := child.wait(_END_S)) != 0:
                        raise _failed("it does not end" if code is None else f"exit code {code}", log)
            except ProcessError as error:
                what = "nydus-image cannot be run"
                raise ConvertError("NNA1423", what, cause=error.cause, seen=error.seen) from None

    def _run(self, what: str, *words: str) -> None:
        try:
            ChildProcesses().run([self._program, *words, "--log-level", "warn"], deadline_s=_END_S)
        except ProcessError as error:
            raise ConvertError("NNA1423", what, cause=error.cause, seen=error.seen) from None


def _feed(descriptor: int, layer: LayerFile, tell: Callable[[int], None]) -> None:
    """As far as somebody reads; the exit code tells why nobody does."""
    done = 0
    for piece in with_directories(layer):
        left = memoryview(piece)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except BrokenPipeError:
            return
        done += len(piece)
        tell(done)


def _flags(bootstrap: Path) -> int:
    """Raises ConvertError (NNA1410) where this is no RAFS v6 as it is known here: nothing in it is to be
    changed.
    """
    head = b""
    with contextlib.suppress(FileNotFoundError), open(bootstrap, "rb") as file:
        head = file.read(_FLAGS_AT + 8)
    if len(head) < _FLAGS_AT + 8 or head[_EROFS_AT : _EROFS_AT + len(_EROFS)] != _EROFS:
        what = "nydus-image writes another form than was asked for"
        raise ConvertError("NNA1410", what, cause="it is no RAFS v6")
    flags: int = struct.unpack_from("<Q", head, _FLAGS_AT)[0]
    return flags


def _tar_of(bootstrap: Path) -> Iterator[bytes]:
    """A directory, and one file in it."""
    file = tarfile.TarInfo(manifest.BOOTSTRAP)
    directory = tarfile.TarInfo(manifest.BOOTSTRAP.partition("/")[0])
    directory.type, directory.mode = tarfile.DIRTYPE, 0o755
    file.size, file.mode = bootstrap.stat().st_size, 0o444
    yield directory.tobuf(tarfile.PAX_FORMAT) + file.tobuf(tarfile.PAX_FORMAT)
    with open(bootstrap, "rb") as content:
        while piece := content.read(PIECE):
            yield piece
    yield bytes(-file.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)


def _failed(cause: str, log: Path) -> ConvertError:
    seen = last_lines(last_written(str(log)))
    return ConvertError("NNA1423", "nydus-image could not convert a layer", cause=cause, seen=seen)


_GRACE_S = 660.0
_SLOWEST = 64 << 10
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
        self._run(source, target, options, _GRACE_S + size / _SLOWEST, tell)
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
