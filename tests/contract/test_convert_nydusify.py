"""`nydus-agent convert --with nydusify`: another program makes the image, and nothing of it is sent unlooked at."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters import nydusify
from agent.adapters.rooms import DiskRooms
from agent.config.model import Config
from agent.convert.job import Event, Job, Ports
from agent.convert.run import convert
from agent.errors import ConvertError
from agent.oci import formats, local, reference
from agent.oci.formats import Platform
from agent.ports_convert import BuildOptions, Room
from agent.wire_convert import ConvertSettings, convert_ports
from tests.contract.test_convert_verb import ROOT, Place, tar
from tests.contract.test_convert_verb import STAND_IN as BUILDER
from tests.contract.waiting import wait_until
from tests.fakes.oci_registry import serving
from tests.unit.test_schema import complaints

STAND_IN = str(ROOT / "tests/fakes/nydusify.py")
BY = ("--with", "nydusify", "--nydusify", STAND_IN)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with serving() as registry:
        yield Place(tmp_path, registry)


def test_what_nydusify_made_is_put_in_place_as_it_made_it(place: Place) -> None:
    told = place.run(place.image(tar("DATA-1"), tar("nothing"), tar("DATA-2")), *BY, "--json")
    assert told.code == 0, told.err
    assert [complaints(line) for line in told.lines] == [[]] * len(told.lines)
    image = told.lines[-1]["images"][0]
    assert (image["converter"], image["blobs"], image["layers"]) == ("nydusify", 2, 3)
    layers = place.manifest["layers"]
    assert [layer["mediaType"] for layer in layers] == [formats.NYDUS_BLOB] * 2 + [formats.TAR_GZIP]
    for layer in layers:
        assert len(place.blob(layer["digest"])) == layer["size"]
    assert place.blob(place.manifest["config"]["digest"]) != b""
    assert len(place.bootstrap()) > 0


def test_a_blob_that_two_layers_made_is_sent_once(place: Place) -> None:
    told = place.run(place.image(tar("DATA"), tar("x"), tar("DATA")), *BY, "--json")
    assert told.code == 0, told.err
    assert (told.lines[-1]["images"][0]["blobs"], told.lines[-1]["sent"]["sent"]) == (1, 2)
    digests = [layer["digest"] for layer in place.manifest["layers"]]
    assert (len(digests), digests[0]) == (3, digests[1])


def test_programs_may_be_named_by_paths_from_where_one_is(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "tests/fakes")
    here = ("--nydusify", "./nydusify.py", "--nydus-image", "./nydus_image.py")
    told = place.run(place.image(tar("DATA")), "--with", "nydusify", *here)
    assert told.code == 0, told.err


def parts(place: Place, *tars: bytes, fall_back: bool = True) -> tuple[Job, Ports, list[Event]]:
    """A job of an image of these layers, and what it touches."""
    source = local.parse(place.image(*tars))
    assert source is not None
    target = reference.parse(f"{place.registry.host}/team/app:1")
    settings = ConvertSettings(source, target, str(place.work), BUILDER, "nydusd", STAND_IN, os.getuid(), "")
    machine = Platform("linux", "amd64")
    job = Job(
        "it", "localhost/it:1", "", target, (), machine, BuildOptions("zstd", 1 << 20), 1 << 30, (), compare=False,
        fall_back=fall_back,
    )  # fmt: skip
    return job, convert_ports(Config(), settings, {}), []


class SmallRooms:
    """Rooms where there is no place for more than so many bytes."""

    def __init__(self, directory: Path, most: int) -> None:
        self._rooms, self._most = DiskRooms(str(directory)), most

    def room(self, need: int) -> AbstractContextManager[Room]:
        if need > self._most:
            raise ConvertError("NNA1426", "too little room")
        return self._rooms.room(need)

    def left_behind(self) -> tuple[str, ...]:
        return self._rooms.left_behind()


def test_where_there_is_too_little_room_for_it_our_own_driver_does_the_work(place: Place) -> None:
    job, ports, told = parts(place, tar("DATA"))
    rooms = SmallRooms(place.work, 3 * len(gzip.compress(tar("DATA"), mtime=0)))
    made = convert(job, replace(ports, rooms=rooms), told.append)
    assert [image.by for image in made.images] == ["nydus-image"]
    notes = [event.note for event in told if "not by nydusify" in event.note]
    assert ["too little room" in note for note in notes] == [True]


def test_its_own_words_are_told_while_it_works(place: Place) -> None:
    told = place.run(place.image(tar("DATA")), *BY, "--json")
    notes = [line["note"] for line in told.lines[:-1] if line["step"] == "build" and not line["end"]]
    assert any("image localhost/oci-layout:latest" in note for note in notes), notes
    assert [line["step"] for line in told.lines[:-1] if line["end"]] == [
        "fetch", "check", "build", "check", "push", "push",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "code", "cause"),
    [
        ("FAIL", "NNA1430", "convert image: exit status 3"),
        ("OLD", "NNA1430", "nydus 2.3.9"),
        ("INVALID", "NNA1424", "Error: invalid"),
        ("OTHER-ENV", "NNA1431", "would start with another Env"),
        ("OTHER-BYTES", "NNA1431", "bytes of sha256:"),
        ("OTHER-KIND", "NNA1431", "RAFS version '5'"),
        ("OTHER-TARS", "NNA1431", "does not name the tars"),
        ("OTHER-RAFS", "NNA1431", "not RAFS v6"),
        ("OTHER-NAME", "NNA1431", "leads out of it, '../outside'"),
        ("OTHER-PARTS", "NNA1431", "it has no blobs/sha256/"),
        ("OTHER-COUNT", "NNA1431", "does not hold one image alone"),
        ("OTHER-INDEX", "NNA1431", "it is not JSON"),
    ],
)
def test_what_it_fails_to_make_or_makes_wrong_is_told_and_nothing_is_put_in_place(
    place: Place, fault: str, code: str, cause: str
) -> None:
    told = place.run(place.image(tar("DATA", fault)), *BY)
    assert (told.code, code in told.err, cause in told.err) == (1, True, True), told.err
    assert place.registry.manifests == {}
    assert not (place.work.parent / "outside").exists()


def test_one_that_hangs_is_ended_and_that_is_told(place: Place) -> None:
    job, ports, told = parts(place, tar("DATA", "HANG"), fall_back=False)
    quick = replace(ports, nydusify=lambda room: nydusify.Nydusify(STAND_IN, BUILDER, room.path, grace_s=1.0))
    with pytest.raises(ConvertError, match="nydusify failed") as raised:
        convert(job, quick, told.append)
    assert (raised.value.code, raised.value.cause) == ("NNA1430", "it did not end within 1 s")


def test_what_it_leaves_where_it_fails_takes_no_room_from_our_own_driver(place: Place) -> None:
    log, spy = place.directory / "seen.json", place.directory / "spy.py"
    spy.write_text(
        "#!/usr/bin/python3\nimport json, os, sys\n"
        "made = sys.argv[sys.argv.index('--bootstrap') + 1] if 'tar-rafs' in sys.argv else ''\n"
        f"open({str(log)!r}, 'w').write(json.dumps(os.listdir(os.path.dirname(made)))) if made else None\n"
        f"os.execv({BUILDER!r}, [{BUILDER!r}, *sys.argv[1:]])\n"
    )
    spy.chmod(0o755)
    told = place.run(place.image(tar("DATA", "OTHER-TARS")), "--nydusify", STAND_IN, "--nydus-image", str(spy))
    assert (told.code, "not by nydusify" in told.err) == (0, True), told.err
    assert [name for name in json.loads(log.read_text()) if name.startswith("nydusify-")] == []


@pytest.fixture
def small_disk(place: Place) -> Iterator[Place]:
    """A place that works on a disk of a mebibyte."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place.work], check=True, timeout=300)
    yield place
    subprocess.run(["umount", place.work], check=True, timeout=300)


