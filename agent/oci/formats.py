"""Manifests, indexes and configurations as registries send them (OCI image-spec 1.1, Docker's schema 2).

They come from outside: sizes, types and digests are looked at before anything is made of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from agent.errors import ConvertError
from agent.oci.reference import is_digest
from agent.outside_json import json_value

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
TAR_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
NYDUS_BLOB = "application/vnd.oci.image.layer.nydus.blob.v1"

INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPTED = (*INDEXES, *MANIFESTS)

DOCUMENT_CAP = 4 << 20
"""Bytes of a manifest, an index or a configuration: what registries take at most (distribution-spec, "Push")."""
_MOST_LAYERS = 512
_MOST_MANIFESTS = 256
_LARGEST = 1 << 42  # bytes of a layer: nobody has such, and sums of them must not overflow what nydus counts with

_LAYERS = {
    TAR: "",
    TAR_GZIP: "gzip",
    TAR_ZSTD: "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
}

Json: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A thing in a registry, to the byte."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None

    def plain(self) -> dict[str, object]:
        """As it stands in a manifest."""
        body: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform is not None:
            body["platform"] = platform_body(self.platform)
        return body

    @property
    def compression(self) -> str:
        """Of a layer: "", "gzip" or "zstd"."""
        return _LAYERS[self.media_type]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its configuration and its layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Index:
    """Images for several platforms."""

    manifests: tuple[Descriptor, ...]


def document_of(content: bytes, what: str) -> Json:
    """A JSON object. Raises ConvertError (NNA1403)."""
    try:
        found = json_value(content)
    except ValueError as error:
        raise unsound(what, f"it is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise unsound(what, "it is no JSON object")
    return cast("Json", found)


def parse(content: bytes, media_type: str, what: str) -> Manifest | Index:
    """A manifest or an index. Raises ConvertError: NNA1403 it is not sound, NNA1404 it is of a kind that is not
    converted."""
    body = document_of(content, what)
    # Where both say what it is they must say the same, or two readers could see two images in one digest.
    inside = body.get("mediaType", media_type)
    if inside != media_type and media_type in ACCEPTED:
        raise unsound(what, f"it was sent as {media_type} and calls itself {str(inside)[:100]!r}")
    kind = str(inside)
    if "manifests" in body and "layers" in body:
        raise unsound(what, "it is a manifest and an index at once")
    if kind in INDEXES:
        return Index(_descriptors(body, "manifests", what, _MOST_MANIFESTS))
    if kind in MANIFESTS:
        return _manifest(body, what)
    raise ConvertError("NNA1404", f"{what} is not converted", cause=f"its media type is {kind[:100]!r}")


def _manifest(body: Json, what: str) -> Manifest:
    layers = _descriptors(body, "layers", what, _MOST_LAYERS)
    for layer in layers:
        if layer.media_type == NYDUS_BLOB:
            raise ConvertError("NNA1404", f"{what} is not converted", cause="it is a nydus image already")
        if layer.media_type not in _LAYERS:
            raise ConvertError(
                "NNA1404", f"{what} is not converted", cause=f"a layer is of the media type {layer.media_type[:100]!r}"
            )
    if not layers:
        raise ConvertError("NNA1404", f"{what} is not converted", cause="it has no layers")
    noted = body.get("annotations", {})
    noted = noted if isinstance(noted, dict) else {}
    kept = {str(name): value for name, value in noted.items() if isinstance(value, str)}
    return Manifest(descriptor(body.get("config"), "config", what), layers, kept)


def contents_of(body: Json, what: str) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """The configuration and the layers of a manifest, of whatever kind they are. Raises ConvertError (NNA1403)."""
    return descriptor(body.get("config"), "config", what), _descriptors(body, "layers", what, _MOST_LAYERS)


def _descriptors(body: Json, key: str, what: str, most: int) -> tuple[Descriptor, ...]:
    found = body.get(key)
    if not isinstance(found, list):
        raise unsound(what, f"{key} is no list")
    if len(found) > most:
        raise unsound(what, f"it has {len(found)} {key}; {most} are taken")
    return tuple(descriptor(one, f"{key}[{at}]", what) for at, one in enumerate(found))


def descriptor(found: object, where: str, what: str) -> Descriptor:
    """What `found`, at this place of `what`, says that a thing is. Raises ConvertError (NNA1403)."""
    if not isinstance(found, dict):
        raise unsound(what, f"{where} is no object")
    media_type, digest, size = found.get("mediaType"), found.get("digest"), found.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or not is_digest(digest):
        raise unsound(what, f"{where} has no media type or no sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST:
        raise unsound(what, f"{where} has no size that could be")
    return Descriptor(media_type, digest, size, _platform(found.get("platform")))


def _platform(found: object) -> Platform | None:
    return platform_of(found) if isinstance(found, dict) else None


def platform_of(body: Json) -> Platform:
    """What a descriptor in an index, or an image's configuration, says that it is for; "" where it does not."""
    return Platform(*(str(body.get(key) or "")[:64] for key in ("os", "architecture", "variant")))


def diff_ids(config: Json, layers: int, what: str) -> tuple[str, ...]:
    """The digests of the layers' tars. Raises ConvertError (NNA1403) where there is not one for each layer."""
    rootfs = config.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(found, list) or len(found) != layers or not all(isinstance(one, str) for one in found):
        raise unsound(what, f"its configuration does not name the {layers} tars of its layers")
    if not all(map(is_digest, found)):
        raise unsound(what, "a diff id is no sha256 digest")
    return tuple(found)


def digest_of(content: bytes) -> str:
    """sha256:…"""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encoded(body: Json) -> bytes:
    """A document, always in the same form."""
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode()


def platform_body(platform: Platform) -> dict[str, str]:
    """As it stands in an index."""
    named = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
    return {name: value for name, value in named.items() if value}


def unsound(what: str, cause: str) -> ConvertError:
    """An image, or what it lies in, is not what it must be."""
    return ConvertError("NNA1403", f"{what} is not sound", cause=cause)
