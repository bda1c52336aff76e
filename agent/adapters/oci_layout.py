"""Images in a directory as the OCI image-layout has it (image-spec, image-layout.md), such as `skopeo copy` makes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator

from agent.adapters.walk import READ
from agent.errors import ConvertError
from agent.oci import formats
from agent.oci.formats import Descriptor
from agent.oci.reference import is_digest
from agent.ports_convert import Document, Tell

_NAME = "org.opencontainers.image.ref.name"
_PIECE = 1 << 20


class LayoutSource:
    """The `Source` of a layout."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def document(self, named: str, cap: int) -> Document:
        """See ports_convert.Source. By its name in index.json, by digest, or "" for the only one there."""
        if is_digest(named):
            return self._by_digest(named, cap)
        index = formats.document_of(self._read("index.json", cap), f"{self._directory}/index.json")
        found = index.get("manifests")
        entries = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        match = [one for one in entries if not named or _name(one) == named]
        if len(match) != 1 or not is_digest(str(match[0].get("digest"))):
            names = ", ".join(filter(None, map(_name, entries))) or "none with a name"
            what = f"one image called {named!r}" if named else "one image alone"
            raise ConvertError("NNA1401", f"{self._directory} does not hold {what}", cause=f"it has: {names}")
        return self._by_digest(str(match[0]["digest"]), cap)

    def small(self, blob: Descriptor, cap: int) -> bytes:
        """See ports_convert.Source."""
        content = self._read(_path(blob.digest), cap)
        self._need(blob, len(content), formats.digest_of(content))
        return content

    def fetch(self, blob: Descriptor, path: str, tell: Tell) -> None:
        """See ports_convert.Source."""
        hashed, done = hashlib.sha256(), 0
        with open(path, "xb") as file:
            for piece in self._pieces(_path(blob.digest), blob.size + 1):
                file.write(piece)
                hashed.update(piece)
                done += len(piece)
                tell(done)
        self._need(blob, done, f"sha256:{hashed.hexdigest()}")

    def _by_digest(self, digest: str, cap: int) -> Document:
        content = self._read(_path(digest), cap)
        self._need(Descriptor("", digest, len(content)), len(content), formats.digest_of(content))
        body = formats.document_of(content, digest)
        kind = body.get("mediaType")
        inferred = formats.OCI_INDEX if "manifests" in body else formats.OCI_MANIFEST
        return Document(content, kind if isinstance(kind, str) else inferred, digest)

    def _need(self, blob: Descriptor, size: int, digest: str) -> None:
        if size != blob.size or digest != blob.digest:
            raise ConvertError(
                "NNA1403", f"{self._directory} is not sound", cause=f"{_path(blob.digest)}: {size} bytes of {digest}"
            )

    def _read(self, name: str, cap: int) -> bytes:
        content = b"".join(self._pieces(name, cap + 1))
        if len(content) > cap:
            raise ConvertError("NNA1403", f"{self._directory} is not sound", cause=f"{name} is longer than {cap} bytes")
        return content

    def _pieces(self, name: str, most: int) -> Iterator[bytes]:
        try:
            descriptor = os.open(os.path.join(self._directory, name), READ)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise ConvertError("NNA1401", f"{self._directory} cannot be read", cause=f"{name} is no file")
                left = most
                while left > 0 and (piece := file.read(min(_PIECE, left))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise ConvertError(
                "NNA1401", f"{self._directory} cannot be read", cause=f"{name}: {error.strerror}"
            ) from None


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _name(entry: dict[str, object]) -> str:
    noted = entry.get("annotations")
    name = noted.get(_NAME) if isinstance(noted, dict) else None
    return name if isinstance(name, str) else ""