def test_a_disk_that_is_full_when_it_has_made_the_image_is_told_as_that(small_disk: Place) -> None:
    told = small_disk.run(small_disk.image(tar("DATA", "FULL")), *BY)
    assert (told.code, "error[NNA1426]: cannot work in" in told.err) == (2, True), told.err
    for part in ("No space left on device", "--work-dir"):
        assert part in told.err
    assert small_disk.registry.manifests == {}


def test_where_the_disk_gets_full_of_its_work_our_own_driver_which_needs_less_does_it(small_disk: Place) -> None:
    told = small_disk.run(small_disk.image(tar("DATA", "FULL")), "--nydusify", STAND_IN, "--json")
    assert told.code == 0, told.err
    assert told.lines[-1]["images"][0]["converter"] == "nydus-image"
    notes = [line["note"] for line in told.lines[:-1] if "not by nydusify" in line["note"]]
    assert ["No space left on device" in note for note in notes] == [True]


def test_however_much_it_says_the_end_of_it_alone_is_kept(place: Place) -> None:
    log, talks = place.directory / "seen.json", place.directory / "talks.py"
    talks.write_text(
        "#!/usr/bin/python3\nimport json, os, sys\n"
        "for at in range(40_000):\n"
        "    print(f'time=\"x\" level=info msg=\"line {at}\" ' + 100 * 'x', file=sys.stderr)\n"
        "room = os.path.dirname(sys.argv[sys.argv.index('--work-dir') + 1])\n"
        "sizes = {one.name: one.stat().st_size for one in os.scandir(room)}\n"
        f"open({str(log)!r}, 'w').write(json.dumps(sizes))\n"
        "sys.exit('the last word')\n"
    )
    talks.chmod(0o755)
    told = place.run(place.image(tar("DATA")), "--with", "nydusify", "--nydusify", str(talks), "--json")
    assert (told.code, told.lines[-1]["code"]) == (1, "NNA1430"), told.err
    assert [line.partition("xxx")[0] for line in told.lines[-1]["seen"][-2:]] == [
        'time="x" level=info msg="line 39999" ', "the last word",
    ]  # fmt: skip
    assert "line 39999" in [line["note"] for line in told.lines[:-1]]
    assert sum(json.loads(log.read_text()).values()) < 1 << 20


