"""`convert` from archives that Debian's skopeo wrote, on a booted node.

`make test` reads archives of the same forms that our own tests write (tests/contract/test_convert_archives.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import layout, scene, skopeo, trees
from tests.node.test_convert import Place

pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: mirror \w+ -> ")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A node that runs nydus images."""
    with scene.staged("python") as stage:
        yield Place(stage.node, stage.registry.host)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_every_file_of_an_image_in_an_archive_that_skopeo_made_is_what_it_was(
    place: Place, tmp_path: Path, form: str
) -> None:
    trees.add_image(layout.Layout(tmp_path / "layout"), "odd", trees.LAYERS)
    skopeo.copy(f"oci:{tmp_path}/layout:odd", f"{form}:{tmp_path}/odd.tar:odd:1")
    shutil.copyfile(tmp_path / "odd.tar", place.node.inside(f"/root/{form}.tar"))
    made = place.convert(f"{form}:/root/{form}.tar:odd:1", form, "--compare")
    assert (made["images"][0]["layers"], made["images"][0]["compared"]["differences"]) == (3, 0)
    refused = place.run(f"{form}:/root/{form}.tar:even:1", "none")
    assert (refused.returncode, "it has:" in refused.stderr, "odd:1" in refused.stderr) == (2, True, True)
