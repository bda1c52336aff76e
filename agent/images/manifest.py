"""Manifests and configurations of images, the layout that the nydus image is written into, and what people
call images and platforms.

Sources: OCI image-spec 1.1, Docker's schema 2, and docs/nydus-image.md of dragonflyoss/nydus for what
nydus-snapshotter takes. What is read comes from outside: sizes, types and digests are looked at before
anything is made of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from agent.errors import ConvertError
from agent.outside_json import json_object, mapping
from agent.registry import names
from agent.registry.names import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, is_digest

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
NYDUS_BLOB = "application/vnd.oci.image.layer.nydus.blob.v1"
BOOTSTRAP = "image/image.boot"
"""Where in its layer the metadata of a nydus image are."""

_NAME = "image"
_NOTE = "containerd.io/snapshot/nydus-"
_CAP = 4 << 20  # bytes of a document: what registries take at most (distribution-spec, "Push")
_BY = "nydus-agent convert"
_MOST_LAYERS = 512
# Bytes of a layer: nobody has such, and sums of them must not overflow what nydus counts with.
_LARGEST = 1 << 42

Json: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A thing in a registry, to the byte."""

    media_type: str
    digest: str
    size: int
    notes: Mapping[str, str] = field(default_factory=dict)
    """Annotations."""

    @property
    def name(self) -> str:
        """Its file's name in layouts and in what skopeo writes."""
        return self.digest.removeprefix("sha256:")

    def body(self) -> dict[str, object]:
        """As it stands in a manifest."""
        plain: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**plain, "annotations": dict(self.notes)} if self.notes else plain


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image: its configuration and its layers, the lowest first."""

    digest: str
    """Of its manifest."""
    notes: Mapping[str, str]
    """The annotations of its manifest."""
    config: Json
    platform: Platform
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    """The digests of the tars of its layers."""


def read_image(directory: Path, what: str) -> SourceImage:
    """The image that skopeo wrote into a directory. Raises ConvertError: NNA1403 it is not sound, NNA1403 it
    is of a kind that is not converted."""
    content = _read(directory / "manifest.json")
    body = _document(content, what)
    layers = _layers(body, what)
    if any(layer.media_type == NYDUS_BLOB for layer in layers):
        raise ConvertError("NNA1403", f"{what} is not converted", cause="it is a nydus image already")
    described = _descriptor(body.get("config"), "config", what)
    config = _document(_read(directory / described.name), f"the configuration of {what}")
    found = mapping(config.get("rootfs")).get("diff_ids")
    if not isinstance(found, list) or len(found) != len(layers):
        raise unsound(what, f"its configuration does not name the {len(layers)} tars of its layers")
    if not all(isinstance(one, str) and is_digest(one) for one in found):
        raise unsound(what, "a diff id is no sha256 digest")
    noted = mapping(body.get("annotations"))
    notes = {name: value for name, value in noted.items() if isinstance(value, str)}
    return SourceImage(digest_of(content), notes, config, platform_of(config), layers, tuple(found))


def read_layers(directory: Path, what: str) -> tuple[Descriptor, ...]:
    """The layers alone. Raises ConvertError as `read_image`."""
    return _layers(_document(_read(directory / "manifest.json"), what), what)


def _layers(body: Json, what: str) -> tuple[Descriptor, ...]:
    kind = str(body.get("mediaType", OCI_MANIFEST))[:100]
    if kind not in (OCI_MANIFEST, DOCKER_MANIFEST) or "manifests" in body:
        raise ConvertError("NNA1403", f"{what} is not converted", cause=f"its media type is {kind!r}")
    found = body.get("layers")
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_LAYERS:
        raise unsound(what, f"it has no list of layers, or of more than {_MOST_LAYERS}")
    return tuple(_descriptor(one, f"layers[{at}]", what) for at, one in enumerate(found))


def _descriptor(found: object, where: str, what: str) -> Descriptor:
    body = mapping(found)
    media_type, digest, size = body.get("mediaType"), body.get("digest"), body.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or not is_digest(digest):
        raise unsound(what, f"{where} has no media type or no sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST:
        raise unsound(what, f"{where} has no size that could be")
    return Descriptor(media_type, digest, size)


def _document(content: bytes, what: str) -> Json:
    try:
        return json_object(content, _CAP)
    except ValueError as error:
        raise unsound(what, f"it is no JSON object that could be one ({error})") from None


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_CAP + 1)


# Writing


def blob_descriptor(digest: str, size: int) -> Descriptor:
    """A RAFS blob, or a layer of the source that the data stays in: nodes do not fetch such, nydusd reads
    them.
    """
    return Descriptor(NYDUS_BLOB, digest, size, {f"{_NOTE}blob": "true"})


def bootstrap_descriptor(digest: str, size: int) -> Descriptor:
    """The packed metadata of a nydus image."""
    return Descriptor(TAR_GZIP, digest, size, {f"{_NOTE}bootstrap": "true", f"{_NOTE}fs-version": "6"})


def nydus_config(source: Json, blobs: Sequence[Descriptor], bootstrap_diff_id: str) -> bytes:
    """The configuration of the source, with the layers of the nydus image in the place of its own. The diff
    id of a RAFS blob is its own digest. Of the history the commands stay; image-spec wants an entry for each
    layer."""
    config = dict(source)
    config["rootfs"] = {"type": "layers", "diff_ids": [*(blob.digest for blob in blobs), bootstrap_diff_id]}
    history = source.get("history")
    if isinstance(history, list):
        commands = [{**one, "empty_layer": True} for one in history if isinstance(one, dict)]
        config["history"] = [*commands, *({"created_by": _BY} for _ in range(len(blobs) + 1))]
    return encoded(config)


def nydus_manifest(
    source: SourceImage, config: Descriptor, blobs: Sequence[Descriptor], bootstrap: Descriptor
) -> bytes:  # fmt: skip
    """The manifest of the nydus image: the blobs, and last the bootstrap. What it was made of is noted as
    nydusify notes it."""
    layers = [layer.body() for layer in (*blobs, bootstrap)]
    notes = {**source.notes, f"{_NOTE}source-digest": source.digest}
    return encoded(
        {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.body(), "layers": layers,
            "annotations": notes,
        }
    )  # fmt: skip


def nydus_index(images: Sequence[tuple[Descriptor, Platform]]) -> bytes:
    """The index over images for several platforms."""
    entries = [{**described.body(), "platform": platform.body()} for described, platform in images]
    return encoded({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def digest_of(content: bytes) -> str:
    """sha256:…"""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encoded(body: Json) -> bytes:
    """A document, always in the same form."""
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode()


def unsound(what: str, cause: str) -> ConvertError:
    """An image, or a layer of it, is not what it must be."""
    return ConvertError("NNA1403", f"{what} is not sound", cause=cause)


class Layout:
    """An OCI layout (image-spec, image-layout.md) that holds one image, or the index over several."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"
        self.blobs.mkdir(mode=0o700, parents=True)

    @property
    def skopeo(self) -> str:
        """As skopeo names the image in it."""
        return f"oci:{self.path}:{_NAME}"

    def file(self, blob: Descriptor) -> Path:
        """Where a blob is."""
        return self.blobs / blob.name

    def take(self, path: Path) -> tuple[str, int]:
        """Move a file into it; its digest and size."""
        with open(path, "rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()
        return f"sha256:{name}", path.replace(self.blobs / name).stat().st_size

    def link(self, path: Path, blob: Descriptor) -> None:
        """Have a file, which has this digest, in both places."""
        with contextlib.suppress(FileExistsError):
            self.file(blob).hardlink_to(path)

    def add(self, content: bytes, media_type: str) -> Descriptor:
        """A document."""
        found = Descriptor(media_type, digest_of(content), len(content))
        self.file(found).write_bytes(content)
        return found

    def add_image(
        self, source: SourceImage, config: bytes, blobs: Sequence[Descriptor], bootstrap: Descriptor
    ) -> Descriptor:  # fmt: skip
        """The documents of a nydus image; the descriptor of its manifest."""
        described = self.add(config, OCI_CONFIG)
        return self.add(nydus_manifest(source, described, blobs, bootstrap), OCI_MANIFEST)

    def finish(self, images: Sequence[tuple[Descriptor, Platform]]) -> str:
        """Name these images, by an index where there are several; the digest of what is named."""
        named = images[0][0] if len(images) == 1 else self.add(nydus_index(images), OCI_INDEX)
        entry = {**named.body(), "annotations": {"org.opencontainers.image.ref.name": _NAME}}
        body = encoded({"schemaVersion": 2, "manifests": [entry]})
        (self.path / "index.json").write_bytes(body)
        (self.path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
        return named.digest


SHAPES = "oci:DIRECTORY[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME]"
"""skopeo's names of places on this machine (containers-transports(5))."""
_LOCAL = ("oci", "oci-archive", "docker-archive")
_WITH_VARIANTS = ("amd64", "arm", "arm64")


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image in a registry or on this machine."""

    text: str
    """As it was given, or as a whole reference."""
    skopeo: str
    """As skopeo takes it. A path is absolute, because skopeo is started in /."""
    host: str = ""
    """The registry; empty where the image is on this machine."""


def parse_source(text: str) -> ImageName:
    """HOST/REPOSITORY:TAG, with or without docker://, or a place on this machine.

    Raises ConvertError (NNA1401).
    """
    transport, colon, rest = text.partition(":")
    if colon and transport in _LOCAL:
        path, _, name = rest.partition(":")
        if not path:
            raise ConvertError(
                "NNA1401", f"{text!r} names no {'directory' if transport == 'oci' else 'file'}"
            )
        place = os.path.abspath(path)  # noqa: PTH100 - Path.resolve would follow links
        return ImageName(text, f"{transport}:{place}{':' + name if name else ''}")
    found = names.parse(text.removeprefix("docker://"))
    # skopeo refuses a name with both tag and digest; the digest says more.
    named = f"@{found.digest}" if found.digest else f":{found.tag}"
    return ImageName(str(found), f"docker://{found.host}/{found.repository}{named}", found.host)


def parse_target(text: str) -> ImageName:
    """As `parse_source`, for what can be written. Raises ConvertError (NNA1401)."""
    found = parse_source(text)
    if found.host and "@" in found.skopeo:
        raise ConvertError(
            "NNA1401", "DST cannot have a digest", cause="the digest follows from what is made"
        )
    if found.skopeo.startswith("docker-archive:"):
        raise ConvertError("NNA1401", "DST cannot be a docker-archive", cause="it cannot hold a nydus image")
    return found


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def body(self) -> dict[str, str]:
        """As an index has it."""
        named = {"os": self.os, "architecture": self.architecture, "variant": self.variant}
        return {name: value for name, value in named.items() if value}

    def serves(self, wanted: Platform) -> bool:
        """Whether an image of this platform is what was asked for. Many images do not say their variant."""
        same = (self.os, self.architecture) == (wanted.os, wanted.architecture)
        return same and (not wanted.variant or self.variant in ("", wanted.variant))


def platform_of(config: Mapping[str, object]) -> Platform:
    """What the configuration of an image says that it is for."""
    found = (str(config.get(key) or "")[:64] for key in ("os", "architecture", "variant"))
    return Platform(next(found) or "linux", *found)


def parse_platforms(text: str) -> tuple[Platform, ...]:
    """ "amd64,linux/arm64": each once, in this order. Raises ConvertError (NNA1401)."""
    found = []
    for name in text.split(","):
        parts = name.strip().split("/")
        if len(parts) == 1 or (parts[0] in _WITH_VARIANTS and len(parts) == 2):
            parts = ["linux", *parts]  # as containerd reads it: arm/v7 names no system called arm
        if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isalnum() for part in parts):
            cause = "such as amd64, arm64, arm/v7, linux/arm/v7"
            raise ConvertError("NNA1401", f"{name!r} is no platform", cause=cause)
        found.append(Platform(*parts))
    return tuple(dict.fromkeys(found))