def test_a_layer_is_looked_at_before_nydusify_gets_it(place: Place) -> None:
    lie = place.run(place.image(tar("DATA"), lie=True), *BY)
    assert (lie.code, "NNA1422" in lie.err) == (1, True), lie.err
    bomb = place.run(place.image(tar("DATA") + bytes(200_000)), *BY, "--max-unpacked", "100K")
    assert (bomb.code, "NNA1421" in bomb.err) == (1, True), bomb.err


def test_options_that_it_cannot_give_are_refused_with_everything_else_that_is_wrong(place: Place) -> None:
    told = place.run("oci:", *BY, "--reference", "--mount-from", "A B", "--platform", "a/b/c/d")
    assert told.code == 2
    for part in ("4 things are wrong", "names no directory", "--reference cannot be had", "'A B'", "no platform"):
        assert part in told.err
    unused = place.run(place.image(tar("DATA")), "--nydusify", STAND_IN, "--with", "nydus-image")
    assert (unused.code, "--nydusify has no meaning" in unused.err) == (2, True), unused.err
    absent = place.run(place.image(tar("DATA")), "--with", "nydusify", "--nydusify", "/nonexistent")
    assert (absent.code, "no such program" in absent.err) == (1, True), absent.err


@pytest.mark.parametrize(("fault", "by"), [("OTHER-ENV", "nydus-image"), ("GOOD", "nydusify")])
def test_where_nydusify_makes_it_wrong_the_work_is_done_by_ourselves_if_that_was_asked_for(
    place: Place, fault: str, by: str
) -> None:
    job, ports, told = parts(place, tar("DATA", fault))
    made = convert(job, ports, told.append)
    assert [image.by for image in made.images] == [by]
    assert any("not by nydusify" in event.note for event in told) == (by == "nydus-image")
    assert json.loads(place.registry.manifests["team/app", "1"][1])["layers"] != []


