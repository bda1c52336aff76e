"""nydus-image as the converter: one layer after the other from a stream, then the merge of their metadata.

The layers' tars go through a fifo, so that they are never on the disk, and no rights are needed: nothing is extracted.
What nydus-image 2.2.0 does wrong, and what is done about it (a version that does it right is left alone):

- `create --parent-bootstrap` of a tar lets the files of an upper layer point into the lowest one's blob (they then have
  another content, and `check` says nothing): layers are built by themselves and merged.
- `merge` takes from the uppermost layer alone whether files have extended attributes, and nydusd then shows none unless
  its configuration insists: the bit is set where a layer has it.
- Directories that a layer does not name get new rights, and 2.4.4 loses files in them: see agent.oci.implied.
- A file that a tar has twice gets the next one's content, a directory loses what it has: such layers are refused.
- What is behind a tar's end it takes for files of the image, which nobody else sees: it gets the tar as far as its end.
  (eStargz layers of BuildKit 0.13 have their index there.)
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import struct
import tarfile
import time
from collections.abc import Sequence

from agent.adapters.layer_files import PIECE, checked, header_of, length
from agent.adapters.process import ChildProcesses, Companion, companion, last_written
from agent.errors import ConvertError, ProcessError
from agent.oci import formats, nydus
from agent.oci.implied import Named
from agent.oci.nydus import Blob
from agent.ports_convert import BuildOptions, Built, LayerFile, Tell

_START_S, _END_S = 30.0, 600.0
_LEAST_RATE = 256 << 10
"""Bytes a second that nydus-image takes at least; one that hangs is ended."""
_CHECK_S = 600.0
_STEP_S = 0.02
_LINES, _LINE = 6, 300
_HAS_XATTR = 0x10  # of a bootstrap's flags
_END = bytes(2 * tarfile.BLOCKSIZE)


class NydusImage:
    """The `Builder` port; its files are in `directory`."""

    def __init__(self, program: str, directory: str) -> None:
        self._program, self._directory = program, directory
        self._count = 0
        self._trials = dict[str, int]()
        os.makedirs(os.path.join(directory, "blobs"), mode=0o700, exist_ok=True)

    def version(self) -> str:
        """See ports_convert.Builder."""
        try:
            return ChildProcesses().run([self._program, "--version"], deadline_s=_START_S).stdout
        except ProcessError as error:
            raise ConvertError(
                "NNA1429", f"{self._program} cannot be run", cause=error.cause, seen=error.seen
            ) from None

    def create(self, layer: LayerFile, options: BuildOptions, named: Sequence[Named], tell: Tell) -> Built:
        """See ports_convert.Builder."""
        if options.reference:
            return self._refer(layer, named)
        # 2.2.0 forgets what a directory has where it comes a second time, so it gets none that it can do without.
        if any(node.implied for _, node in named) and not self.loses_files():
            named = [one for one in named if not one[1].implied]
        self._count += 1
        base = os.path.join(self._directory, f"built-{self._count}")
        fifo, blob, bootstrap = f"{base}.fifo", f"{base}.blob", f"{base}.bootstrap"
        os.mkfifo(fifo, 0o600)
        argv = [
            self._program, "create", "--type", "tar-rafs", "--fs-version", "6", "--compressor", options.compressor,
            "--chunk-size", hex(options.chunk_size), "--bootstrap", bootstrap, "--blob", blob, "--log-level", "warn",
            fifo,
        ]  # fmt: skip
        try:
            with open(f"{base}.log", "wb") as log, companion(argv, log.fileno()) as child:
                count = _fed(child, fifo, layer, named, tell)
                _wait(child, time.monotonic() + _END_S)
                if child.code != 0:
                    raise _failed(f"exit code {child.code}", f"{base}.log")
                if not os.path.exists(bootstrap):
                    raise _failed("it ended well and wrote no metadata", f"{base}.log")
        except ProcessError as error:
            raise ConvertError("NNA1423", "nydus-image cannot be run", cause=error.cause, seen=error.seen) from None
        os.unlink(fifo)
        made, path = self._kept(blob)
        # `merge` takes the name of a layer's metadata for the name of its blob.
        renamed = f"{base}.d/{os.path.basename(path) or 'empty'}"
        os.mkdir(f"{base}.d", 0o700)
        os.rename(bootstrap, renamed)
        return Built(renamed, made, path, count)

    def _refer(self, layer: LayerFile, named: Sequence[Named]) -> Built:
        """Where in the layer's gzip stream each file is. The name of the metadata is that of the blob with the data."""
        unnamed = next((path for path, _ in named if path), "")
        if unnamed and self.loses_files():
            raise ConvertError(
                "NNA1404", "a layer cannot be referenced",
                cause=f"it has files in /{unnamed} without naming it, and this nydus-image loses files there",
                try_="nydus-agent convert without --reference, or another --nydus-image",
            )  # fmt: skip
        count = length(layer)
        self._count += 1
        base = os.path.join(self._directory, f"built-{self._count}")
        os.mkdir(f"{base}.d", 0o700)
        name = layer.digest.removeprefix("sha256:")
        bootstrap, blob, result = f"{base}.d/{name}", f"{base}.blob", f"{base}.json"
        said = self._run(
            "create", "--type", "targz-ref", "--fs-version", "6", "--bootstrap", bootstrap, "--blob", blob,
            "--output-json", result, layer.path, code="NNA1423",
        )  # fmt: skip
        if not _has_data(result, said):
            return Built(bootstrap, None, "", count)
        made, path = self._kept(blob)
        with contextlib.suppress(FileExistsError):  # the same layer twice
            os.link(layer.path, os.path.join(self._directory, "blobs", name))
        return Built(bootstrap, made, path, count, Blob(layer.digest, layer.size))

    def takes_twice(self) -> bool:
        """See ports_convert.Builder."""
        return self._listed("twice", ("d/", "d/e/", "d/", "d/b")) >= 4  # the root, d, d/e and d/b

    def takes_again(self) -> bool:
        """See ports_convert.Builder."""
        return self._listed("again", ("d/", "d/e/", "d/", "d/b", "d/b", "d/c")) >= 5  # the root and four names

    def loses_files(self) -> bool:
        """See ports_convert.Builder."""
        return self._listed("unnamed", ("d/b", "d/a/c")) < 5  # the root, d, d/b, d/a and d/a/c

    def _listed(self, trial: str, names: Sequence[str]) -> int:
        """How many files the converter finds in what it made of a tar with these; tried once in a run. 2.2.0 makes what
        comes twice another name of what comes next: a hard link, and there is none in these."""
        if trial not in self._trials:
            base = os.path.join(self._directory, f"trial-{trial}")
            with gzip.open(f"{base}.tar.gz", "xb") as packed:
                packed.write(b"".join(map(_entry, names)) + bytes(2 * tarfile.BLOCKSIZE))
            self._run(
                "create", "--type", "targz-ref", "--fs-version", "6", "--bootstrap", f"{base}.bootstrap", "--blob",
                f"{base}.blob", "--output-json", f"{base}.json", f"{base}.tar.gz", code="NNA1423",
            )  # fmt: skip
            told = self._run("check", "--verbose", f"{base}.bootstrap", code="NNA1423").splitlines()
            self._trials[trial] = sum(line.startswith("inode") and "hardlink" not in line for line in told)
        return self._trials[trial]

    def merge(self, layers: Sequence[Built]) -> str:
        """See ports_convert.Builder."""
        self._count += 1
        merged = os.path.join(self._directory, f"merged-{self._count}.bootstrap")
        self._run("merge", "--bootstrap", merged, *(layer.bootstrap for layer in layers))
        flags = 0
        for layer in layers:
            flags |= _flags(layer.bootstrap)
        if flags & ~_flags(merged) & _HAS_XATTR:
            _set_flags(merged, _flags(merged) | _HAS_XATTR)
        return merged

    def _kept(self, blob: str) -> tuple[Blob | None, str]:
        """The blob under its digest, as nydusd looks for it."""
        size = os.path.getsize(blob) if os.path.exists(blob) else 0
        if not size:
            return None, ""
        digest = _digest_of(blob)
        path = os.path.join(self._directory, "blobs", digest)
        os.rename(blob, path)
        return Blob(f"sha256:{digest}", size), path

    def check(self, bootstrap: str, blobs: Sequence[str] = ()) -> None:
        """See ports_convert.Builder."""
        self._run("check", bootstrap, *(("--blob-dir", os.path.dirname(blobs[0])) if blobs else ()))

    def _run(self, *words: str, code: str = "NNA1424") -> str:
        try:
            return ChildProcesses().run([self._program, *words, "--log-level", "warn"], deadline_s=_CHECK_S).stdout
        except ProcessError as error:
            what = "a layer could not be converted" if code == "NNA1423" else "the converted image is not valid"
            raise ConvertError(code, what, cause=error.cause, seen=error.seen) from None

    def pack(self, bootstrap: str) -> tuple[Blob, str]:
        """See ports_convert.Builder."""
        path = f"{bootstrap}.tar.gz"
        with open(path, "xb") as file:
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
                hashing = _Hashing(packed)
                _write_tar(hashing, bootstrap)
            size = file.tell()
        return Blob(f"sha256:{_digest_of(path)}", size, f"sha256:{hashing.digest}"), path


