"""Images in archives: read in place, whatever made them, and nothing of a hostile one comes anywhere."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters import layer_files, tar_index
from agent.adapters.image_archive import local_source
from agent.adapters.tar_index import TarIndex
from agent.errors import ConvertError
from agent.oci import formats, local
from agent.ports_convert import LayerFile, Source
from tests.contract.image_archives import Entry, config_of, files_of, saved, tarred
from tests.contract.test_convert_verb import Place, tar
from tests.fakes import tars
from tests.fakes.oci_registry import serving
from tests.node.layout import Layout

ONE, TWO = tar("DATA-1"), tar("DATA-2")


def source(form: str, path: Path, named: str = "") -> tuple[Source, str]:
    found = local.parse(f"{form}:{path}{named and ':' + named}")
    assert found is not None
    return local_source(found), found.named


def manifest(form: str, path: Path, named: str = "") -> formats.Manifest:
    opened, name = source(form, path, named)
    document = opened.document(name, formats.DOCUMENT_CAP)
    parsed = formats.parse(document.content, document.media_type, "it")
    assert isinstance(parsed, formats.Manifest)
    for at, layer in enumerate(parsed.layers):
        opened.fetch(layer, f"{path}.{named.replace('/', '-')}.{at}", lambda _: None)
    assert formats.digest_of(opened.small(parsed.config, formats.DOCUMENT_CAP)) == parsed.config.digest
    return parsed


def fetched(path: Path, named: str = "") -> list[bytes]:
    """The layers that `manifest` fetched."""
    files = sorted(path.parent.glob(f"{path.name}.{named.replace('/', '-')}.[0-9]"))
    return [file.read_bytes() for file in files]


def archive(directory: Path, content: bytes) -> Path:
    path = directory / "it.tar"
    path.write_bytes(content)
    return path


def refusal(form: str, path: Path, named: str = "") -> ConvertError:
    with pytest.raises(ConvertError) as raised:
        manifest(form, path, named)
    return raised.value


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with serving() as registry:
        yield Place(tmp_path, registry)


def test_an_image_in_an_archive_is_converted_as_one_in_a_directory_is(place: Place, tmp_path: Path) -> None:
    layout = place.image(ONE, TWO).removeprefix("oci:")
    assert place.run(f"oci:{layout}").code == 0
    from_directory = place.manifest
    told = place.run(f"oci-archive:{archive(tmp_path, tarred(files_of(Path(layout))))}")
    assert (told.code, place.manifest) == (0, from_directory), told.err
    told = place.run(f"docker-archive:{archive(tmp_path, tarred(saved({'app:1': (ONE, TWO)})))}:app:1")
    assert (told.code, place.manifest["layers"][:2]) == (0, from_directory["layers"][:2]), told.err


@pytest.mark.parametrize("links", [True, False])
def test_layers_that_are_links_to_others_of_the_archive_are_found(tmp_path: Path, links: bool) -> None:
    path = archive(tmp_path, tarred(saved({"below:1": (ONE,), "above:1": (ONE, TWO)}, links=links)))
    made = manifest("docker-archive", path, "above:1")
    assert [layer.digest for layer in made.layers] == [formats.digest_of(ONE), formats.digest_of(TWO)]
    assert fetched(path, "above:1") == [ONE, TWO]


def test_of_several_images_the_one_that_is_named_is_taken_and_without_a_name_all_are_told(tmp_path: Path) -> None:
    path = archive(tmp_path, tarred(saved({"docker.io/library/app:latest": (ONE,), "": (TWO,)})))
    for name, layer in (("app", ONE), ("docker.io/library/app:latest", ONE), ("@1", TWO)):
        assert [one.digest for one in manifest("docker-archive", path, name).layers] == [formats.digest_of(layer)]
    for name in ("", "other:1", "@2"):
        told = refusal("docker-archive", path, name)
        assert (told.code, "@0 = docker.io/library/app:latest, @1" in told.cause) == ("NNA1401", True)


def modern(directory: Path) -> list[Entry]:
    """What Docker writes since 25.0 where containerd keeps its images: a layout with layers as they came, two names for
    one image, and a manifest.json beside."""
    made = Layout(directory)
    layer = made.add_bytes(gzip.compress(ONE, mtime=0), formats.TAR_GZIP)
    made.add_image("1", [layer], [formats.digest_of(ONE)], ["/x"])
    index = json.loads((directory / "index.json").read_text())
    entry = index["manifests"][0]
    both = [
        {**entry, "annotations": {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name}}
        for tag, name in (("1", "docker.io/library/app:1"), ("2", "docker.io/library/app:2"))
    ]
    (directory / "index.json").write_text(json.dumps({**index, "manifests": both}))
    config = json.loads((made.blobs / entry["digest"][7:]).read_bytes())["config"]["digest"]
    paths = [f"blobs/sha256/{digest[7:]}" for digest in (config, layer["digest"])]
    told = [{"Config": paths[0], "RepoTags": ["app:1", "app:2"], "Layers": paths[1:]}]
    return [*files_of(directory), ("manifest.json", json.dumps(told).encode())]


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("oci-archive", ""),
        ("oci-archive", "1"),
        ("oci-archive", "docker.io/library/app:2"),
        ("oci-archive", "app:2"),
        ("docker-archive", "app:2"),
    ],
)
def test_an_archive_that_is_both_is_read_as_either_and_may_call_one_image_by_two_names(
    tmp_path: Path, form: str, name: str
) -> None:
    path = archive(tmp_path, tarred(modern(tmp_path / "layout")))
    layer = gzip.compress(ONE, mtime=0)
    assert [one.digest for one in manifest(form, path, name).layers] == [formats.digest_of(layer)]
    assert fetched(path, name) == [layer]


def test_the_form_that_an_archive_has_is_named_where_the_other_was_asked_for(tmp_path: Path) -> None:
    path = archive(tmp_path, tarred(saved({"app:1": (ONE,)})))
    assert f"docker-archive:{path}" in refusal("oci-archive", path).try_
    made = Layout(tmp_path / "layout")
    made.add_image("1", [], [], ["/x"])
    path = archive(tmp_path, tarred(files_of(tmp_path / "layout")))
    assert f"oci-archive:{path}" in refusal("docker-archive", path).try_


@pytest.mark.parametrize("magic", [gzip.compress(b"x"), b"\x28\xb5\x2f\xfd" + bytes(600), b"\xfd7zXZ\0", b"BZh9"])
def test_a_compressed_archive_is_refused_with_the_command_that_unpacks_it(tmp_path: Path, magic: bytes) -> None:
    told = refusal("docker-archive", archive(tmp_path, magic))
    assert (told.code, told.try_.split()[1:]) == ("NNA1401", ["-dc", str(tmp_path / "it.tar"), ">image.tar"])


def test_a_layer_that_the_configuration_does_not_name_is_refused(tmp_path: Path) -> None:
    entries = [(name, TWO if name.endswith("layer.tar") else content) for name, content in saved({"a:1": (ONE,)})]
    told = refusal("docker-archive", archive(tmp_path, tarred(entries)))
    assert (told.code, told.seen) == ("NNA1422", (f"the configuration says {formats.digest_of(ONE)}",))


GOOD = saved({"a:1": (ONE,)})
LAYER = next(name for name, _ in GOOD if name.endswith("layer.tar"))
CONFIG = next(name for name, _ in GOOD if name.endswith(".json") and name != "manifest.json")


def with_(name: str, content: bytes | str) -> bytes:
    return tarred([*((one, old) for one, old in GOOD if one != name), (name, content)])


IMAGE: dict[str, object] = {"Config": CONFIG, "RepoTags": ["a:1"], "Layers": [LAYER]}


def told(**changes: object) -> bytes:
    return with_("manifest.json", json.dumps([{**IMAGE, **changes}]).encode())


WHOLE = tarred(GOOD)
HOSTILE = {
    "none": (b"x" * 2048, "NNA1403"),
    "empty": (b"", "NNA1403"),
    "cut in a file": (WHOLE[: WHOLE.index(b"DATA-1") + 700], "NNA1403"),
    "cut in a header": (WHOLE[:-10_400], "NNA1403"),
    "rubbish between": (tarred(GOOD[:-2])[:10_240] + b"x" * 1024 + WHOLE, "NNA1403"),
    "manifest twice": (tarred([*GOOD, ("./manifest.json", b"[]")]), "NNA1403"),
    "absolute": (tarred([*GOOD, ("/etc/passwd", b"x")]), "NNA1403"),
    "above": (tarred([*GOOD, ("a/../../x", b"x")]), "NNA1403"),
    "link out": (with_(LAYER, "../../etc/shadow"), "NNA1403"),
    "link to the root": (with_(LAYER, "/etc/shadow"), "NNA1403"),
    "link to itself": (with_(LAYER, "layer.tar"), "NNA1403"),
    "link to nothing": (with_(LAYER, "../none/layer.tar"), "NNA1401"),
    "no layer": (told(Layers=["/etc/shadow"]), "NNA1401"),
    "layer with a long name": (told(Layers=["x" * 100_000]), "NNA1403"),
    "layer that writes on the terminal": (told(Layers=["\x1b[2J"]), "NNA1403"),
    "tag that cannot be written": (told(RepoTags=["\ud800"]), "NNA1403"),
    "images without end": (with_("manifest.json", json.dumps([IMAGE] * 999).encode()), "NNA1401"),
    "layer above": (told(Layers=["../etc/shadow"]), "NNA1401"),
    "layers that are none": (told(Layers=[{}]), "NNA1403"),
    "a layer too many": (told(Layers=[LAYER, LAYER]), "NNA1403"),
    "configuration that is none": (told(Config=LAYER), "NNA1403"),
    "tags that are none": (told(RepoTags=[7]), "NNA1403"),
    "manifest that is no list": (with_("manifest.json", b'{"a":1}'), "NNA1403"),
    "manifest of brackets": (with_("manifest.json", b"[" * 100_000), "NNA1403"),
    "huge manifest": (with_("manifest.json", b" " * (formats.DOCUMENT_CAP + 1)), "NNA1403"),
    "negative size": (tars.header("x", size_field=b"\xff" * 11 + b"\x00") + WHOLE, "NNA1403"),
    "endless": (tars.header("x", size_field=b"\x80" + b"\x7f" * 11) + WHOLE, "NNA1403"),
    "size that goes back": (tars.pax(size="-2048") + tars.member("x", b"y") + WHOLE, "NNA1403"),
    "chain of headers": (tars.pax(comment="x") * 3000 + WHOLE, "NNA1403"),
    "long header": (tars.pax(comment="x" * (1 << 20)) + WHOLE, "NNA1403"),
    "sparse": (tars.pax(GNU_sparse_major="0", GNU_sparse_map="0,1", GNU_sparse_size="9") + tars.member("x") + WHOLE,
               "NNA1403"),
    "sparse that is none": (tars.pax(GNU_sparse_map="a,b", GNU_sparse_size="1") + tars.member("x") + WHOLE, "NNA1403"),
    "a pipe of the same name": (tars.member("manifest.json", kind=b"6") + WHOLE, "NNA1403"),
    "a directory of the same name": (tars.member("manifest.json/", kind=b"5") + WHOLE, "NNA1403"),
    "a link of the same name": (tars.member("manifest.json", kind=b"1", link="repositories") + WHOLE, "NNA1403"),
    "a name below a link": (tars.member("m", kind=b"2", link=".") + tars.member("m/manifest.json") + WHOLE, "NNA1403"),
    "a name below a file": (tars.member("m/x/y") + tars.member("m-") + tars.member("m") + WHOLE, "NNA1403"),
    "a name with a NUL": (tars.pax(path="m\0n") + tars.member("m") + WHOLE, "NNA1403"),
    "another archive behind its end": (tars.member("x") + bytes(512) + WHOLE, "NNA1403"),
    "a header that names all": (tars.for_all(path="manifest.json") + WHOLE, "NNA1403"),
    "a header with the size of all": (tars.for_all(size="700") + WHOLE, "NNA1403"),
    "a header for all that fills the memory": (
        tars.for_all(**{f"k{at}": "v" for at in range(500)}) + tars.member("x") + WHOLE, "NNA1403"),
    "a name that no system takes": (tars.pax(path="x" * 5000) + tars.member("x") + WHOLE, "NNA1403"),
    "too many entries": (tars.member("d/", kind=b"5") * (tar_index._MOST + 1), "NNA1403"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_gets_one_clear_error_soon(tmp_path: Path, name: str) -> None:
    content, code = HOSTILE[name]
    path, began = archive(tmp_path, content), time.process_time()
    error = refusal("docker-archive", path)
    assert (error.code, error.what.startswith(str(path))) == (code, True), error
    assert error.cause
    assert len(str(error)) < 1000
    assert time.process_time() - began < 10


HOLES = {
    "GNU's first": tars.holes("x"),
    "0.0": tars.pax(GNU_sparse_size="9", GNU_sparse_offset="0", GNU_sparse_numbytes="1") + tars.member("x", b"x"),
    "0.1": tars.pax(GNU_sparse_map="0,1", GNU_sparse_size="9") + tars.member("x", b"x"),
    "1.0": tars.pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="9")
    + tars.member("x", b"9" * 9 + b"\n" + b"0\n" * 2000),
    "none, but its size": tars.pax(GNU_sparse_realsize="1030") + tars.member("x", b"x"),
}


@pytest.mark.parametrize("form", HOLES)
def test_a_file_with_holes_is_refused_in_every_form_before_its_list_of_them_is_read(tmp_path: Path, form: str) -> None:
    """In a layer too: nydus-image takes most forms for other files, and says nothing."""
    path = archive(tmp_path, HOLES[form] + WHOLE)
    told = refusal("docker-archive", path)
    assert (told.code, told.cause) == ("NNA1403", "'x' is sparse")
    with pytest.raises(ConvertError) as raised:
        list(layer_files.members(LayerFile(str(path), "", "", 0, 1 << 30), content=False))
    assert (raised.value.code, "'x' is sparse" in raised.value.cause) == ("NNA1404", True)


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_files_that_are_hard_links_in_an_archive_are_found(tmp_path: Path, form: str) -> None:
    """GNU tar writes what it has seen under another name as one, in a layout whose blobs were linked to save room."""
    made = Layout(tmp_path / "layout")
    layers = [made.add_bytes(content, formats.TAR) for content in (ONE, TWO)]
    made.add_image("1", layers, [formats.digest_of(ONE), formats.digest_of(TWO)], ["/x"])
    for at, file in enumerate([*made.blobs.iterdir(), tmp_path / "layout/index.json"]):
        (tmp_path / f"layout/a{at}").hardlink_to(file)
    path = tmp_path / "it.tar"
    names = sorted(file.name for file in (tmp_path / "layout").iterdir())
    subprocess.run(["tar", f"--format={form}", "-cf", path, "-C", tmp_path / "layout", *names], check=True, timeout=300)
    with tarfile.open(path) as tar:
        assert any(one.islnk() and one.name == "index.json" for one in tar)
    assert [one.digest for one in manifest("oci-archive", path).layers] == [one["digest"] for one in layers]
    assert fetched(path) == [ONE, TWO]


def test_a_size_in_an_extended_header_is_the_one_that_counts_as_for_every_other_reader(tmp_path: Path) -> None:
    entries = []
    for name, content in GOOD:
        assert isinstance(content, bytes)
        entries.append(tars.pax(size=str(len(content))) + tars.member(name, content, size=0))
    path = archive(tmp_path, tars.archive(*entries))
    assert [one.digest for one in manifest("docker-archive", path).layers] == [formats.digest_of(ONE)]
    assert fetched(path) == [ONE]


def test_a_compressed_layer_that_many_names_lead_to_is_read_once_before_its_image_is_known(tmp_path: Path) -> None:
    packed, names = gzip.compress(os.urandom(1 << 20), mtime=0), [f"{at}/layer.tar" for at in range(40)]
    body = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": names}]).encode()
    links: list[Entry] = [(name, f"../{names[0]}") for name in names[1:]]
    documents: list[Entry] = [("c.json", config_of(*[ONE] * 40)), ("manifest.json", body)]
    opened, _ = source("docker-archive", archive(tmp_path, tarred([*documents, (names[0], packed), *links])))
    before = bytes_read()
    document = opened.document("", formats.DOCUMENT_CAP)
    assert bytes_read() - before < 4 << 20
    parsed = formats.parse(document.content, document.media_type, "it")
    assert isinstance(parsed, formats.Manifest)
    assert [layer.digest for layer in parsed.layers] == [formats.digest_of(packed)] * 40


def bytes_read() -> int:
    """By this process, from whatever (proc(5), io)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar:")).split()[1])


