"""The ports of `convert`: where images come from and go to, the converter, and a directory for the time of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from agent.oci.formats import Descriptor, Platform
from agent.oci.implied import Named
from agent.oci.nydus import Blob, Made
from agent.oci.tree import Member

Tell: TypeAlias = Callable[[int], None]
"""Hears how many bytes of a thing are done."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index as it came; its digest was computed from the bytes."""

    content: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How blobs are made."""

    compressor: str
    chunk_size: int
    """Bytes; a power of two."""
    reference: bool = False
    """The data stays in the source's layers: what is made only says where in them it is (targz-ref, "zran")."""


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer of the source on this machine; its digest is right, its tar's was not computed yet."""

    path: str
    compression: str
    diff_id: str
    size: int
    limit: int
    """Bytes of its tar at most: nobody reads on beyond them."""
    digest: str = ""
    """Of the file."""
    end: int | None = None
    """Where in its tar the last entry ends, once it was read: nobody but nydus-image reads what is behind."""


@dataclass(frozen=True, slots=True)
class Built:
    """What became of a layer."""

    bootstrap: str
    """Path of this layer's metadata."""
    blob: Blob | None
    """None: the layer brings no data."""
    blob_path: str
    unpacked: int
    """Bytes of its tar."""
    referenced: Blob | None = None
    """The source's layer, where the data stays in it."""


@dataclass(frozen=True, slots=True)
class Plain:
    """An image of the source on this machine, all of it looked at."""

    name: str
    """As an image's name, for what notes where it came from."""
    document: Document
    """Its manifest."""
    config: bytes
    layers: tuple[LayerFile, ...]
    platform: Platform


@dataclass(frozen=True, slots=True)
class Whole:
    """A nydus image on this machine, before anybody has checked or sent it."""

    made: Made
    bootstrap: str
    """Path of its metadata."""
    packed: tuple[Blob, str]
    """The metadata as a registry keeps them, and their path."""
    blobs: tuple[tuple[Blob, str], ...]
    """What was made of the data, each once, and its path."""
    kept: tuple[tuple[Blob, str], ...] = ()
    """Layers of the source that the data stays in."""


class Source(Protocol):
    """Where an image is read from."""

    def document(self, named: str, cap: int) -> Document:
        """A manifest or an index by tag or digest. Raises RegistryError (NNA1411 to NNA1414)."""

    def small(self, blob: Descriptor, cap: int) -> bytes:
        """A small blob (a configuration), its digest and size as the descriptor says. Raises RegistryError."""

    def fetch(self, blob: Descriptor, path: str, tell: Tell) -> None:
        """A blob into a new file, its digest and size as the descriptor says. Raises RegistryError, ConvertError."""


class Target(Protocol):
    """A repository that an image is put into."""

    def has(self, digest: str) -> bool:
        """Whether the blob is there. Raises RegistryError."""

    def mount(self, digest: str, repository: str) -> bool:
        """Take a blob from another repository of the registry, without sending it; False: it has to be sent, because it
        is not there, or we may not read it there. Raises RegistryError."""

    def push(self, blob: Blob, path: str, tell: Tell) -> None:
        """Send a blob in pieces; what breaks off goes on where the registry says that it is. Raises RegistryError."""

    def push_bytes(self, content: bytes) -> None:
        """Send a small blob."""

    def put(self, named: str, media_type: str, content: bytes) -> None:
        """Put a manifest or an index in its place, and see that it is what the registry has then."""

    def drop(self, session: str) -> None:
        """End an upload of a run that was killed; one that is gone is none."""


class Builder(Protocol):
    """The converter."""

    def version(self) -> str:
        """What it says to --version. Raises ConvertError (NNA1429) where it cannot be run."""

    def takes_twice(self) -> bool:
        """Whether a directory keeps what it has where a tar names it twice. Raises ConvertError (NNA1423)."""

    def takes_again(self) -> bool:
        """Whether it takes a tar that has names twice, the later ones. Raises ConvertError (NNA1423)."""

    def loses_files(self) -> bool:
        """Whether a directory that a tar does not name loses its first file. Raises ConvertError (NNA1423)."""

    def create(self, layer: LayerFile, options: BuildOptions, named: Sequence[Named], tell: Tell) -> Built:
        """One layer, with these directories before all that it has. Raises ConvertError: NNA1421 the tar is longer than
        it may be, NNA1422 its digest is another, NNA1423 it cannot be read or converted."""

    def merge(self, layers: Sequence[Built]) -> str:
        """Path of the bootstrap of an image of these layers, the lowest first. Raises ConvertError: NNA1424, NNA1429
        what was made is of a form that is not known here."""

    def check(self, bootstrap: str, blobs: Sequence[str] = ()) -> None:
        """Let the converter validate its work, or another's; with the paths of the blobs where these hold metadata too,
        and then it looks for each that it needs. Raises ConvertError (NNA1424)."""

    def pack(self, bootstrap: str) -> tuple[Blob, str]:
        """The bootstrap as the layer that a registry keeps, and its path."""


class WholeBuilder(Protocol):
    """A converter that takes an image and makes an image."""

    def make(self, image: Plain, options: BuildOptions, tell: Callable[[str], None]) -> Whole:
        """`tell` hears what it does just now. Raises ConvertError: NNA1426 there is no place for it, NNA1430 it
        failed, NNA1431 it made something else than was asked for."""


class Reader(Protocol):
    """What layers hold, and what a mount of the image shows."""

    def members(self, layer: LayerFile, *, content: bool = True) -> Iterator[Member]:
        """The entries of a layer's tar, with the digests of their contents or without. Nothing is extracted. Raises
        ConvertError: NNA1406, NNA1421 and NNA1423 as above."""

    def length(self, layer: LayerFile) -> int:
        """Bytes of a layer's tar, which is what the image says. Raises ConvertError: NNA1404 there is something behind
        its end, NNA1421, NNA1422, NNA1423."""

    def mounted(self, bootstrap: str, blobs: Sequence[str]) -> Iterator[Member]:
        """Every file of the image as nydusd serves it; `blobs` are their paths. Raises ConvertError NNA1425."""


class Room(Protocol):
    """A directory of this run alone (0700), gone at its end."""

    path: str

    def note(self, session: str) -> None:
        """Remember an open upload for the run that finds this one killed; "" = none is open."""


class Rooms(Protocol):
    """Makes rooms, and clears those of runs that were killed."""

    def room(self, need: int) -> AbstractContextManager[Room]:
        """Raises ConvertError (NNA1426) where there is no place of `need` bytes or more."""

    def left_behind(self) -> tuple[str, ...]:
        """Clear what killed runs left; the uploads that they had open."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How much was compared, and did not differ."""

    files: int
    bytes: int
