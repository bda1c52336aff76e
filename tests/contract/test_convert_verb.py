"""`nydus-agent convert` as a whole, with Debian's skopeo, between layouts; the builder is as simple as can
be.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.__main__ import main
from agent.images import manifest
from tests.contract.waiting import wait_until
from tests.fakes import nydus_image
from tests.node.layout import Layout
from tests.node.trees import XATTR, add, add_platforms, tar_of
from tests.unit.test_schema import complaints

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = str(ROOT / "tests/fakes/nydus_image.py")
ATTRIBUTE = {XATTR + "user.a": "b"}


def tar(*names: str, pax: dict[str, str] | None = None) -> bytes:
    def fill(made: tarfile.TarFile) -> None:
        for name in names:
            kind, mode = (tarfile.DIRTYPE, 0o700) if name.endswith("/") else (tarfile.REGTYPE, 0o644)
            content = b"x" if "DATA" in name else None
            add(made, name, content, type=kind, mode=mode, pax_headers=pax or {})

    return tar_of(fill)


@dataclass
class Told:
    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


class Place:
    def __init__(self, directory: Path) -> None:
        self.directory, self.target = directory, directory / "target"
        self.work = directory / "work"
        self.work.mkdir()
        self.images = 0

    def image(self, *tars: bytes, lie: bool = False) -> str:
        """A layout with one image of these layers; `lie`: its configuration names other tars."""
        self.images += 1
        where = self.directory / f"layout-{self.images}"
        made = Layout(where)
        layers = [made.add_bytes(gzip.compress(one, mtime=0), manifest.TAR_GZIP) for one in tars]
        ids = [manifest.digest_of(one + (b"x" if lie else b"")) for one in tars]
        made.add_image("it", layers, ids, ["/x"])
        return f"oci:{where}"

    def words(self, source: str, *options: str) -> list[str]:
        where = [
            "--work-dir",
            str(self.work),
            "--nydus-image",
            STAND_IN,
            "--config",
            str(self.directory / "none.toml"),
        ]
        return ["convert", source, f"oci:{self.target}:app", *where, *options]

    def run(self, source: str, *options: str) -> Told:
        out, err = io.StringIO(), io.StringIO()
        code = main(self.words(source, *options), environment={}, out=out, err=err, uid=1000)
        assert list(self.work.iterdir()) == []
        return Told(code, out.getvalue(), err.getvalue())

    @property
    def named(self) -> dict[str, Any]:
        """What the target's name leads to."""
        entries = json.loads((self.target / "index.json").read_text())["manifests"]
        named = "org.opencontainers.image.ref.name"
        (entry,) = [one for one in entries if one.get("annotations", {}).get(named) == "app"]
        body: dict[str, Any] = json.loads(self.blob(entry["digest"]))
        return body

    def blob(self, digest: str) -> bytes:
        return (self.target / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()

    def bootstrap(self) -> bytes:
        packed = self.blob(self.named["layers"][-1]["digest"])
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as made:
            file = made.extractfile("image/image.boot")
            assert file is not None
            return file.read()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_image_is_converted_and_put_in_place(place: Place) -> None:
    told = place.run(place.image(tar("DATA-1"), tar("DATA-2"), tar("nothing")))
    assert told.code == 0, told.err
    layers = place.named["layers"]
    assert [layer["mediaType"] for layer in layers] == [manifest.NYDUS_BLOB] * 2 + [manifest.TAR_GZIP]
    config = json.loads(place.blob(place.named["config"]["digest"]))
    ids = config["rootfs"]["diff_ids"]
    assert ids[:2] == [layer["digest"] for layer in layers[:2]]
    assert ids[2] == manifest.digest_of(gzip.decompress(place.blob(layers[2]["digest"])))
    for layer in layers:
        assert len(place.blob(layer["digest"])) == layer["size"]
    assert (config["config"]["Cmd"], "3 layers" in told.out) == (["/x"], True)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_an_image_in_an_archive_becomes_the_same_as_one_in_a_directory(place: Place, form: str) -> None:
    source = place.image(tar("DATA-1"), tar("x", "DATA-2"))
    assert place.run(source).code == 0
    layers = place.named["layers"]
    archive = f"{form}:{place.directory}/it.tar"
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", source, f"{archive}:app:1"]
    subprocess.run(command, check=True, timeout=300)
    told = place.run(archive)
    assert (told.code, place.named["layers"]) == (0, layers), told.err
    refused = place.run(f"{archive}:other:1")
    assert (refused.code, "NNA1410" in refused.err) == (1, True), refused.err


def test_several_platforms_become_an_index_and_one_that_is_not_there_is_told(place: Place) -> None:
    directory = place.directory / "both"
    add_platforms(directory, "both", [lambda made: add(made, "DATA", b"x")], ("amd64", "arm64"))
    told = place.run(f"oci:{directory}:both", "--platform", "arm64,amd64", "--format", "json")
    assert told.code == 0, told.err
    assert [image["platform"] for image in told.answer["images"]] == ["linux/arm64", "linux/amd64"]
    assert [one["platform"]["architecture"] for one in place.named["manifests"]] == ["arm64", "amd64"]
    assert told.answer["digest"] == manifest.digest_of(manifest.encoded(place.named))
    for platform in ("riscv64", "arm64,riscv64"):
        refused = place.run(f"oci:{directory}:both", "--platform", platform)
        assert (refused.code, "NNA1403" in refused.err) == (1, True), refused.err
    alone = place.run(place.image(tar("DATA")), "--platform", "sparc")
    assert (alone.code, "it is one image, for linux/" in alone.err) == (1, True), alone.err


def test_a_nydus_image_is_not_converted_again(place: Place) -> None:
    assert place.run(place.image(tar("DATA"))).code == 0
    told = place.run(f"oci:{place.target}:app")
    assert (told.code, "it is a nydus image already" in told.err) == (1, True), told.err


def test_by_reference_the_sources_layers_are_kept_and_only_what_says_where_in_them_the_data_is_gets_made(
    place: Place,
) -> None:
    told = place.run(place.image(tar("DATA-1"), tar("nothing"), tar("DATA-2")), "--reference")
    assert told.code == 0, told.err
    layers = place.named["layers"]
    assert [layer["mediaType"] for layer in layers] == [manifest.NYDUS_BLOB] * 4 + [manifest.TAR_GZIP]
    assert [gzip.decompress(place.blob(layers[at]["digest"])) for at in (1, 3)] == [
        tar("DATA-1"),
        tar("DATA-2"),
    ]
    config = json.loads(place.blob(place.named["config"]["digest"]))
    assert len(config["rootfs"]["diff_ids"]) == len(layers)


PRIVATE = (tar("private/"), tar("private/x"))


@pytest.mark.parametrize(
    ("tars", "cause"),
    [
        (PRIVATE, "has files in /private without naming it"),
        ((tar("a/b"),), "has files in /a without naming it"),
        ((tar("./"), tar("DATA")), "has files in / without naming it"),
        ((tar("DATA") + tar("hidden"),), "behind the end of its tar"),
        ((tar("DATA", pax=ATTRIBUTE), tar("DATA-2")), ""),
    ],
)
def test_by_reference_a_layer_of_which_something_would_be_lost_is_refused(
    place: Place, tars: tuple[bytes, ...], cause: str
) -> None:
    told = place.run(place.image(*tars), "--reference")
    assert (told.code, cause in told.err) == (1 if cause else 0, True), told.err
    assert place.run(place.image(*tars)).code == 0, "layer by layer it is converted"


def test_the_builder_gets_a_tar_with_unnamed_directories_named_and_as_far_as_its_end(place: Place) -> None:
    log, spy = place.directory / "seen.tar", place.directory / "spy.py"
    spy.write_text(
        "#!/usr/bin/python3\nimport runpy, sys\n"
        "if '/dev/stdin' in sys.argv:\n"
        "    data = sys.stdin.buffer.read()\n"
        f"    open({str(log)!r}, 'wb').write(data)\n"
        f"    sys.argv[-1] = {str(log)!r}\n"
        f"runpy.run_path({STAND_IN!r}, run_name='__main__')\n"
    )
    spy.chmod(0o755)
    upper = tar("new", "private/x", "DATA") + tar("hidden")
    told = place.run(place.image(tar("private/", "private/y"), upper), "--nydus-image", str(spy))
    assert told.code == 0, told.err
    with tarfile.open(log, ignore_zeros=True) as seen:
        assert [(one.name, one.mode) for one in seen] == [
            ("new", 0o644), ("./private", 0o700), ("private/x", 0o644), ("DATA", 0o644),
        ]  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--reference",)])
def test_a_builder_that_ends_well_and_wrote_nothing_is_told_as_that_and_not_as_our_directory(
    place: Place, options: tuple[str, ...]
) -> None:
    told = place.run(place.image(tar("DATA", "SILENT")), *options)
    assert (told.code, "NNA1423" in told.err, "wrote no metadata" in told.err) == (1, True, True), told.err


def test_a_machine_gets_one_document_and_a_person_each_step(place: Place) -> None:
    told = place.run(place.image(tar("DATA")), "--format", "json")
    assert complaints(told.answer) == []
    steps = re.findall(r"^(?:linux/.*?: )?([a-z]+)", told.err, re.M)
    assert steps == ["fetch", "check", "build", "check", "check", "push"]
    image = told.answer["images"][0]
    figures = [image[name] for name in ("converter", "layers", "blobs", "compared")]
    assert figures == ["nydus-image", 1, 1, None]


def test_a_machine_gets_the_error_as_a_document(place: Place) -> None:
    told = place.run(place.image(tar("FAIL")), "--format", "json")
    assert (told.code, told.answer["kind"], told.answer["code"]) == (1, "Error", "NNA1423")
    assert complaints(told.answer) == []


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
        ((tar("INVALID"),), (), "NNA1423"),
        ((tar("DATA") + bytes(200_000),), ("--max-unpacked", "100K"), "NNA1403"),
        ((tar("DATA"),) * 3, ("--max-unpacked", "25K"), "NNA1403"),
        ((tar("DATA", "DATA"),), (), "NNA1403"),
        ((tar("a/b", "a/"),), (), "NNA1403"),
        ((tar("DATA"),), ("--nydus-image", "/nonexistent/nydus-image"), "NNA1410"),
        ((tar("DATA"),), ("--skopeo", "/nonexistent/skopeo"), "NNA1410"),
        ((tar("STRANGE"),), (), "NNA1410"),
        ((b"no tar at all",), (), "NNA1403"),
    ],
)
def test_what_cannot_be_converted_is_told_and_nothing_is_put_in_place(
    place: Place, tars: tuple[bytes, ...], options: tuple[str, ...], code: str
) -> None:
    told = place.run(place.image(*tars), *options)
    assert (told.code, code in told.err) == (1, True), told.err
    assert not place.target.exists()