def test_a_disk_that_cannot_be_read_is_told_with_the_archive_and_the_reason(tmp_path: Path) -> None:
    """As /proc/self/mem, a file whose beginning gives EIO: to the first look, and to one that comes later."""
    for form in ("docker-archive", "oci-archive"):
        told = refusal(form, Path("/proc/self/mem"))
        assert (told.code, told.what) == ("NNA1401", "/proc/self/mem cannot be read")
        assert told.cause == "Input/output error, at 0"
    good, here = tmp_path / "good", tmp_path / "here"
    good.mkdir()
    (good / "mem").write_bytes(WHOLE)
    here.symlink_to(good)
    opened, _ = source("docker-archive", here / "mem")
    here.unlink()
    here.symlink_to("/proc/self")
    with pytest.raises(ConvertError, match="here/mem cannot be read: Input/output error, at") as raised:
        opened.document("", formats.DOCUMENT_CAP)
    assert raised.value.code == "NNA1401"


def test_names_in_a_hostile_layout_do_not_come_onto_the_terminal(tmp_path: Path) -> None:
    digests = (formats.digest_of(bytes([at])) for at in range(200))
    entries = [
        {"digest": digest, "annotations": {"io.containerd.image.name": name}}
        for digest, name in zip(
            digests, ["\x1b[2J", "\ud800", "x" * 100_000, *(f"app:{at}" for at in range(197))], strict=True
        )
    ]
    path = archive(tmp_path, tarred([("index.json", json.dumps({"manifests": entries}).encode())]))
    error = refusal("oci-archive", path)
    assert (
        error.code,
        error.cause.startswith("it has: @0, @1, @2, @3 = app:0, @4 = app:1"),
        len(str(error)) < 1000,
    ) == (
        "NNA1401",
        True,
        True,
    )


