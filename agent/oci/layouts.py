"""What index.json of an OCI layout names, as the programs that make layouts write it (image-spec, image-layout.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import ConvertError
from agent.oci import formats, reference
from agent.oci.docker import LONGEST_LIST, LONGEST_NAME
from agent.oci.formats import Json, Platform
from agent.oci.reference import is_digest

INDEX = "index.json"
WHOLE_NAME = "io.containerd.image.name"
"""Where containerd, BuildKit and Docker note it: of "app:1" the first annotation has "1" alone."""
_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest or an index that is named there."""

    digest: str
    """Whatever is written there as such."""
    names: tuple[str, ...]
    """What it is called, as far as that can be told on a terminal; the last one says the most."""
    platform: Platform | None
    body: Json


def entries(index: Json) -> tuple[Entry, ...]:
    """What is named in an index.json, each at its place. What is none has no digest and no name."""
    found = index.get("manifests")
    return tuple(map(_entry, found)) if isinstance(found, list) else ()


def _entry(found: object) -> Entry:
    body: Json = found if isinstance(found, dict) else {}
    said = body.get("platform")
    platform = formats.platform_of(said) if isinstance(said, dict) else None
    return Entry(str(body.get("digest")), _names(body), platform, body)


def chosen(found: Sequence[Entry], named: str, what: str) -> tuple[Entry, ...]:
    """The image of this name; "@N" is the one at place N, as skopeo has it, "" the only one there. One image may have
    several names, an entry for each, and several entries may be one image, for as many platforms: then all of them.
    Raises ConvertError (NNA1401) with the names that there are.
    """
    match = [one for at, one in enumerate(found) if not named or named == f"@{at}" or _called(one, named)]
    if all(is_digest(one.digest) for one in match):
        if len({one.digest for one in match}) == 1:
            return tuple(match[:1])
        if match and _are_one(match):
            return tuple(match)
    names = ", ".join(" = ".join((f"@{at}", *one.names[-1:])) for at, one in enumerate(found))[:LONGEST_LIST]
    wanted = f"one image called {named!r}" if named else "one image alone"
    raise ConvertError("NNA1401", f"{what} does not hold {wanted}", cause=f"it has: {names or 'nothing'}")


def _are_one(found: Sequence[Entry]) -> bool:
    """Whether they have the same names and each is for another platform."""
    platforms = [one.platform for one in found]
    return len({one.names for one in found}) == 1 and None not in platforms and len(set(platforms)) == len(platforms)


def manifest_list(found: Sequence[Entry], what: str) -> bytes:
    """The index that such an image does not have. Raises ConvertError (NNA1403)."""
    listed = [formats.descriptor(one.body, f"the entry of {one.digest}", what).plain() for one in found]
    return formats.encoded({"schemaVersion": 2, "mediaType": formats.OCI_INDEX, "manifests": listed})


def _called(entry: Entry, named: str) -> bool:
    """app:1 is docker.io/library/app:1."""
    return named in entry.names or reference.whole(named) in map(reference.whole, entry.names)


def _names(entry: Json) -> tuple[str, ...]:
    noted = entry.get("annotations")
    found = (noted.get(_NAME), noted.get(WHOLE_NAME)) if isinstance(noted, dict) else ()
    return tuple(name for name in found if isinstance(name, str) and name and _is_told(name))


def _is_told(name: str) -> bool:
    return len(name) <= LONGEST_NAME and name.isprintable()
