"""Images on this machine: an OCI layout, a tar of one, or what `docker save`, `podman save` and skopeo write."""

from __future__ import annotations

import hashlib

from agent.adapters import oci_layout
from agent.adapters.oci_layout import Directory, LayoutSource
from agent.adapters.tar_index import TarIndex
from agent.errors import ConvertError
from agent.oci import docker, formats, layouts
from agent.oci.docker import Saved
from agent.oci.formats import Descriptor
from agent.oci.local import Form, Local
from agent.ports_convert import Document, Source, Tell

_PACKED = ((b"\x1f\x8b", formats.TAR_GZIP), (b"\x28\xb5\x2f\xfd", formats.TAR_ZSTD))


def local_source(local: Local) -> Source:
    """The `Source` of an image on this machine. (Docker writes both forms into one archive since 25.0.) Raises
    ConvertError: NNA1401 an archive is not that, or not readable, NNA1403 it is not sound.
    """
    if local.form is Form.LAYOUT:
        return LayoutSource(Directory(local.path))
    files, saved = TarIndex(local.path), local.form is Form.DOCKER_ARCHIVE
    wanted, other = (docker.MANIFEST, layouts.INDEX) if saved else (layouts.INDEX, docker.MANIFEST)
    if files.has(wanted):
        return DockerArchive(files) if saved else LayoutSource(files)
    what = "what `docker save` writes since Docker 1.10" if saved else "a tar of an OCI layout"
    form = Form.OCI_ARCHIVE if saved else Form.DOCKER_ARCHIVE
    raise ConvertError(
        "NNA1401", f"{local.path} is not {what}", cause=f"it has no {wanted}",
        try_=f"nydus-agent convert {form.value}:{local.path} …" if files.has(other) else "",
    )  # fmt: skip


class DockerArchive:
    """The `Source` of what `docker save` wrote. No OCI manifest in it counts, so one is made of what it says: a layer
    that is not compressed is known by its diff id, one that is by its bytes.
    """

    def __init__(self, files: TarIndex) -> None:
        self._files = files
        self._names = dict[str, str]()
        self._hashes = dict[int, str]()
        """Of layers that were read, by where they begin: many names may lead to one."""

    def document(self, named: str, cap: int) -> Document:
        """See ports_convert.Source. By its tag, "@N", or "" for the only one there."""
        what = self._files.what
        saved = docker.chosen(docker.images(oci_layout.read(self._files, docker.MANIFEST, cap), what), named, what)
        content = docker.manifest(*self._described(saved, cap))
        return Document(content, formats.OCI_MANIFEST, formats.digest_of(content))

    def small(self, blob: Descriptor, cap: int) -> bytes:
        """See ports_convert.Source."""
        content = oci_layout.read(self._files, self._names[blob.digest], cap)
        if formats.digest_of(content) != blob.digest:
            raise self._changed(self._names[blob.digest])
        return content

    def fetch(self, blob: Descriptor, path: str, tell: Tell) -> None:
        """See ports_convert.Source."""
        name = self._names[blob.digest]
        _, digest = oci_layout.copied(self._files, name, path, blob.size, tell)
        if digest != blob.digest and blob.media_type != formats.TAR:
            raise self._changed(name)
        if digest != blob.digest:
            raise ConvertError(
                "NNA1422", "a layer is not what the image says", cause=f"{name} is {digest}",
                seen=(f"the configuration says {blob.digest}",),
            )  # fmt: skip

    def _changed(self, name: str) -> ConvertError:
        return formats.unsound(self._files.what, f"{name} changed meanwhile")

    def _described(self, saved: Saved, cap: int) -> tuple[Descriptor, list[Descriptor]]:
        what = self._files.what
        content = oci_layout.read(self._files, saved.config, cap)
        config = Descriptor(formats.OCI_CONFIG, formats.digest_of(content), len(content))
        ids = formats.diff_ids(formats.document_of(content, f"{what}: {saved.config}"), len(saved.layers), what)
        self._names[config.digest] = saved.config
        return config, [self._layer(name, diff_id) for name, diff_id in zip(saved.layers, ids, strict=True)]

    def _layer(self, name: str, diff_id: str) -> Descriptor:
        begin = b"".join(self._files.pieces(name, 4))
        kind = next((kind for magic, kind in _PACKED if begin.startswith(magic)), formats.TAR)
        digest = self._hashed(name) if kind != formats.TAR else diff_id
        self._names[digest] = name
        return Descriptor(kind, digest, self._files.size(name))

    def _hashed(self, name: str) -> str:
        start = self._files.start(name)
        if start not in self._hashes:
            hashed = hashlib.sha256()
            for piece in self._files.pieces(name, self._files.size(name)):
                hashed.update(piece)
            self._hashes[start] = f"sha256:{hashed.hexdigest()}"
        return self._hashes[start]
