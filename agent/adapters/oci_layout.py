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
from agent.oci import formats, reference
from agent.oci.docker import LONGEST_LIST, LONGEST_NAME
from agent.oci.formats import Descriptor
from agent.oci.reference import is_digest
from agent.ports_convert import Document, Tell

_NAME = "org.opencontainers.image.ref.name"
WHOLE_NAME = "io.containerd.image.name"
"""Where containerd, BuildKit and Docker note it: of "app:1" the first annotation has "1" alone."""
_PIECE = 1 << 20


class Files(Protocol):
    """Files by the names that they have in a layout or an archive."""

    what: str
    """Which one it is, as people name it."""

    def pieces(self, name: str, most: int) -> Iterator[bytes]:
        """Its bytes, `most` at most. Raises ConvertError (NNA1401, NNA1403)."""


class Directory:
    """The `Files` of a directory. No link is followed in it."""

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
        """See ports_convert.Source. By its name in index.json, by digest, or "" for the only one there."""
        if is_digest(named):
            return self._by_digest(named, cap)
        index = formats.document_of(read(self._files, "index.json", cap), f"{self._files.what}: index.json")
        found = index.get("manifests")
        entries = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        # One image may have several names, an entry for each.
        match = {str(one.get("digest")) for one in entries if not named or _called(one, named)}
        if len(match) != 1 or not all(map(is_digest, match)):
            names = ", ".join(dict.fromkeys(shown for one in entries for shown in _names(one)[-1:]))[:LONGEST_LIST]
            what = f"one image called {named!r}" if named else "one image alone"
            raise ConvertError(
                "NNA1401", f"{self._files.what} does not hold {what}", cause=f"it has: {names or 'none with a name'}"
            )
        return self._by_digest(match.pop(), cap)

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


def _called(entry: dict[str, object], named: str) -> bool:
    """app:1 is docker.io/library/app:1."""
    names = _names(entry)
    return named in names or reference.whole(named) in map(reference.whole, names)


def _names(entry: dict[str, object]) -> tuple[str, ...]:
    """What an image is called, as far as that can be told on a terminal; the last one says the most."""
    noted = entry.get("annotations")
    found = (noted.get(_NAME), noted.get(WHOLE_NAME)) if isinstance(noted, dict) else ()
    return tuple(name for name in found if isinstance(name, str) and name and _is_told(name))


def _is_told(name: str) -> bool:
    return len(name) <= LONGEST_NAME and name.isprintable()