def _fed(child: Companion, fifo: str, layer: LayerFile, named: Sequence[Named], tell: Tell) -> int:
    """Hand the layer's tar to nydus-image; its length. Raises ConvertError NNA1421, NNA1422, NNA1423."""
    count = 0
    with child.killed_after(_START_S + layer.size / _LEAST_RATE * 4), _Fifo(child, fifo) as sink:
        for path, node in named:
            sink.write(header_of(path, node))
        for piece in checked(layer):
            sink.write(piece if layer.end is None else piece[: max(0, layer.end - count)])
            count += len(piece)
            tell(min(layer.size, count))
        sink.write(bytes(max(0, (layer.end or 0) - count)) + _END)  # umoci leaves out the last file's padding
    return count


class _Fifo:
    """The writing end of a fifo. A reader that has what it needs may stop before the end."""

    def __init__(self, child: Companion, path: str) -> None:
        self._descriptor = _opened(child, path)

    def __enter__(self) -> _Fifo:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def write(self, piece: bytes) -> None:
        left = memoryview(piece)
        try:
            while left and self._descriptor is not None:
                left = left[os.write(self._descriptor, left) :]
        except BrokenPipeError:
            assert self._descriptor is not None
            os.close(self._descriptor)
            self._descriptor = None


def _opened(child: Companion, path: str) -> int | None:
    """None where the reader has ended before it opened its end."""
    until = time.monotonic() + _START_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > until:
                raise ConvertError("NNA1423", "nydus-image does not read", cause=error.strerror or "") from None
            if child.code is not None:
                return None
            time.sleep(_STEP_S)
            continue
        os.set_blocking(descriptor, True)
        return descriptor


