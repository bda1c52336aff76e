"""Layouts and archives of exactly the shapes that other programs were seen to write, each with program and version."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConvertError
from agent.oci import formats, platforms
from agent.ports_convert import Source
from tests.contract.image_archives import config_of, files_of, saved, tarred
from tests.contract.test_convert_archives import refusal, source
from tests.contract.test_convert_verb import NYDUSIFY, Place, tar
from tests.fakes import tars
from tests.fakes.oci_registry import serving

ONE, TWO = tar("DATA-1"), tar("DATA-2")
AMD64, ARM64 = {"architecture": "amd64", "os": "linux"}, {"architecture": "arm64", "os": "linux"}


class Shape:
    """A layout whose index.json has what a test wants."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.entries = directory, list[dict[str, Any]]()
        (directory / "blobs/sha256").mkdir(parents=True)

    def blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = formats.digest_of(content)
        (self.directory / "blobs/sha256" / digest[7:]).write_bytes(content)
        return {"mediaType": media_type, "size": len(content), "digest": digest}

    def image(self, layer: bytes) -> dict[str, Any]:
        """The descriptor of an image with this layer."""
        config = self.blob(config_of(layer), formats.OCI_CONFIG)
        layers = [self.blob(gzip.compress(layer, mtime=0), formats.TAR_GZIP)]
        body = {"schemaVersion": 2, "mediaType": formats.OCI_MANIFEST, "config": config, "layers": layers}
        return self.blob(json.dumps(body).encode(), formats.OCI_MANIFEST)

    def done(self, *entries: dict[str, Any]) -> Path:
        body = {"schemaVersion": 2, "mediaType": formats.OCI_INDEX, "manifests": entries}
        (self.directory / "index.json").write_text(json.dumps(body))
        return self.directory

    def index(self, *entries: dict[str, Any]) -> dict[str, Any]:
        """The descriptor of an index of these."""
        body = {"schemaVersion": 2, "mediaType": formats.OCI_INDEX, "manifests": entries}
        return self.blob(json.dumps(body).encode(), formats.OCI_INDEX)

    def forget(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        (self.directory / "blobs/sha256" / descriptor["digest"][7:]).unlink()
        return descriptor


@pytest.fixture
def shape(tmp_path: Path) -> Shape:
    return Shape(tmp_path / "layout")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with serving() as registry:
        yield Place(tmp_path, registry)


def taken(form: str, path: Path, named: str = "", wanted: str = "amd64") -> list[bytes]:
    """The uppermost layers, as tars, of the images that a conversion of these platforms takes."""
    opened, name = source(form, path, named)
    document = opened.document(name, formats.DOCUMENT_CAP)
    parsed = formats.parse(document.content, document.media_type, "it")
    images = [parsed] if isinstance(parsed, formats.Manifest) else []
    if isinstance(parsed, formats.Index):
        for one in platforms.chosen(parsed, platforms.parse(wanted), "it"):
            document = opened.document(one.digest, formats.DOCUMENT_CAP)
            image = formats.parse(document.content, document.media_type, "it")
            assert isinstance(image, formats.Manifest)
            images.append(image)
    return [_layer(opened, image.layers[-1], path) for image in images]


def _layer(opened: Source, layer: formats.Descriptor, path: Path) -> bytes:
    file = path.with_name("fetched")
    file.unlink(missing_ok=True)
    opened.fetch(layer, str(file), lambda _: None)
    content = file.read_bytes()
    return gzip.decompress(content) if layer.compression == "gzip" else content


def test_a_layout_that_names_one_image_for_each_platform_by_itself_is_that_image(shape: Shape) -> None:
    """crane 0.22.1: `crane pull --format=oci --platform P IMAGE DIRECTORY`, once for each platform."""
    path = shape.done({**shape.image(TWO), "platform": ARM64}, {**shape.image(ONE), "platform": AMD64})
    assert taken("oci", path) == [ONE]
    assert taken("oci", path, wanted="amd64,arm64") == [ONE, TWO]
    with pytest.raises(ConvertError, match="it has: linux/arm64, linux/amd64"):
        taken("oci", path, wanted="s390x")


def test_images_of_a_layout_that_have_no_name_are_told_and_taken_by_their_places(shape: Shape) -> None:
    """crane 0.22.1: `crane pull --format=oci IMAGE… DIRECTORY` without --annotate-ref."""
    path = shape.done(shape.image(ONE), shape.image(TWO))
    assert refusal("oci", path).cause == "it has: @0, @1"
    assert taken("oci", path, "@1") == [TWO]
    assert "called '@2'" in refusal("oci", path, "@2").what


@pytest.mark.parametrize(
    "others",
    [
        ({"platform": AMD64}, {"platform": AMD64}),
        ({"platform": AMD64}, {}),
        ({"platform": AMD64}, {"platform": ARM64, "annotations": {"org.opencontainers.image.ref.name": "b"}}),
    ],
)
def test_two_images_are_not_taken_for_one_of_two_platforms(shape: Shape, others: Sequence[dict[str, Any]]) -> None:
    path = shape.done({**shape.image(ONE), **others[0]}, {**shape.image(TWO), **others[1]})
    assert "does not hold one image alone" in refusal("oci", path).what


def test_an_image_for_several_platforms_is_taken_by_the_name_that_all_its_entries_have(shape: Shape) -> None:
    """crane 0.22.1: as above, with --annotate-ref."""
    named = {"annotations": {"org.opencontainers.image.ref.name": "reg.example/team/app:1"}}
    other = {"annotations": {"org.opencontainers.image.ref.name": "reg.example/team/other:1"}}
    path = shape.done(
        {**shape.image(ONE), "platform": AMD64, **named},
        {**shape.image(TWO), "platform": ARM64, **named},
        {**shape.image(tar("DATA-3")), "platform": AMD64, **other},
    )
    assert taken("oci", path, "reg.example/team/app:1", "arm64,amd64") == [TWO, ONE]
    assert "does not hold one image alone" in refusal("oci", path).what


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_an_archive_that_lacks_what_its_index_names_is_told_with_what_it_has(
    shape: Shape, place: Place, tmp_path: Path, form: str
) -> None:
    """containerd 1.7.24 (`ctr images export` without --all-platforms), Docker 26.1 with its images (`docker save` of
    an image of which not all platforms were pulled), with the attestations of BuildKit 0.13."""
    unknown = {"architecture": "unknown", "os": "unknown"}
    entries = [
        {**shape.image(ONE), "platform": AMD64},
        shape.forget({**shape.image(TWO), "platform": ARM64}),
        shape.forget({**shape.image(tar("DATA-3")), "platform": unknown}),
    ]
    path = shape.done(shape.index(*entries))
    if form == "oci-archive":
        path = tmp_path / "it.tar"
        path.write_bytes(tarred(files_of(shape.directory)))
    told = place.run(f"{form}:{path}", "--platform", "arm64")
    assert told.code == 1
    assert "NNA1405" in told.err
    assert "no image for linux/arm64" in told.err
    assert "its index names one of which not all is there; it has: linux/amd64\n" in told.err
    assert place.run(f"{form}:{path}", "--platform", "amd64").code == 0


def test_an_archive_of_docker_is_named_as_a_layout_where_that_may_have_the_platform(
    place: Place, tmp_path: Path
) -> None:
    """Docker 26.1 with containerd's images: manifest.json has one platform of each, index.json all."""
    path = tmp_path / "it.tar"
    path.write_bytes(tarred(saved({"app:1": (ONE,)})))
    told = place.run(f"docker-archive:{path}:app:1", "--platform", "arm64")
    assert (told.code, f"nydus-agent convert oci-archive:{path}:app:1" in told.err) == (1, True), told.err
    told = place.run(place.image(ONE), "--platform", "s390x")
    assert (told.code, "oci-archive" in told.err) == (1, False), told.err


BEHIND = TWO + tars.archive(tars.member("stargz.index.json", b"FAIL"))
"""A file behind the end of a tar, as BuildKit 0.13 has an eStargz layer's index (`compression=estargz`)."""


def test_what_is_behind_the_end_of_a_layer_does_not_come_into_the_image(place: Place) -> None:
    """nydus-image reads on there. The stand-in does as it is told by the content: it would fail."""
    told = place.run(place.image(ONE, BEHIND))
    assert told.code == 0, told.err
    assert place.run(place.image(ONE, TWO)).code == 0


@pytest.mark.parametrize("options", [("--reference",), ("--with", "nydusify", "--nydusify", NYDUSIFY)])
def test_a_converter_that_gets_whole_layers_gets_none_with_something_behind_its_end(
    place: Place, options: tuple[str, ...]
) -> None:
    told = place.run(place.image(ONE, BEHIND), *options)
    assert (told.code, "NNA1404" in told.err, "behind the end of its tar" in told.err) == (1, True, True), told.err


def test_nydusify_leaves_such_a_layer_to_our_own_driver(place: Place) -> None:
    told = place.run(place.image(ONE, BEHIND), "--nydusify", NYDUSIFY)
    assert (told.code, "not by nydusify" in told.err, "by nydus-image" in told.out) == (0, True, True), told.err


def test_a_layer_that_breaks_off_in_what_is_no_header_is_refused_and_not_cut_there(place: Place) -> None:
    for rest in (b"x" * 512 + TWO, b"x" * 100):
        told = place.run(place.image(ONE, tars.member("a", b"DATA-2") + rest))
        assert (told.code, "NNA1406" in told.err, "there is none" in told.err) == (1, True, True), told.err


def test_a_layer_without_the_zeros_behind_its_last_file_is_whole_and_one_that_lacks_content_is_not(
    place: Place,
) -> None:
    """umoci 0.4.7: `umoci insert` of a file."""
    file = tars.member("a", b"DATA-2")
    told = place.run(place.image(ONE, file[: 512 + 6]))
    assert told.code == 0, told.err
    told = place.run(place.image(ONE, file[: 512 + 5]))
    assert (told.code, "NNA1406" in told.err, "unexpected end of data" in told.err) == (1, True, True), told.err
