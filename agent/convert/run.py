"""A conversion: fetch, build layer by layer, check, compare, push; the name is put in place last, by one request."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from agent.convert.compare import compared
from agent.convert.converter import version_of
from agent.convert.job import Converted, Event, Image, Job, Ports, Sent, Told
from agent.errors import ConvertError
from agent.oci import formats, local, nydus, platforms
from agent.oci.formats import Descriptor, Index, Json, Manifest, Platform
from agent.oci.implied import Directories, Named
from agent.oci.nydus import Blob, Made
from agent.ports_convert import Builder, Built, Compared, Document, LayerFile, Plain, Room, Target, Whole, WholeBuilder

_ROOM_FACTOR = 2
"""Room that is asked for, by the bytes of the source's layers: they and the blobs made of them."""
_WHOLE_ROOM_FACTOR = 6
"""nydusify takes them as an archive, keeps a copy and its own work, and hands an archive back."""
_ITS_FAULT = ("NNA1404", "NNA1424", "NNA1425", "NNA1426", "NNA1427", "NNA1430", "NNA1431")
"""Errors that say that nydusify can make no such image, had no room for it, made none, or made one that is not what it
must be."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image at the source."""

    document: Document
    manifest: Manifest
    settings: bytes
    """Its configuration."""
    config: Json
    """The same, read."""
    diff_ids: tuple[str, ...]
    platform: Platform

    @property
    def bytes(self) -> int:
        """Of its layers."""
        return sum(layer.size for layer in self.manifest.layers)


def convert(job: Job, ports: Ports, told: Told) -> Converted:
    """Convert the image of a job. Raises ConvertError, RegistryError, CredentialError."""
    open_uploads = ports.rooms.left_behind()
    found = look(job, ports)
    with _room(job, ports, max(image.bytes for image in found), told) as (room, nydusify):
        builder, target = ports.builder(room), ports.target(room)
        version = version_of(builder.version())
        for session in open_uploads:
            target.drop(session)
        target.has(formats.digest_of(b""))  # whether we may write there at all, before the work and not after it
        run = _Run(job, ports, target, builder, room, told, nydusify)
        made = [run.image(image) for image in found]
        digest = run.put([each for each, _ in made])
    return Converted(str(job.target), digest, tuple(image for _, image in made), run.sent, version)


@contextmanager
def _room(job: Job, ports: Ports, need: int, told: Told) -> Iterator[tuple[Room, WholeBuilder | None]]:
    """A room for layers of so many bytes, and nydusify where it is to be used. It needs more, but ours may not."""
    with ExitStack() as stack:
        if ports.nydusify is not None:
            try:
                room = stack.enter_context(ports.rooms.room(need * _WHOLE_ROOM_FACTOR))
            except ConvertError as error:
                if not job.fall_back:
                    raise
                told(Event("build", end=True, note=f"not by nydusify: {error}"))
            else:
                yield room, ports.nydusify(room)
                return
        yield stack.enter_context(ports.rooms.room(need * _ROOM_FACTOR)), None


def look(job: Job, ports: Ports) -> tuple[Found, ...]:
    """The images at the source that the job means."""
    document = ports.source.document(job.named, formats.DOCUMENT_CAP)
    parsed = formats.parse(document.content, document.media_type, job.source)
    if isinstance(parsed, Manifest):
        found = _found(job, ports, document, parsed)
        if job.platforms and job.platforms != (found.platform,):
            raise ConvertError(
                "NNA1405", f"{job.source} has no image for {', '.join(map(str, job.platforms))}",
                cause=f"it is one image, for {found.platform}", try_=local.for_all_platforms(job.source),
            )  # fmt: skip
        return (found,)
    wanted = job.platforms or (job.machine,)
    return tuple(_for(job, ports, one, parsed) for one in platforms.chosen(parsed, wanted, job.source))


