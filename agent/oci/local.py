"""Images on this machine, named as skopeo names them (containers-transports(5))."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.errors import ConvertError


class Form(Enum):
    """How an image lies there."""

    LAYOUT = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"


SHAPES = ("oci:DIRECTORY[:NAME]", "oci-archive:FILE[:NAME]", "docker-archive:FILE[:NAME]")


@dataclass(frozen=True, slots=True)
class Local:
    """An image in a directory or a file."""

    form: Form
    path: str
    named: str
    """"" = the only one there."""


def parse(text: str) -> Local | None:
    """None for what names no place on this machine. A path cannot have a colon. Raises ConvertError (NNA1401)."""
    first, colon, rest = text.partition(":")
    form = next((one for one in Form if colon and one.value == first), None)
    if form is None:
        return None
    path, _, named = rest.partition(":")
    if not path:
        raise ConvertError("NNA1401", f"{text!r} names no {'directory' if form is Form.LAYOUT else 'file'}")
    return Local(form, path, named)


def for_all_platforms(text: str) -> str:
    """What to try where an archive of `docker save` has no image for a platform: manifest.json has each image for one,
    and the layout that Docker since 25 and containerd write into the same archive may have more. "" = nothing."""
    form, _, rest = text.partition(":")
    return f"nydus-agent convert oci-archive:{rest} …" if form == Form.DOCKER_ARCHIVE.value else ""
