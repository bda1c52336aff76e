"""`convert` where nydusify is installed, with the real program on a booted node.

$NYDUSIFY names it: releases of nydus have it beside nydus-image, and no package registry has, so `make test`
cannot.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import layout, scene, trees
from tests.node.test_convert import LOOK, Place, left_over

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")

ON_NODE = "/usr/local/bin/nydusify"
BY = "--with=nydusify"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node with nydusify in PATH and two of the plain images of test_convert in its registry."""
    program = Path(os.environ["NYDUSIFY"])
    directory = tmp_path_factory.mktemp("images")
    made = layout.Layout(directory)
    trees.add_image(made, "layered", trees.LAYERS, base="python", command=["python3", "-c", LOOK])
    command = 'print(open("/usr/share/new").read())'
    trees.add_image(
        made, "plain-layers", [trees.plain_addition], base="python", command=["python3", "-c", command]
    )
    with scene.staged("python") as stage:
        for name in ("layered", "plain-layers"):
            trees.push(stage.node, directory, name, stage.ref(name))
        inside = stage.node.inside(ON_NODE)
        shutil.copyfile(program, inside)
        inside.chmod(0o755)
        yield Place(stage.node, stage.registry.host)


@pytest.mark.parametrize(
    ("name", "options"), [("python", ("--compressor=lz4_block", "--chunk-size=64K")), ("plain-layers", ())]
)
def test_every_file_of_what_nydusify_made_is_what_it_was(
    place: Place, name: str, options: tuple[str, ...]
) -> None:
    made = place.convert(name, f"{name}-by-nydusify", BY, "--compare", *options)
    image = made["images"][0]
    print(name, image)
    assert (image["converter"], image["compared"]["differences"]) == ("nydusify", 0)
    assert image["compared"]["files"] > 5000


def test_an_image_of_which_nydusify_would_lose_rights_is_refused(place: Place) -> None:
    refused = place.run("layered", "layered-by-nydusify", BY)
    assert (refused.returncode, "without naming it" in refused.stdout) == (1, True), refused.stdout


def test_a_container_runs_from_what_nydusify_made(place: Place) -> None:
    place.convert("plain-layers", "plain-run", BY)
    assert scene.start_nydus(place.node, place.ref("plain-run")).output == "in an upper layer\n"
    assert scene.nydusd_bytes(place.node) > 0


def test_a_layout_on_the_disk_becomes_an_index_for_both_platforms(place: Place, tmp_path: Path) -> None:
    trees.add_platforms(tmp_path, "both", [trees.plain_addition], ("amd64", "arm64"))
    place.node.run(["mkdir", "-p", "/root/layout"])
    shutil.copytree(tmp_path, place.node.inside("/root/layout"), dirs_exist_ok=True)
    made = place.convert("oci:/root/layout:both", "both", BY, "--platform=amd64,arm64", "--compare")
    assert [(one["platform"], one["compared"]["differences"]) for one in made["images"]] == [
        ("linux/amd64", 0), ("linux/arm64", 0),
    ]  # fmt: skip


def test_a_conversion_that_is_told_to_end_leaves_nothing_here_and_nothing_in_the_registry(
    place: Place,
) -> None:
    command = ["nydus-agent", "convert", place.ref("plain-layers"), place.ref("ended"), BY]
    running = place.node.popen(command)
    place.node.wait_until(
        lambda: place.node.run("pgrep --full '[n]ydusify/work'", check=False).stdout, 60, "nydusify works"
    )
    place.node.run(["kill", "-TERM", place.pid_of("ended")])
    running.communicate(timeout=30)
    assert running.returncode == 1
    place.node.wait_until(lambda: left_over(place.node) == [], 10, "nothing of it is left")
    assert "ended:1" not in place.node.run(["curl", "-s", f"http://{place.host}/v2/ended/tags/list"]).stdout
