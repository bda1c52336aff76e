"""What is to be converted, what is told meanwhile, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from agent.oci.formats import Platform
from agent.oci.reference import Reference
from agent.ports_convert import Builder, BuildOptions, Compared, Reader, Room, Rooms, Source, Target, WholeBuilder

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """One conversion."""

    source: str
    """As it was given."""
    source_name: str
    """The same as an image's name in full, which a layout on the disk has not."""
    named: str
    """The tag or digest at the source."""
    target: Reference
    platforms: tuple[Platform, ...]
    """Empty: whatever the source is, or of an index the image for this machine."""
    machine: Platform
    options: BuildOptions
    max_unpacked: int
    """Bytes of all tars of one image."""
    mount_from: tuple[str, ...]
    """Repositories of the target's registry that may have the blobs already."""
    compare: bool
    fall_back: bool = False
    """Where nydusify fails, or its result differs, do it ourselves."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What a conversion may touch."""

    source: Source
    target: Callable[[Room], Target]
    builder: Callable[[Room], Builder]
    reader: Callable[[Room], Reader]
    rooms: Rooms
    nydusify: Callable[[Room], WholeBuilder] | None = None
    """What makes the images first; what it makes the builder checks all the same."""


@dataclass(frozen=True, slots=True)
class Event:
    """What is done just now. `done` of `total` are bytes; a step ends with an event of which `end` is true."""

    step: str
    platform: str = ""
    layer: int = 0
    layers: int = 0
    done: int = 0
    total: int = 0
    end: bool = False
    note: str = ""


Told: TypeAlias = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the blobs: how many were sent, taken from another repository, or there already."""

    sent: int = 0
    sent_bytes: int = 0
    mounted: int = 0
    there: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """One converted image."""

    platform: str
    digest: str
    source_digest: str
    layers: int
    blobs: int
    source_bytes: int
    """Of the source's layers, as they are in the registry."""
    bytes: int
    """Of the blobs and the bootstrap."""
    unpacked: int
    compared: Compared | None
    by: str
    """The converter: nydus-image (driven by us) or nydusify."""
    took: Mapping[str, float] = field(default_factory=dict)
    """Seconds by step."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of a job."""

    target: str
    digest: str
    images: tuple[Image, ...]
    sent: Sent
    nydus_image: str
    """The version of the one that made it; "" where it does not know."""
