"""What `docker save` and `podman save` write: manifest.json, which names each image's configuration and layers within
the archive (moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from agent.errors import ConvertError
from agent.oci import formats, reference
from agent.oci.formats import Descriptor, unsound
from agent.outside_json import json_value

MANIFEST = "manifest.json"
LONGEST_NAME, LONGEST_LIST = 300, 600
"""Characters: of a name within an archive or of an image, and of names that are told."""
_MOST_IMAGES = 1000
_MOST_LAYERS = 512


@dataclass(frozen=True, slots=True)
class Saved:
    """An image in such an archive. Its files are names within the archive."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


def images(content: bytes, what: str) -> tuple[Saved, ...]:
    """The images of a manifest.json. Raises ConvertError (NNA1403)."""
    try:
        found = json_value(content)
    except ValueError as error:
        raise unsound(what, f"{MANIFEST} is not JSON ({error})") from None
    if not isinstance(found, list) or len(found) > _MOST_IMAGES:
        raise unsound(what, f"{MANIFEST} is no list of images, or of more than {_MOST_IMAGES}")
    return tuple(_image(one, f"{MANIFEST}[{at}]", what) for at, one in enumerate(found))


def _image(found: object, where: str, what: str) -> Saved:
    if not isinstance(found, dict):
        raise unsound(what, f"{where} is no object")
    config, layers, tags = found.get("Config"), found.get("Layers"), found.get("RepoTags") or []
    if not isinstance(config, str) or not _words([config]) or not _words(layers) or len(layers) > _MOST_LAYERS:
        raise unsound(what, f"{where} does not name a configuration and {_MOST_LAYERS} layers at most")
    if not _words(tags):
        raise unsound(what, f"{where} has RepoTags that are no names")
    return Saved(config, tuple(layers), tuple(tags))


def _words(found: object) -> TypeGuard[list[str]]:
    """Names that can be told: errors are read on terminals."""
    return isinstance(found, list) and all(
        isinstance(one, str) and len(one) <= LONGEST_NAME and one.isprintable() for one in found
    )


def chosen(saved: Sequence[Saved], named: str, what: str) -> Saved:
    """The image of this name; "@N" is the one at place N, as skopeo has it, "" the only one there. Raises ConvertError
    (NNA1401) with the names that there are.
    """
    match = [one for at, one in enumerate(saved) if not named or named == f"@{at}" or _called(one, named)]
    if len(match) != 1:
        names = ", ".join(" = ".join((f"@{at}", *one.tags)) for at, one in enumerate(saved))[:LONGEST_LIST] or "nothing"
        wanted = f"one image called {named!r}" if named else "one image alone"
        raise ConvertError("NNA1401", f"{what} does not hold {wanted}", cause=f"it has: {names}")
    return match[0]


def _called(image: Saved, named: str) -> bool:
    """docker.io/library/app:latest is app."""
    return reference.whole(named) in map(reference.whole, image.tags)


def manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """The OCI manifest that such an image does not have."""
    body = {
        "schemaVersion": 2,
        "mediaType": formats.OCI_MANIFEST,
        "config": config.plain(),
        "layers": [layer.plain() for layer in layers],
    }
    return formats.encoded(body)
