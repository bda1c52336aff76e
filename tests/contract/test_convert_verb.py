"""`nydus-agent convert` as a whole: a layout, a registry and a converter that are as simple as can be."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.__main__ import main
from agent.oci import formats
from tests.contract import certificates
from tests.contract.waiting import wait_until
from tests.fakes import nydus_image
from tests.fakes.oci_registry import FakeRegistry, serving
from tests.node.layout import Layout
from tests.node.trees import XATTR, add, tar_of
from tests.unit.test_schema import complaints

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = str(ROOT / "tests/fakes/nydus_image.py")
NYDUSIFY = str(ROOT / "tests/fakes/nydusify.py")
ATTRIBUTE = {XATTR + "user.a": "b"}


def tar(*names: str, pax: dict[str, str] | None = None) -> bytes:
    def fill(made: tarfile.TarFile) -> None:
        for name in names:
            kind, mode = (tarfile.DIRTYPE, 0o700) if name.endswith("/") else (tarfile.REGTYPE, 0o644)
            add(made, name, type=kind, mode=mode, pax_headers=pax or {})

    return tar_of(fill)


@dataclass
class Told:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Place:
    def __init__(self, directory: Path, registry: FakeRegistry) -> None:
        self.directory, self.registry = directory, registry
        self.work = directory / "work"
        self.work.mkdir()
        self.images = 0

    def image(self, *tars: bytes, lie: bool = False) -> str:
        """A layout with one image of these layers; `lie`: its configuration names other tars."""
        self.images += 1
        where = self.directory / f"layout-{self.images}"
        made = Layout(where)
        layers = [made.add_bytes(gzip.compress(one, mtime=0), formats.TAR_GZIP) for one in tars]
        ids = [formats.digest_of(one + (b"x" if lie else b"")) for one in tars]
        made.add_image("it", layers, ids, ["/x"])
        return f"oci:{where}"

    def words(self, source: str, *options: str) -> list[str]:
        target = f"{self.registry.host}/team/app:1"
        where = ["--work-dir", str(self.work), "--nydus-image", STAND_IN, "--config", str(self.directory / "none.toml")]
        return ["convert", source, target, *where, *options]

    def run(self, source: str, *options: str) -> Told:
        out, err = io.StringIO(), io.StringIO()
        code = main(self.words(source, *options), environment={}, out=out, err=err, uid=1000)
        assert list(self.work.iterdir()) == []
        assert self.registry.uploads == {}
        return Told(code, out.getvalue(), err.getvalue())

    @property
    def manifest(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.registry.manifests["team/app", "1"][1])
        return body

    def blob(self, digest: str) -> bytes:
        return self.registry.blobs["team/app", digest]

    def bootstrap(self) -> bytes:
        packed = self.blob(self.manifest["layers"][-1]["digest"])
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as made:
            file = made.extractfile("image/image.boot")
            assert file is not None
            return file.read()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with serving() as registry:
        yield Place(tmp_path, registry)


def test_an_image_is_converted_sent_and_put_in_place(place: Place) -> None:
    told = place.run(place.image(tar("DATA-1"), tar("DATA-2"), tar("nothing")))
    assert told.code == 0, told.err
    layers = place.manifest["layers"]
    assert [layer["mediaType"] for layer in layers] == [formats.NYDUS_BLOB] * 2 + [formats.TAR_GZIP]
    config = json.loads(place.blob(place.manifest["config"]["digest"]))
    ids = config["rootfs"]["diff_ids"]
    assert ids[:2] == [layer["digest"] for layer in layers[:2]]
    assert ids[2] == formats.digest_of(gzip.decompress(place.blob(layers[2]["digest"])))
    for layer in layers:
        assert len(place.blob(layer["digest"])) == layer["size"]
    assert "3 blobs sent" in told.out


def test_by_reference_the_sources_layers_are_kept_and_only_what_says_where_in_them_the_data_is_gets_made(
    place: Place,
) -> None:
    told = place.run(place.image(tar("DATA-1"), tar("nothing"), tar("DATA-2")), "--reference")
    assert told.code == 0, told.err
    layers = place.manifest["layers"]
    assert [layer["mediaType"] for layer in layers] == [formats.NYDUS_BLOB] * 4 + [formats.TAR_GZIP]
    assert gzip.decompress(place.blob(layers[2]["digest"])) == tar("DATA-1")
    assert gzip.decompress(place.blob(layers[3]["digest"])) == tar("DATA-2")
    config = json.loads(place.blob(place.manifest["config"]["digest"]))
    assert len(config["rootfs"]["diff_ids"]) == len(layers)


@pytest.mark.parametrize(
    ("tars", "cause"),
    [
        ((tar("private/"), tar("private/x")), "has files in /private without naming it"),
        ((tar("DATA", pax=ATTRIBUTE), tar("DATA-2")), ""),
    ],
)
def test_by_reference_a_directory_that_would_lose_its_rights_is_a_refusal(
    place: Place, tars: tuple[bytes, ...], cause: str
) -> None:
    told = place.run(place.image(*tars), "--reference")
    assert (told.code, cause in told.err) == (1 if cause else 0, True), told.err


@pytest.mark.parametrize("name", ["loses", "sound"])
def test_by_reference_a_converter_that_loses_files_of_unnamed_directories_is_not_let_at_them(
    place: Place, name: str
) -> None:
    program = place.directory / f"{name}.py"
    program.write_bytes(Path(STAND_IN).read_bytes())
    program.chmod(0o755)
    lost = name == "loses"
    told = place.run(place.image(tar("a/b", "a/DATA")), "--reference", "--nydus-image", str(program))
    assert (told.code, "files in /a without naming it" in told.err) == (int(lost), lost), told.err
    told = place.run(place.image(tar("a/", "a/DATA")), "--reference", "--nydus-image", str(program))
    assert told.code == 0, told.err


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        ("NO-JSON", "it is not JSON"),
        ("LIST", "it is no JSON object"),
        *((word, "has no list of blobs") for word in ("NO-BLOBS", "OTHER-BLOBS", "ODD-BLOBS")),
    ],
)
def test_by_reference_what_a_converter_notes_in_another_form_is_its_error_and_shown(
    place: Place, word: str, cause: str
) -> None:
    told = place.run(place.image(tar("DATA", word)), "--reference", "--json")
    assert (told.code, told.lines[-1]["code"], cause in told.lines[-1]["cause"]) == (1, "NNA1423", True), told.err
    assert told.lines[-1]["seen"] == [nydus_image.ODD[word.encode()]]
    assert place.registry.manifests == {}


@pytest.mark.parametrize("options", [(), ("--reference",)])
def test_a_converter_that_ends_well_and_wrote_nothing_is_told_as_that_and_not_as_our_directory(
    place: Place, options: tuple[str, ...]
) -> None:
    told = place.run(place.image(tar("DATA", "SILENT")), *options)
    assert (told.code, "NNA1423" in told.err, "done as asked" in told.err) == (1, True, True), told.err


@pytest.mark.parametrize("name", ["forgets", "sound"])
def test_a_converter_that_forgets_what_a_directory_has_is_not_handed_one_twice(place: Place, name: str) -> None:
    program = place.directory / f"{name}.py"
    program.write_bytes(Path(STAND_IN).read_bytes())
    program.chmod(0o755)
    source = place.image(tar("a/", "a/private/"), tar("a/", "a/private/DATA"))
    told = place.run(source, "--nydus-image", str(program))
    lost = name == "forgets"
    assert (told.code, "files in /a/private" in told.err) == (int(lost), lost), told.err


@pytest.mark.parametrize("options", [(), ("--reference",), ("--with", "nydusify", "--nydusify", NYDUSIFY)])
@pytest.mark.parametrize(("names", "twice"), [(("a/", "a/b", "a/"), "a"), (("a/", "./a/b", "a/b", "a/c"), "a/b")])
@pytest.mark.parametrize("name", ["forgets", "sound"])
def test_a_layer_with_a_name_twice_is_not_handed_to_a_converter_that_mixes_them_up(
    place: Place, name: str, names: tuple[str, ...], twice: str, options: tuple[str, ...]
) -> None:
    program = place.directory / f"{name}.py"
    program.write_bytes(Path(STAND_IN).read_bytes())
    program.chmod(0o755)
    source = place.image(tar("./", "x/", "./", *names, "DATA"))
    told = place.run(source, "--nydus-image", str(program), *options)
    lost = name == "forgets"
    assert (told.code, f"a layer has /{twice} twice" in told.err) == (int(lost), lost), told.err


def test_events_and_result_are_as_described(place: Place) -> None:
    told = place.run(place.image(tar("DATA")), "--json")
    assert [complaints(line) for line in told.lines] == [[]] * len(told.lines)
    assert [line["kind"] for line in told.lines[-2:]] == ["ConvertEvent", "ConvertResult"]
    steps = [line["step"] for line in told.lines[:-1] if line["end"]]
    assert steps == ["fetch", "build", "check", "push", "push"]
    whole = place.run(place.image(tar("DATA")), "--format", "json")
    assert complaints(json.loads(whole.out)) == []


def test_whoever_reads_the_events_reads_the_error_too(place: Place) -> None:
    told = place.run(place.image(tar("FAIL")), "--json")
    assert (told.code, told.lines[-1]["kind"], told.lines[-1]["code"]) == (1, "Error", "NNA1423")
    assert [complaints(line) for line in told.lines] == [[]] * len(told.lines)
    assert "error[NNA1423]" in told.err


def test_a_registry_is_spoken_to_as_the_command_line_says(tmp_path: Path) -> None:
    """On the loopback it is http where nobody says more; a CA makes it https."""
    made = certificates.make(tmp_path)
    ca = ("--ca", str(made / "ca.pem"))
    with serving(certificates.server_side(made)) as registry:
        place = Place(tmp_path, registry)
        source = place.image(tar("DATA"))
        told = place.run(source, *ca)
        assert (told.code, place.manifest["schemaVersion"]) == (0, 2), told.err
        told = place.run(source, "--plain-http", registry.host)
        assert (told.code, "NNA1411" in told.err) == (1, True), told.err


def test_options_about_registries_that_nobody_asks_so_are_refused_instead_of_ignored(place: Place) -> None:
    source, host = place.image(tar("DATA")), place.registry.host
    told = place.run(source, "--plain-http", "registry.example.org")
    assert (told.code, f"they are: {host}" in told.err) == (2, True), told.err
    told = place.run(source, "--ca", "/site.pem", "--plain-http", host)
    assert (told.code, f"--ca /site.pem has no meaning with --plain-http {host}" in told.err) == (2, True), told.err
    told = place.run(f"{host}/a/b:1", "--ca", "/site.pem", "--plain-http", host, "--plain-http", "r.example.org")
    assert (told.code, "2 things are wrong" in told.err) == (2, True), told.err
    for part in ("--ca /site.pem", "'r.example.org'"):
        assert part in told.err
    # One of two by http leaves the other its authority, whose file is looked for.
    told = place.run("registry.example.org/a/b:1", "--ca", "/nonexistent.pem", "--plain-http", host)
    assert "cannot use the CA /nonexistent.pem" in told.err


def test_the_second_conversion_sends_only_what_is_new(place: Place) -> None:
    source = place.image(tar("DATA"))
    assert place.run(source, "--json").lines[-1]["sent"]["sent"] == 2
    assert place.run(source, "--json").lines[-1]["sent"] == {"sent": 0, "sent_bytes": 0, "mounted": 0, "there": 2}


def test_extended_attributes_of_a_lower_layer_are_not_forgotten_by_the_merge(place: Place) -> None:
    place.run(place.image(tar("DATA", pax=ATTRIBUTE), tar("DATA-2")))
    flags = struct.unpack_from("<Q", place.bootstrap(), nydus_image.FLAGS_AT)[0]
    assert flags == nydus_image.HAS_XATTR
    place.run(place.image(tar("DATA"), tar("DATA-2")))
    assert struct.unpack_from("<Q", place.bootstrap(), nydus_image.FLAGS_AT)[0] == 0


@pytest.mark.parametrize(
    ("tars", "options", "code"),
    [
        ((tar("FAIL"),), (), "NNA1423"),
        ((tar("INVALID"),), (), "NNA1424"),
        ((tar("DATA") + bytes(200_000),), ("--max-unpacked", "100K"), "NNA1421"),
        ((tar("DATA"),) * 3, ("--max-unpacked", "25K"), "NNA1421"),
        ((tar("DATA"),), ("--platform", "sparc"), "NNA1405"),
        ((tar("DATA"),), ("--nydus-image", "/nonexistent/nydus-image"), "NNA1429"),
        ((tar("STRANGE"),), (), "NNA1429"),
    ],
)
def test_what_cannot_be_converted_is_told_and_nothing_is_put_in_place(
    place: Place, tars: tuple[bytes, ...], options: tuple[str, ...], code: str
) -> None:
    told = place.run(place.image(*tars), *options)
    assert (told.code, code in told.err) == (1, True), told.err
    assert place.registry.manifests == {}


@pytest.mark.parametrize(("version", "code"), [("v2.1.6", 1), ("v2.2.0", 0), ("v2.4.4", 0), ("v9.0.0-rc.1", 0)])
def test_a_nydus_image_is_refused_only_where_it_is_known_not_to_work_and_before_anything_is_fetched(
    place: Place, version: str, code: int
) -> None:
    program = place.directory / "nydus-image"
    program.write_text(f'#!/bin/sh\ntest "$1" != --version || exec echo "Version: {version}"\nexec {STAND_IN} "$@"\n')
    program.chmod(0o755)
    told = place.run(place.image(tar("DATA")), "--nydus-image", str(program), "--json")
    assert told.code == code, told.err
    if code:
        assert [line["kind"] for line in told.lines] == ["Error"]
        assert "2.2.0 is the first" in told.err
    else:
        assert told.lines[-1]["nydus_image"] == version


def test_a_tar_that_the_configuration_does_not_name_is_refused(place: Place) -> None:
    told = place.run(place.image(tar("DATA"), lie=True))
    assert (told.code, "NNA1422" in told.err) == (1, True)
    assert place.registry.manifests == {}


def test_a_registry_that_may_not_be_written_is_told_before_the_work_begins(place: Place) -> None:
    place.registry.faults.status = {"HEAD": [403]}
    told = place.run(place.image(tar("HANG")))
    assert (told.code, "NNA1412" in told.err) == (1, True)


@pytest.mark.parametrize(
    "options",
    [("--chunk-size", "3K"), ("--chunk-size", "1T"), ("--chunk-size", "x"), ("--compressor", "gzip"),
     ("--mount-from", "A B"), ("--platform", "a/b/c/d"), ("--compare",), ("--work-dir", "/nonexistent")],
)  # fmt: skip
def test_a_wrong_command_line_touches_nothing(place: Place, options: tuple[str, ...]) -> None:
    told = place.run(place.image(tar("DATA")), *options)
    assert told.code == 2, told.err
    assert place.registry.manifests == {}


def test_where_nobody_reads_the_events_any_more_it_ends_as_every_program_and_leaves_nothing(place: Place) -> None:
    """`| head -1`: that is no fault of the directory it works in."""
    argv = [sys.executable, "-m", "agent", *place.words(place.image(tar("DATA")), "--json")]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(argv, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, env=dict(os.environ), timeout=600)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")
    assert list(place.work.iterdir()) == []
    assert place.registry.manifests == {}


def test_the_signal_of_ctrl_c_ends_it_and_leaves_nothing(place: Place) -> None:
    argv = [sys.executable, "-m", "agent", *place.words(place.image(tar("DATA"), tar("HANG")))]
    running = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))

    def builds() -> bool:
        assert running.poll() is None, running.communicate()
        return any(place.work.glob("*/built-2.fifo"))

    wait_until(builds, "the second layer is built")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert (running.returncode, b"NNA1428" in err) == (1, True), err
    assert list(place.work.iterdir()) == []
    assert place.registry.manifests == {}
