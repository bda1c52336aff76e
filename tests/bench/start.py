"""`make bench-start`: time to first output of an image of over 100 MB, plain on overlayfs against nydus,
cold.

Method: on one booted node, in turn: pull and run until the container's output, page cache dropped, image and
snapshots removed in between; the plain image by ctr on overlayfs, the nydus image by CRI pull and ctr run.
Bytes are nydusd's own (read_amount_total) and the mirror's.
"""

from __future__ import annotations

from tests.bench.report import publish, quick, row
from tests.node import images, scene

METHOD = (
    "pull + run to the first output, cold, plain and nydus in turn on one node; registry and mirror on "
    "loopback"
)
ROUNDS, QUICK_ROUNDS = 7, 2


def main() -> None:
    """Measure and publish."""
    short = quick()
    plain, lazy, fetched, through = [], [], [], []
    with scene.staged("python", "python-nydus") as stage:
        for _ in range(QUICK_ROUNDS if short else ROUNDS):
            plain.append(scene.start_plain(stage.node, stage.ref("python")).first_output_s)
            before = stage.mirror.stats()["blob_bytes"]
            lazy.append(scene.start_nydus(stage.node, stage.ref("python-nydus")).first_output_s)
            fetched.append(scene.nydusd_bytes(stage.node) / 1e6)
            counted = stage.mirror.stats()["blob_bytes"] - before - scene.bootstrap_size("python-nydus")
            through.append(counted / 1e6)
            scene.forget(stage.node, stage.ref("python-nydus"))
    size = images.image("python-nydus").size / 1e6
    publish(
        "start",
        METHOD,
        [
            row("plain on overlayfs", plain, "s"),
            row("nydus through the mirror", lazy, "s"),
            row(f"bytes that nydusd fetched (image {size:.1f} MB)", fetched, "MB"),
            row("bytes through the mirror", through, "MB"),
        ],
        quick=short,
    )


if __name__ == "__main__":
    main()