def _wait(child: Companion, until: float) -> None:
    while child.code is None:
        if time.monotonic() > until:
            raise ConvertError("NNA1423", "nydus-image does not end", cause=f"not within {_END_S:g} s")
        time.sleep(_STEP_S)


def _entry(name: str) -> bytes:
    entry = tarfile.TarInfo(name)
    if name.endswith("/"):
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry.tobuf()


def _has_data(result: str, said: str) -> bool:
    """Whether a layer has files with data, by what nydus-image notes of it (--output-json). Raises ConvertError
    (NNA1423) where that is something else than is known here."""
    content = b""
    with contextlib.suppress(FileNotFoundError), open(result, "rb") as file:
        content = file.read(formats.DOCUMENT_CAP)
    try:
        blobs = formats.document_of(content, "what it notes").get("blobs")
        if isinstance(blobs, list) and all(isinstance(one, str) for one in blobs):
            return bool(blobs)
        cause = "what it notes has no list of blobs"
    except ConvertError as error:
        cause = str(error)
    lines = [content.decode(errors="replace"), *said.splitlines()[-_LINES:]]
    raise ConvertError(
        "NNA1423", "nydus-image does not say where a layer's data is", cause=cause,
        seen=tuple(line[:_LINE] for line in lines if line),
    )  # fmt: skip


def _flags(bootstrap: str) -> int:
    """Raises ConvertError (NNA1429) where this is no RAFS v6 as it is known here: nothing in it is to be changed."""
    head = b""
    with contextlib.suppress(FileNotFoundError), open(bootstrap, "rb") as file:
        head = file.read(nydus.FLAGS_AT + 8)
    if len(head) < nydus.FLAGS_AT + 8 or not nydus.is_rafs_v6(head):
        raise ConvertError("NNA1429", "nydus-image writes another form than was asked for", cause="it is no RAFS v6")
    flags: int = struct.unpack_from("<Q", head, nydus.FLAGS_AT)[0]
    return flags


def _set_flags(bootstrap: str, flags: int) -> None:
    with open(bootstrap, "r+b") as file:
        file.seek(nydus.FLAGS_AT)
        file.write(struct.pack("<Q", flags))


def _failed(cause: str, log: str) -> ConvertError:
    told = tuple(line.strip()[:_LINE] for line in last_written(log) if line.strip())[-_LINES:]
    return ConvertError("NNA1423", "nydus-image could not convert a layer", cause=cause, seen=told)


def _digest_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Hashing:
    """Hashes what it writes."""

    def __init__(self, into: gzip.GzipFile) -> None:
        self._into, self._hash = into, hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._into.write(data)


def _write_tar(into: _Hashing, bootstrap: str) -> None:
    """A tar of a directory and one file in it."""
    directory = tarfile.TarInfo(nydus.BOOTSTRAP.partition("/")[0])
    directory.type, directory.mode = tarfile.DIRTYPE, 0o755
    file = tarfile.TarInfo(nydus.BOOTSTRAP)
    file.size, file.mode = os.path.getsize(bootstrap), 0o444
    into.write(directory.tobuf(tarfile.PAX_FORMAT))
    into.write(file.tobuf(tarfile.PAX_FORMAT))
    with open(bootstrap, "rb") as content:
        while piece := content.read(PIECE):
            into.write(piece)
    into.write(b"\0" * (-file.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE))
