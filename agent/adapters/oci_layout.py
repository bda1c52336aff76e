"""Images as the OCI image-layout has them (image-spec, image-layout.md), in a directory or in a tar of one, such as
`skopeo copy` and `docker buildx build --output type=oci` make.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Protocol

from agent.adapters.walk import READ
from agent.errors import ConvertError
from agent.oci import formats, layouts
from agent.oci.formats import Descriptor
from agent.oci.reference import is_digest
from agent.ports_convert import Document, Tell

_PIECE = 1 << 20


class Files(Protocol):
    """Files by the names that they have in a layout or an archive."""

    what: str
    """Which one it is, as people name it."""

    def pieces(self, name: str, most: int) -> Iterator[bytes]:
        """Its bytes, `most` at most. Raises ConvertError (NNA1401, NNA1403)."""


class Directory:
    """The `Files` of a directory. None of them may be a link; a directory in it may, for what is read below is named by
    its digest."""

    def __init__(self, path: str) -> None:
        self.what = path

    def pieces(self, name: str, most: int) -> Iterator[bytes]:
        """See Files."""
        try:
            descriptor = os.open(os.path.join(self.what, name), READ)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise ConvertError("NNA1401", f"{self.what} cannot be read", cause=f"{name} is no file")
                left = most
                while left > 0 and (piece := file.read(min(_PIECE, left))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise ConvertError("NNA1401", f"{self.what} cannot be read", cause=f"{name}: {error.strerror}") from None


def read(files: Files, name: str, cap: int) -> bytes:
    """A small file. Raises ConvertError (NNA1401, NNA1403)."""
    content = b"".join(files.pieces(name, cap + 1))
    if len(content) > cap:
        raise formats.unsound(files.what, f"{name} is longer than {cap} bytes")
    return content


def copied(files: Files, name: str, path: str, most: int, tell: Tell) -> tuple[int, str]:
    """A file into a new one: its length and its digest. Raises ConvertError (NNA1401, NNA1403)."""
    hashed, done = hashlib.sha256(), 0
    with open(path, "xb") as file:
        for piece in files.pieces(name, most):
            file.write(piece)
            hashed.update(piece)
            done += len(piece)
            tell(done)
    return done, f"sha256:{hashed.hexdigest()}"


class LayoutSource:
    """The `Source` of a layout."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def document(self, named: str, cap: int) -> Document:
        """See ports_convert.Source. By its name in index.json, by its place there ("@N"), by digest, or ""
        for the only one."""
        if is_digest(named):
            return self._by_digest(named, cap)
        where = f"{self._files.what}: {layouts.INDEX}"
        index = formats.document_of(read(self._files, layouts.INDEX, cap), where)
        found = layouts.chosen(layouts.entries(index), named, self._files.what)
        if len(found) == 1:
            return self._by_digest(found[0].digest, cap)
        content = layouts.manifest_list(found, where)
        return Document(content, formats.OCI_INDEX, formats.digest_of(content))

    def small(self, blob: Descriptor, cap: int) -> bytes:
        """See ports_convert.Source."""
        content = read(self._files, path_of(blob.digest), cap)
        self._need(blob, len(content), formats.digest_of(content))
        return content

    def fetch(self, blob: Descriptor, path: str, tell: Tell) -> None:
        """See ports_convert.Source."""
        self._need(blob, *copied(self._files, path_of(blob.digest), path, blob.size + 1, tell))

    def _by_digest(self, digest: str, cap: int) -> Document:
        content = read(self._files, path_of(digest), cap)
        self._need(Descriptor("", digest, len(content)), len(content), formats.digest_of(content))
        body = formats.document_of(content, digest)
        kind = body.get("mediaType")
        inferred = formats.OCI_INDEX if "manifests" in body else formats.OCI_MANIFEST
        return Document(content, kind if isinstance(kind, str) else inferred, digest)

    def _need(self, blob: Descriptor, size: int, digest: str) -> None:
        if size != blob.size or digest != blob.digest:
            raise formats.unsound(self._files.what, f"{path_of(blob.digest)}: {size} bytes of {digest}")


def path_of(digest: str) -> str:
    """Where a layout has the blob of a digest."""
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