def _for(job: Job, ports: Ports, descriptor: Descriptor, index: Index) -> Found:
    """An image of an index. Archives may lack what it names: containerd exports one platform's images by default."""
    try:
        return _of_index(job, ports, descriptor)
    except ConvertError as error:
        if error.code != "NNA1401":
            raise
        has = ", ".join(dict.fromkeys(str(one.platform) for one in index.manifests if _is_whole(job, ports, one)))
        raise ConvertError(
            "NNA1405", f"{job.source} has no image for {descriptor.platform}",
            cause=f"its index names one of which not all is there; it has: {has or 'none'}", seen=(error.cause,),
        ) from None  # fmt: skip


def _is_whole(job: Job, ports: Ports, descriptor: Descriptor) -> bool:
    """Whether there is an image of that, as far as it can be told without its layers."""
    try:
        return bool(_of_index(job, ports, descriptor).manifest.layers)
    except ConvertError:
        return False


def _of_index(job: Job, ports: Ports, descriptor: Descriptor) -> Found:
    document = ports.source.document(descriptor.digest, formats.DOCUMENT_CAP)
    parsed = formats.parse(document.content, document.media_type, f"{job.source} for {descriptor.platform}")
    if not isinstance(parsed, Manifest):
        raise ConvertError("NNA1404", f"{job.source} is not converted", cause="an index within an index")
    found = _found(job, ports, document, parsed)
    return found if descriptor.platform is None else replace(found, platform=descriptor.platform)


def _found(job: Job, ports: Ports, document: Document, manifest: Manifest) -> Found:
    content = ports.source.small(manifest.config, formats.DOCUMENT_CAP)
    config = formats.document_of(content, f"the configuration of {job.source}")
    ids = formats.diff_ids(config, len(manifest.layers), job.source)
    return Found(document, manifest, content, config, ids, platforms.of_config(config))