PRIVATE = (tar("private/"), tar("private/x", "DATA"))


def test_an_image_of_which_it_would_lose_rights_is_made_by_ourselves_unless_it_was_asked_for(place: Place) -> None:
    asked = place.run(place.image(*PRIVATE), *BY)
    assert (asked.code, "has files in /private without naming it" in asked.err) == (1, True), asked.err
    assert place.registry.manifests == {}
    auto = place.run(place.image(*PRIVATE), "--nydusify", STAND_IN, "--json")
    assert auto.lines[-1]["images"][0]["converter"] == "nydus-image", auto.err
    whole = place.run(
        place.image(tar("private/"), tar("private/", "private/x", "DATA")), "--nydusify", STAND_IN, "--json"
    )
    assert whole.lines[-1]["images"][0]["converter"] == "nydusify", whole.err
    kept = place.run(place.image(tar("DATA")), "--nydusify", STAND_IN, "--json", "--reference")
    assert kept.lines[-1]["images"][0]["converter"] == "nydus-image", kept.err


@pytest.mark.parametrize(("name", "by"), [("loses", "nydus-image"), ("sound", "nydusify")])
@pytest.mark.parametrize("layers", [(tar("a/b", "a/DATA"),), (tar("x"), tar("a/b", "a/DATA"))])
def test_files_that_its_nydus_image_would_lose_are_kept_by_our_own_driver(
    place: Place, name: str, by: str, layers: tuple[bytes, ...]
) -> None:
    program = place.directory / f"{name}.py"
    program.write_bytes(Path(BUILDER).read_bytes())
    program.chmod(0o755)
    told = place.run(place.image(*layers), "--nydusify", STAND_IN, "--nydus-image", str(program), "--json")
    assert told.lines[-1]["images"][0]["converter"] == by, told.err
    lost = name == "loses"
    asked = place.run(place.image(*layers), *BY, "--nydus-image", str(program))
    assert (asked.code, "files in /a without naming it" in asked.err) == (int(lost), lost), asked.err


def test_nothing_of_ours_reaches_it_but_what_it_needs(place: Place) -> None:
    """No secret is in its environment or on its command line, and no registry is named but by the image's name."""
    log = place.directory / "seen.json"
    spy = place.directory / "spy.py"
    spy.write_text(
        "#!/usr/bin/python3\nimport json, os, sys\n"
        f"open({str(log)!r}, 'w').write(json.dumps([sys.argv, dict(os.environ)]))\n"
        f"os.execv({STAND_IN!r}, [{STAND_IN!r}, *sys.argv[1:]])\n"
    )
    spy.chmod(0o755)
    told = place.run(place.image(tar("DATA")), "--with", "nydusify", "--nydusify", str(spy))
    assert told.code == 0, told.err
    argv, environment = json.loads(log.read_text())
    assert set(environment) <= {"PATH", "LANG", "HOME", "LC_CTYPE"}
    assert place.registry.host not in " ".join(argv)


def test_the_signal_of_ctrl_c_ends_nydusify_and_what_it_started_and_leaves_nothing(place: Place) -> None:
    argv = [sys.executable, "-m", "agent", *place.words(place.image(tar("DATA"), tar("HANG")), *BY)]
    running = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))

    def builds() -> bool:
        assert running.poll() is None, running.communicate()
        return builders(place.work) != set()

    wait_until(builds, "nydusify is at the second layer")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert (running.returncode, b"NNA1428" in err) == (1, True), err
    assert list(place.work.iterdir()) == []
    assert place.registry.manifests == {}
    wait_until(lambda: builders(place.work) == set(), "what it started is gone")


def builders(work: Path) -> set[str]:
    """Processes that nydusify started for the second layer of a first image."""
    found = set[str]()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # one that ended
            line = place.read_bytes().decode(errors="replace")
            if str(work) in line and "nydusify-1.work/1/boot" in line:
                found.add(place.parent.name)
    return found
