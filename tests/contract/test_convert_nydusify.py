"""`nydus-agent convert --with nydusify`: another program makes the image, and nothing of it is sent unlooked
at.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.images import manifest
from tests.contract.test_convert_verb import PRIVATE, ROOT, Place, tar
from tests.unit.test_schema import complaints

STAND_IN = str(ROOT / "tests/fakes/nydusify.py")
BY = ("--with", "nydusify", "--nydusify", STAND_IN)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_blobs_and_metadata_that_nydusify_made_are_put_in_place(place: Place) -> None:
    told = place.run(place.image(tar("DATA-1"), tar("nothing"), tar("DATA-2")), *BY, "--format", "json")
    assert told.code == 0, told.err
    assert complaints(told.answer) == []
    image = told.answer["images"][0]
    assert (image["converter"], image["blobs"], image["layers"]) == ("nydusify", 2, 3)
    layers = place.named["layers"]
    assert [layer["mediaType"] for layer in layers] == [manifest.NYDUS_BLOB] * 2 + [manifest.TAR_GZIP]
    for layer in layers:
        assert len(place.blob(layer["digest"])) == layer["size"]
    config = json.loads(place.blob(place.named["config"]["digest"]))
    assert (config["config"]["Cmd"], len(config["rootfs"]["diff_ids"])) == (["/x"], 3)
    assert len(place.bootstrap()) > 0


def test_a_blob_that_two_layers_made_is_there_once(place: Place) -> None:
    told = place.run(place.image(tar("DATA"), tar("x"), tar("DATA")), *BY)
    assert told.code == 0, told.err
    assert len(place.named["layers"]) == 2


@pytest.mark.parametrize(
    ("fault", "code", "cause"),
    [
        ("FAIL", "NNA1410", "convert image: exit status 3"),
        ("OLD", "NNA1410", "nydus 2.3.9"),
        ("INVALID", "NNA1423", "Error: invalid"),
        ("OTHER-LAYERS", "NNA1410", "a layer is no nydus blob"),
        ("OTHER-PACK", "NNA1410", "holds no metadata"),
        ("OTHER-RAFS", "NNA1410", "it is no RAFS v6"),
        ("OTHER-PARTS", "NNA1410", "no such file"),
    ],
)
def test_what_it_fails_to_make_or_makes_wrong_is_told_and_nothing_is_put_in_place(
    place: Place, fault: str, code: str, cause: str
) -> None:
    told = place.run(place.image(tar("DATA", fault)), *BY)
    assert (told.code, code in told.err, cause in told.err) == (1, True, True), told.err
    assert not place.target.exists()


@pytest.mark.parametrize(
    ("tars", "options", "code"),
    [
        (PRIVATE, (), "NNA1403"),
        ((tar("DATA") + tar("hidden"),), (), "NNA1403"),
        ((tar("a/b", "a/DATA"),), (), "NNA1403"),
        ((tar("DATA") + bytes(200_000),), ("--max-unpacked", "100K"), "NNA1403"),
    ],
)
def test_a_layer_of_which_something_would_be_lost_does_not_reach_it(
    place: Place, tars: tuple[bytes, ...], options: tuple[str, ...], code: str
) -> None:
    told = place.run(place.image(*tars), *BY, *options)
    assert (told.code, code in told.err) == (1, True), told.err


def test_programs_are_used_only_where_they_are_asked_for_and_named_from_where_one_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = place.run(place.image(tar("DATA")), "--nydusify", STAND_IN, "--format", "json")
    assert told.answer["images"][0]["converter"] == "nydus-image", told.err
    absent = place.run(place.image(tar("DATA")), "--with", "nydusify", "--nydusify", "/nonexistent")
    assert (absent.code, "there is no nydusify" in absent.err) == (2, True), absent.err
    monkeypatch.chdir(ROOT / "tests/fakes")
    here = ("--nydusify", "./nydusify.py", "--nydus-image", "./nydus_image.py")
    assert place.run(place.image(tar("DATA")), "--with", "nydusify", *here).code == 0


def test_nothing_of_ours_reaches_it_but_what_it_needs(place: Place) -> None:
    log, spy = place.directory / "seen.json", place.directory / "spy.py"
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
    assert all(str(place.target) not in word for word in argv)