class _Run:
    def __init__(
        self, job: Job, ports: Ports, target: Target, builder: Builder, room: Room, told: Told,
        nydusify: WholeBuilder | None,
    ) -> None:  # fmt: skip
        self._job, self._ports, self._target, self._room, self._told = job, ports, target, room, told
        self._builder, self._reader = builder, ports.reader(room)
        self._nydusify = nydusify
        self._took = defaultdict[str, float](float)
        self._untimed = set[str]()
        self._there = set[str]()
        self.sent = Sent()

    def image(self, found: Found) -> tuple[Made, Image]:
        """Everything of one image but its manifest's place."""
        self._took.clear()
        work = self._work(found)
        whole = work.whole
        self._push_all(found, [*whole.blobs, *whole.kept, whole.packed])
        made = whole.made
        self._target.push_bytes(made.config)
        return made, Image(
            str(found.platform), made.descriptor().digest, found.document.digest, len(work.layers), len(whole.blobs),
            found.bytes, sum(blob.size for blob, _ in (*whole.blobs, whole.packed)), work.unpacked, work.compared,
            work.by, dict(self._took),
        )  # fmt: skip

    def _work(self, found: Found) -> _Work:
        """The image, checked and compared."""
        if self._nydusify is not None:
            self._untimed.clear()
            try:
                return self._compared(found, self._by_nydusify(found, self._nydusify))
            except ConvertError as error:
                if not self._job.fall_back or error.code not in _ITS_FAULT:
                    raise
                self._told(Event("build", str(found.platform), end=True, note=f"not by nydusify: {error}"))
        return self._compared(found, self._by_layers(found))

    def _compared(self, found: Found, work: _Work) -> _Work:
        if not self._job.compare:
            return work
        whole = work.whole
        with self._step("compare", found):
            paths = [path for _, path in whole.blobs]
            result = compared(work.layers, whole.bootstrap, paths, self._reader, frozenset(self._untimed))
        return replace(work, compared=result)

    def _by_layers(self, found: Found) -> _Work:
        """Layer by layer, by our own driver of nydus-image."""
        self._untimed.clear()
        layers, built = self._layers(found)
        with self._step("check", found):
            bootstrap = self._builder.merge(built)
            self._builder.check(bootstrap)
            packed = self._builder.pack(bootstrap)
        blobs = {each.blob.digest: (each.blob, each.blob_path) for each in built if each.blob is not None}
        kept = {
            each.referenced.digest: (each.referenced, layer.path)
            for each, layer in zip(built, layers, strict=True)
            if each.referenced is not None
        }
        made = nydus.image(
            found.config, found.platform, [each.blob for each in built], packed[0],
            {**found.manifest.annotations, nydus.SOURCE_DIGEST: found.document.digest},
            [each.referenced for each in built],
        )  # fmt: skip
        whole = Whole(made, bootstrap, packed, tuple(blobs.values()), tuple(kept.values()))
        return _Work("nydus-image", layers, whole, sum(each.unpacked for each in built))

    def _by_nydusify(self, found: Found, nydusify: WholeBuilder) -> _Work:
        """All of the image at once, after each of its layers was looked at."""
        layers, unpacked, directories = list[LayerFile](), 0, Directories()
        for at in range(len(found.manifest.layers)):
            layers.append(self._fetched(found, at, self._job.max_unpacked - unpacked))
            with self._step("check", found, at + 1):
                named = directories.missing(self._reader.members(layers[-1], content=False))
                unpacked += self._reader.length(replace(layers[-1], end=directories.end))
            self._need_once(directories)
            self._need_files(named)
            self._need_rights(named, "be converted by nydusify", times=self._job.fall_back)
        image = Plain(self._job.source_name, found.document, found.settings, tuple(layers), found.platform)
        with self._step("build", found) as tell:
            whole = nydusify.make(image, self._job.options, lambda note: tell(0, note))
        with self._step("check", found):
            self._builder.check(whole.bootstrap, [path for _, path in whole.blobs])
        return _Work("nydusify", layers, whole, unpacked)

    def put(self, made: Sequence[Made]) -> str:
        """The manifests, and last what the name leads to: its digest."""
        kind, content = formats.OCI_MANIFEST, made[0].manifest
        if len(made) > 1:
            for one in made:
                self._target.put(one.descriptor().digest, formats.OCI_MANIFEST, one.manifest)
            kind, content = formats.OCI_INDEX, nydus.index(made)
        self._target.put(self._job.target.named, kind, content)
        return formats.digest_of(content)

    def _layers(self, found: Found) -> tuple[list[LayerFile], list[Built]]:
        layers, built, directories = list[LayerFile](), list[Built](), Directories()
        left = self._job.max_unpacked
        for at, descriptor in enumerate(found.manifest.layers):
            layer = self._fetched(found, at, left)
            with self._step("build", found, at + 1, descriptor.size) as tell:
                named = directories.missing(self._reader.members(layer, content=False))
                self._need_once(directories)
                if self._job.options.reference:
                    self._need_plain(descriptor, named)
                elif directories.twice and not self._builder.takes_twice():
                    raise ConvertError(
                        "NNA1404", f"{self._job.source} is not converted", try_="another --nydus-image, such as 2.4.4",
                        cause=f"a layer has files in /{directories.twice} and names only what is above it: this "
                        "nydus-image would lose files",
                    )  # fmt: skip
                whole = replace(layer, end=directories.end)
                built.append(self._builder.create(whole, self._job.options, named, tell))
            left -= built[-1].unpacked
            layers.append(layer)
        return layers, built

    def _fetched(self, found: Found, at: int, limit: int) -> LayerFile:
        """A layer of the source on this machine; nobody reads on beyond `limit` bytes of its tar."""
        descriptor = found.manifest.layers[at]
        platform = found.platform
        path = f"{self._room.path}/layer-{platform.architecture}{platform.variant}-{at + 1}"
        if path not in self._there:
            with self._step("fetch", found, at + 1, descriptor.size) as tell:
                self._ports.source.fetch(descriptor, path, tell)
            self._there.add(path)
        return LayerFile(
            path, descriptor.compression, found.diff_ids[at], descriptor.size, limit, descriptor.digest
        )  # fmt: skip

    def _need_plain(self, layer: Descriptor, named: Sequence[Named]) -> None:
        """Raises ConvertError NNA1404 where the data cannot stay in the layer: nothing can be put before its tar."""
        if layer.compression != "gzip":
            what = f"{self._job.source} cannot be referenced"
            raise ConvertError("NNA1404", what, cause="a layer is not compressed with gzip")
        self._need_rights(named, "be referenced")

    def _need_once(self, directories: Directories) -> None:
        """Raises ConvertError NNA1404 where the last layer has a name twice, and nydus-image mixes such up."""
        if directories.again and not self._builder.takes_again():
            raise ConvertError(
                "NNA1404", f"{self._job.source} is not converted", try_="another --nydus-image, such as 2.4.4",
                cause=f"a layer has /{directories.again[:200]} twice: this nydus-image would lose what is in it",
            )  # fmt: skip

    def _need_files(self, named: Sequence[Named]) -> None:
        """Raises ConvertError NNA1404 where nydusify would lose files: it names no directories to its nydus-image."""
        unnamed = next((path for path, _ in named if path), "")
        if unnamed and self._builder.loses_files():
            raise ConvertError(
                "NNA1404", f"{self._job.source} cannot be converted by nydusify",
                cause=f"a layer has files in /{unnamed} without naming it, and this nydus-image loses files there",
                try_="nydus-agent convert --with nydus-image",
            )  # fmt: skip

    def _need_rights(self, named: Sequence[Named], what: str, *, times: bool = False) -> None:
        """Raises ConvertError NNA1404 where a directory that a layer does not name would lose rights, or its time."""
        lost = [
            path
            for path, node in named
            if (times and not node.implied)
            or (node.mode, node.uid, node.gid, bool(node.xattrs)) != (0o755, 0, 0, False)
        ]
        if lost:
            which = "rights or time" if times else "rights"
            cause = f"a layer has files in /{lost[0]} without naming it, and its {which} would be lost"
            raise ConvertError("NNA1404", f"{self._job.source} cannot {what}", cause=cause)
        self._untimed.update(path for path, _ in named)

    def _push_all(self, found: Found, blobs: Sequence[tuple[Blob, str]]) -> None:
        for at, (blob, path) in enumerate(blobs, 1):
            with self._step("push", found, at, blob.size, len(blobs)) as tell:
                self._push(blob, path, tell)

    def _push(self, blob: Blob, path: str, tell: Callable[[int], None]) -> None:
        if self._target.has(blob.digest):
            self.sent = replace(self.sent, there=self.sent.there + 1)
        elif any(self._target.mount(blob.digest, repository) for repository in self._job.mount_from):
            self.sent = replace(self.sent, mounted=self.sent.mounted + 1)
        else:
            self._target.push(blob, path, tell)
            self.sent = replace(self.sent, sent=self.sent.sent + 1, sent_bytes=self.sent.sent_bytes + blob.size)

    @contextmanager
    def _step(self, step: str, found: Found, layer: int = 0, total: int = 0, of: int = 0) -> Iterator[_Tell]:
        layers = of or (len(found.manifest.layers) if layer else 0)
        event = Event(step, str(found.platform), layer, layers, 0, total)
        self._told(event)
        began = time.monotonic()
        yield lambda done, note="": self._told(replace(event, done=done, note=note))
        took = time.monotonic() - began
        self._took[step] += took
        self._told(replace(event, done=total, end=True, note=f"{took:.1f} s"))


@dataclass(frozen=True, slots=True)
class _Work:
    """An image on this machine, and what it was made of."""

    by: str
    layers: Sequence[LayerFile]
    whole: Whole
    unpacked: int
    compared: Compared | None = None


class _Tell(Protocol):
    def __call__(self, done: int, note: str = "") -> None: ...
