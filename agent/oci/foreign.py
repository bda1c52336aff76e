"""A nydus image that another converter made: is it one, and is it of the image that it was to be made of?

nydusify's are as docs/nydus-image.md of dragonflyoss/nydus has them, and as agent.oci.nydus makes ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.errors import ConvertError
from agent.oci import formats, nydus
from agent.oci.formats import Descriptor, Json

# What a container is started with (image-spec, config.md). What image-spec does not have, such as Docker's Healthcheck,
# no runtime of a node reads, and converters drop it.
_STARTS_WITH = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal")
_RUNS_ON = ("os", "architecture", "variant")


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is of such an image besides its manifest."""

    config: Descriptor
    blobs: tuple[Descriptor, ...]
    bootstrap: Descriptor


def parts_of(manifest: bytes) -> Parts:
    """Raises ConvertError (NNA1403, NNA1431) with everything that is wrong."""
    what = "the manifest that was made"
    body = formats.document_of(manifest, what)
    config, layers = formats.contents_of(body, what)
    wrong = list(_wrong_with(body, layers))
    if wrong:
        raise other(*wrong)
    return Parts(config, layers[:-1], layers[-1])


def _wrong_with(body: Json, layers: tuple[Descriptor, ...]) -> Iterator[str]:
    if body.get("mediaType") != formats.OCI_MANIFEST:
        yield f"its manifest is of the kind {str(body.get('mediaType'))[:100]!r}"
    if not layers:
        yield "it has no layers"
        return
    noted = _notes(body)
    for at, (layer, notes) in enumerate(zip(layers[:-1], noted, strict=False), 1):
        if layer.media_type != formats.NYDUS_BLOB or notes.get(nydus.IS_BLOB) != "true":
            yield f"layer {at} is no nydus blob ({layer.media_type[:100]!r})"
    last = noted[-1]
    if layers[-1].media_type != formats.TAR_GZIP or last.get(nydus.IS_BOOTSTRAP) != "true":
        yield f"its last layer is no bootstrap ({layers[-1].media_type[:100]!r})"
    elif last.get(nydus.FS_VERSION) != "6":
        yield f"its bootstrap is of RAFS version {str(last.get(nydus.FS_VERSION))[:20]!r}, not 6"


def _notes(body: Json) -> list[Mapping[str, object]]:
    """The annotations of each layer."""
    layers = body.get("layers")
    found = [one.get("annotations") for one in layers if isinstance(one, dict)] if isinstance(layers, list) else []
    return [one if isinstance(one, dict) else {} for one in found]


def need_config(config: Json, source: Json, parts: Parts, bootstrap_tar: str) -> None:
    """Its configuration starts the source's container, and names the tars of its layers (`bootstrap_tar`: the digest of
    the last one's). Raises ConvertError (NNA1403, NNA1431)."""
    wrong = [
        f"its configuration has another {key}" for key in _RUNS_ON if (config.get(key) or "") != (source.get(key) or "")
    ]
    ours, theirs = _started(config), _started(source)
    wrong += [
        f"a container of it would start with another {key}"
        for key in _STARTS_WITH
        if (ours.get(key) or None) != (theirs.get(key) or None)
    ]
    ids = formats.diff_ids(config, len(parts.blobs) + 1, "the configuration that was made")
    if ids != (*(blob.digest for blob in parts.blobs), bootstrap_tar):
        wrong.append("its configuration does not name the tars of its layers")
    if wrong:
        raise other(*wrong)


def _started(config: Json) -> Json:
    found = config.get("config")
    return found if isinstance(found, dict) else {}


def other(*wrong: str) -> ConvertError:
    """Something else was made than was asked for."""
    return ConvertError(
        "NNA1431", "the converter made something else than was asked for", cause=wrong[0], seen=wrong[1:]
    )