def test_without_skopeo_the_command_that_installs_it_is_named(place: Place) -> None:
    told = place.run(place.image(tar("DATA")), "--skopeo", "no-such-skopeo")
    assert (told.code, "apt install skopeo" in told.err) == (1, True), told.err


def test_a_tar_that_the_configuration_does_not_name_is_refused(place: Place) -> None:
    told = place.run(place.image(tar("DATA"), lie=True))
    assert (told.code, "NNA1403" in told.err, "the configuration says" in told.err) == (1, True, True), (
        told.err
    )


def test_what_skopeo_says_of_a_registry_is_told_with_what_to_try(place: Place) -> None:
    told = place.run("127.0.0.1:1/team/app:1")
    assert (told.code, "NNA1410" in told.err, "connection refused" in told.err) == (1, True, True), told.err


def test_options_about_registries_that_nobody_asks_so_are_refused_instead_of_ignored(place: Place) -> None:
    source = "127.0.0.1:1/a/b:1"
    told = place.run(source, "--plain-http", "registry.example.org")
    assert (told.code, "they are: 127.0.0.1:1" in told.err) == (2, True), told.err
    told = place.run(source, "--ca", "/site.pem", "--plain-http", "127.0.0.1:1")
    assert (told.code, "--ca /site.pem has no meaning with --plain-http 127.0.0.1:1" in told.err) == (
        2,
        True,
    ), told.err
    told = place.run(
        source, "--ca", "/site.pem", "--plain-http", "127.0.0.1:1", "--plain-http", "r.example.org"
    )
    assert (told.code, "2 things are wrong" in told.err) == (2, True), told.err
    told = place.run(source, "--ca", "/nonexistent.pem")
    assert (told.code, "cannot use the CA /nonexistent.pem" in told.err) == (2, True), told.err


@pytest.mark.parametrize(
    "options",
    [("--chunk-size", "3K"), ("--chunk-size", "1T"), ("--chunk-size", "x"), ("--compressor", "gzip"),
     ("--platform", "a/b/c/d"), ("--compare",), ("--work-dir", "/nonexistent"), ("--work-dir", "/a:b"),
     ("--reference", "--with", "nydusify")],
)  # fmt: skip
def test_a_wrong_command_line_touches_nothing(place: Place, options: tuple[str, ...]) -> None:
    told = place.run(place.image(tar("DATA")), *options)
    assert told.code == 2, told.err
    assert not place.target.exists()


def test_the_signal_of_ctrl_c_ends_it_and_leaves_nothing(place: Place) -> None:
    argv = [sys.executable, "-m", "agent", *place.words(place.image(tar("DATA"), tar("HANG")))]
    running = subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    )

    def builds() -> bool:
        assert running.poll() is None, running.communicate()
        return any(place.work.glob("*/built-2/log"))

    wait_until(builds, "the second layer is built")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert (running.returncode, b"NNA0404" in err) == (1, True), err
    assert list(place.work.iterdir()) == []
    assert not place.target.exists()
