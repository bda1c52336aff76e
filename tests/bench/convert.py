"""`make bench-convert`: what a conversion costs and makes, for three images; each is read back and compared.

Method: on one booted node, registry to registry on its loopback, each round into a repository of its own, so
that everything is built; `--compare` mounts the result by nydusd and reads every file back against the
source. Times are the program's own, by step, without the push; sizes are those of the layers as they came.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.report import Row, publish, quick, row
from tests.node import layout, scene, trees

METHOD = (
    "registry to registry on one node by skopeo, all of it built, read back and compared; zstd, chunks "
    "of 1 MiB"
)
ROUNDS, QUICK_ROUNDS = 5, 1
FILES, QUICK_FILES = 60_000, 3_000
NAMES = {
    "python": "Debian with python, one layer",
    "many": "small files of up to 4 KiB",
    "layered": "that Debian and three layers of whiteouts, links, devices, attributes",
}


def main() -> None:
    """Measure and publish."""
    short = quick()
    files = QUICK_FILES if short else FILES
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place, scene.staged("python") as stage:
        made = layout.Layout(Path(place))
        trees.add_image(made, "many", [trees.many_files(files)])
        trees.add_image(made, "layered", trees.LAYERS, base="python")
        for name in ("many", "layered"):
            trees.push(stage.node, Path(place), name, stage.ref(name))
        for name in NAMES:
            rounds = QUICK_ROUNDS if short else ROUNDS
            rows += _rows(name, [_converted(stage, name, at) for at in range(rounds)])
    publish("convert", METHOD, rows, quick=short)


def _converted(stage: scene.Stage, name: str, at: int) -> dict[str, Any]:
    """One image by the program's own account."""
    target = f"{stage.registry.host}/made-{at}/{name}:1"
    done = scene.agent(
        stage.node, "convert", stage.ref(name), target, "--compare", "--format", "json", timeout=900
    )
    image: dict[str, Any] = json.loads(done.stdout)["images"][0]
    assert image["compared"]["differences"] == 0
    return image


def _rows(name: str, images: list[dict[str, Any]]) -> list[Row]:
    one = images[0]
    compared = [image["seconds"]["compare"] for image in images]
    whole = [sum(image["seconds"].values()) for image in images]
    extra: dict[str, float | str] = {
        "files": one["compared"]["files"],
        "source MB": round(one["source_bytes"] / 1e6, 1),
        "nydus MB": round(one["bytes"] / 1e6, 1),
        "tar MB": round(one["unpacked_bytes"] / 1e6, 1),
        "differences": one["compared"]["differences"],
    }
    converted = [total - compare for total, compare in zip(whole, compared, strict=True)]
    return [
        row(f"{NAMES[name]}: converted", converted, "s", extra=extra),
        row(f"{NAMES[name]}: read back and compared", compared, "s"),
    ]


if __name__ == "__main__":
    main()
