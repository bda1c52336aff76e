"""References to images as people write them, HOST/REPOSITORY:TAG, and the media types of what they lead
to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.errors import ConvertError
from agent.registry.names import HUB, host_and_rest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)

_LIBRARY = "library/"  # where Docker Hub keeps images of one word
# distribution's grammar (reference/regexp.go): what every registry takes.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry."""

    host: str
    """As in images' names: docker.io, 127.0.0.1:5000."""
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def named(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str, *, tag: str = "latest") -> Reference:
    """A reference; `tag` counts where the text names neither tag nor digest.

    Raises ConvertError (NNA1401).
    """
    rest, _, digest = text.partition("@")
    if "@" in text and not is_digest(digest):
        raise _wrong(text, f"{digest!r} is no sha256 digest")
    host, path = host_and_rest(rest)
    host = host or HUB
    path, colon, given = path.rpartition(":") if ":" in path else (path, "", "")
    if host == HUB and "/" not in path:
        path = _LIBRARY + path
    if not _HOST.fullmatch(host):
        raise _wrong(text, f"{host!r} is no host")
    if not _REPOSITORY.fullmatch(path) or len(path) > _LONGEST:
        raise _wrong(text, f"{path!r} is no repository (lower case letters, digits, and . _ - between them)")
    if colon and not _TAG.fullmatch(given):
        raise _wrong(text, f"{given!r} is no tag")
    return Reference(host, path, given or ("" if digest else tag), digest)


def is_digest(text: str) -> bool:
    """Whether this is a sha256 digest, the only kind that is taken."""
    return _DIGEST.fullmatch(text) is not None


def _wrong(text: str, cause: str) -> ConvertError:
    return ConvertError("NNA1401", f"{text!r} is no reference to an image", cause=cause)
