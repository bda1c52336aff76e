"""A conversion from top to bottom: fetch, read and build layer by layer, check, compare, push.

The name of the target is put in place last, by skopeo, in one request. Whatever fails before leaves it as it
was.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.errors import ConvertError
from agent.images import manifest
from agent.images.compare import Compared, compare
from agent.images.layer import FileTree, LayerFile, is_gzip, read_layer
from agent.images.manifest import Descriptor, ImageName, Layout, Platform, SourceImage
from agent.images.nydus_image import BuildOptions, Nydusify, NydusImage
from agent.images.skopeo import RegistryAccess, Skopeo, Tell

_PREFIX = "nydus-agent-convert-"


@dataclass(frozen=True, slots=True)
class ConvertJob:
    """One conversion, and the programs that it runs (names in PATH, or paths)."""

    source: ImageName
    target: ImageName
    source_access: RegistryAccess
    target_access: RegistryAccess
    platforms: tuple[Platform | None, ...]
    """Several make an index. None: that of this machine, or what an image that is none of an index is for."""
    options: BuildOptions
    max_unpacked: int
    """Bytes of all tars of one image."""
    compare: bool
    work_dir: Path
    skopeo: Callable[[Path], Skopeo]
    nydus_image: str
    nydusd: str
    nydusify: str
    """Empty where it is not asked for."""


@dataclass(frozen=True, slots=True)
class ConvertEvent:
    """What is done just now. `done` of `total` are bytes; a step ends with an event of which `end` is
    true.
    """

    step: str
    platform: str = ""
    layer: int = 0
    layers: int = 0
    done: int = 0
    total: int = 0
    end: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class ConvertedImage:
    """One converted image, as docs/schema/ConvertResult.json has it."""

    platform: str
    converter: str
    digest: str
    source_digest: str
    layers: int
    blobs: int
    source_bytes: int
    bytes: int
    unpacked_bytes: int
    compared: Compared | None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of a job."""

    target: str
    digest: str
    images: tuple[ConvertedImage, ...]
    nydus_image: str
    """The version of the one that made it; empty where it does not know."""


def convert(job: ConvertJob, told: Callable[[ConvertEvent], None]) -> Converted:
    """Convert an image. Raises ConvertError."""
    with workspace(job.work_dir) as room:
        skopeo, layout = job.skopeo(room), Layout(room / "target")
        builder = NydusImage(job.nydus_image, room, layout, job.options)
        version, made = builder.version(), list[tuple[Descriptor, Platform, ConvertedImage]]()
        for platform in job.platforms:
            (room / "image").mkdir(mode=0o700)
            made.append(_Conversion(job, told, skopeo, builder, layout, room / "image", platform).run())
            shutil.rmtree(room / "image")
        digest = layout.finish([(described, platform) for described, platform, _ in made])
        images = tuple(image for _, _, image in made)
        event = ConvertEvent("push", total=sum(image.bytes for image in images))
        with _step(told, event, defaultdict(float)) as tell:
            skopeo.push(layout.skopeo, job.target, job.target_access, tell)
    return Converted(job.target.text, digest, images, version)


@contextlib.contextmanager
def workspace(parent: Path) -> Iterator[Path]:
    """A directory of this run alone (0700), gone at its end. What a run leaves that is killed,
    systemd-tmpfiles removes in time. Raises ConvertError (NNA1401) where the disk does not let us work."""
    try:
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True) as path:
            yield Path(path)
    except OSError as error:
        # A reader of ours that has gone is no fault of the disk.
        if isinstance(error, BrokenPipeError) or (error.filename is None and error.errno is None):
            raise
        raise ConvertError(
            "NNA1401", f"cannot work in {parent}", cause=error.strerror or str(error)
        ) from None