def test_the_archive_itself_is_a_file_and_no_link_or_fifo_that_somebody_laid(tmp_path: Path) -> None:
    path = archive(tmp_path, WHOLE)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "fifo")
    for name, cause in (("link", "it is a link"), ("fifo", "it is no file"), ("none", "No such file"), (".", "")):
        error = refusal("docker-archive", tmp_path / name)
        assert (error.code, cause in error.cause) == ("NNA1401", True), error


def test_an_archive_that_changes_under_the_conversion_is_not_taken_for_what_it_was(tmp_path: Path) -> None:
    path = archive(tmp_path, tarred(modern(tmp_path / "layout")))
    opened, _ = source("docker-archive", path)
    document = opened.document("", formats.DOCUMENT_CAP)
    parsed = formats.parse(document.content, document.media_type, "it")
    assert isinstance(parsed, formats.Manifest)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(ConvertError, match="changed meanwhile"):
        opened.fetch(parsed.layers[0], str(tmp_path / "out"), lambda _: None)
    with pytest.raises(ConvertError, match="changed meanwhile"):
        opened.small(parsed.config, formats.DOCUMENT_CAP)
    path.write_bytes(b"")
    with pytest.raises(ConvertError, match="ends early"):
        opened.small(parsed.config, formats.DOCUMENT_CAP)


def test_a_large_layer_is_read_a_piece_at_a_time(tmp_path: Path) -> None:
    path = archive(tmp_path, tarred([("big", bytes(3 << 20))]))
    assert [len(piece) for piece in TarIndex(str(path)).pieces("big", 5 << 19)] == [1 << 20, 1 << 20, 1 << 19]


def test_names_on_this_machine_are_those_of_skopeo() -> None:
    found = local.parse("docker-archive:/a/b.tar:registry:5000/app:1")
    assert found == local.Local(local.Form.DOCKER_ARCHIVE, "/a/b.tar", "registry:5000/app:1")
    assert local.parse("registry.example.org/app:1") is None
    with pytest.raises(ConvertError, match="names no file"):
        local.parse("oci-archive::1")


def test_extended_headers_that_carry_long_names_are_understood(tmp_path: Path) -> None:
    name = "x" * 150 + "/layer.tar"
    config = config_of(ONE)
    body = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": [name]}]).encode()
    entries = [("c.json", config), (name, ONE), ("manifest.json", body)]
    assert tarfile.PAX_FORMAT == tarfile.DEFAULT_FORMAT
    path = archive(tmp_path, tarred(entries))
    assert [one.digest for one in manifest("docker-archive", path).layers] == [formats.digest_of(ONE)]