class _Conversion:
    """The conversion of the image for one platform."""

    def __init__(
        self, job: ConvertJob, told: Callable[[ConvertEvent], None], skopeo: Skopeo, builder: NydusImage,
        layout: Layout, room: Path, wanted: Platform | None,
    ) -> None:  # fmt: skip
        self._job, self._told, self._skopeo, self._builder, self._layout = job, told, skopeo, builder, layout
        self._room, self._source, self._wanted = room, room / "source", wanted
        self._tree, self._seconds = FileTree(), defaultdict[str, float](float)
        self._shown = "" if wanted is None else str(wanted)

    def run(self) -> tuple[Descriptor, Platform, ConvertedImage]:
        """The manifest, the platform, and what is told of it."""
        source, layers, compared = self._fetch(), list[LayerFile](), None
        blobs, bootstrap = (self._by_nydusify if self._job.nydusify else self._by_layers)(source, layers)
        with self._step("check"):
            packed, diff_id = self._builder.pack(bootstrap)
        if self._job.compare:
            with self._step("compare"):
                compared = compare(
                    self._tree, self._job.nydusd, bootstrap, self._layout.blobs, self._room / "mounted"
                )
        config = manifest.nydus_config(source.config, blobs, diff_id)
        described = self._layout.add_image(source, config, blobs, packed)
        kept = {layer.digest for layer in source.layers}  # with --reference they are blobs too
        ours = [blob for blob in (*blobs, packed) if blob.digest not in kept]
        seconds = {step: round(took, 3) for step, took in self._seconds.items()}
        return described, source.platform, ConvertedImage(
            self._shown, "nydusify" if self._job.nydusify else "nydus-image", described.digest, source.digest,
            len(layers), len(ours) - 1, sum(layer.size for layer in source.layers),
            sum(blob.size for blob in ours),
            sum(layer.tar.length for layer in layers), compared, seconds,
        )  # fmt: skip

    def _fetch(self) -> SourceImage:
        name, wanted = self._job.source.text, self._wanted
        with self._step("fetch") as tell:
            self._skopeo.fetch(self._job.source, self._job.source_access, wanted, self._source, tell)
        source = manifest.read_image(self._source, name)
        if wanted is not None and not source.platform.serves(wanted):
            cause = f"it is one image, for {source.platform}"
            raise ConvertError("NNA1403", f"{name} has no image for {wanted}", cause=cause)
        if wanted is not None and wanted.variant:  # many images do not say theirs
            source = replace(source, platform=wanted)
        self._shown = str(source.platform)
        return source

    def _read_layers(self, source: SourceImage) -> Iterator[tuple[int, LayerFile]]:
        """Each layer, read once. Nobody reads on where all tars together are too long."""
        left, plain = self._job.max_unpacked, bool(self._job.options.reference or self._job.nydusify)
        for at, (one, diff_id) in enumerate(zip(source.layers, source.diff_ids, strict=True), 1):
            with self._step("check", at, len(source.layers)):
                path, content = self._source / one.name, self._job.compare
                layer = read_layer(path, one, diff_id, self._tree, limit=left, content=content)
                if plain:
                    _need_plain(layer, self._tree, gzip=self._job.options.reference)
            left -= layer.tar.length
            yield at, layer

    def _by_layers(self, source: SourceImage, layers: list[LayerFile]) -> tuple[Sequence[Descriptor], Path]:
        built = []
        for at, layer in self._read_layers(source):
            layers.append(layer)
            with self._step("build", at, len(source.layers), layer.tar.length) as tell:
                built.append(self._builder.build(layer, tell))
        with self._step("check"):
            bootstrap = self._builder.merge(built)
        # Two layers may have made one blob.
        blobs = {blob.digest: blob for layer in built for blob in layer.blobs}
        return tuple(blobs.values()), bootstrap

    def _by_nydusify(self, source: SourceImage, layers: list[LayerFile]) -> tuple[Sequence[Descriptor], Path]:
        """All of the image at once, after each of its layers was looked at."""
        layers += (layer for _, layer in self._read_layers(source))
        size = sum(layer.size for layer in source.layers)
        nydusify = Nydusify(self._job.nydusify, self._job.nydus_image, self._room / "nydusify", self._skopeo)
        with self._step("build") as tell:
            blobs, bootstrap = nydusify.make(self._source, size, self._job.options, self._layout, tell)
        with self._step("check"):
            self._builder.check(bootstrap, self._layout.blobs)
        return blobs, bootstrap

    @contextlib.contextmanager
    def _step(self, step: str, layer: int = 0, layers: int = 0, total: int = 0) -> Iterator[Tell]:
        event = ConvertEvent(step, self._shown, layer, layers, total=total)
        with _step(self._told, event, self._seconds) as tell:
            yield tell


@contextlib.contextmanager
def _step(
    told: Callable[[ConvertEvent], None], event: ConvertEvent, seconds: defaultdict[str, float]
) -> Iterator[Tell]:
    """Tell of a step, and add its time to the others of its name."""
    told(event)
    began = time.monotonic()
    yield lambda done, note="": told(replace(event, done=done, note=note))
    took = time.monotonic() - began
    seconds[event.step] += took
    told(replace(event, done=event.total, end=True, note=f"{took:.1f} s"))


def _need_plain(layer: LayerFile, tree: FileTree, *, gzip: bool) -> None:
    """Raises ConvertError (NNA1403) where a converter that gets the layer itself would lose something:
    nothing can be put before what is in a directory, and nothing left out behind the end of the tar."""
    causes = ["it is not compressed with gzip"] if gzip and not is_gzip(layer.path) else []
    if layer.tar.behind:
        causes.append("behind the end of its tar there is something, which nydus-image would take for files")
    for missing in layer.missing:
        plain = (missing.node.mode, missing.node.uid, missing.node.gid, bool(missing.node.xattrs))
        if missing.path or plain != (0o755, 0, 0, False):
            causes.append(
                f"it has files in /{missing.path[:200]} without naming it, and would lose them or its rights"
            )
    if causes:
        raise ConvertError(
            "NNA1403", "a layer is not converted in this way", cause=causes[0], seen=tuple(causes[1:6]),
            try_="nydus-agent convert SRC DST (without --reference, and without --with nydusify)",
        )  # fmt: skip
    if layer.missing:  # the root, which keeps all but its time
        tree.nodes[""] = replace(tree.nodes[""], mtime=0)
