"""What a bootstrap says of its image's data, and how an image without compression is told."""

from __future__ import annotations

import struct

import pytest

from agent.documents.status import CheckState
from agent.proof import checks_nydusd
from tests.unit import proved_node

BOOTSTRAP = f"{proved_node.ROOT}/snapshots/3/fs/image/image.boot"


def bootstrap(flags: int, magic: int = 0xE0F5E1E2) -> bytes:
    """The first block of a RAFS v6 bootstrap with these flags in its extended superblock."""
    block = bytearray(4096)
    struct.pack_into("<I", block, 1024, magic)
    struct.pack_into("<Q", block, 1024 + 128, flags)
    return bytes(block)


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (bootstrap(0x05), True),  # what nydus-image 2.2.0 writes with --compressor none
        (bootstrap(0x84), False),  # with zstd
        (bootstrap(0x06), False),  # with lz4_block
        (bootstrap(0x05, magic=0x52414653), None),  # RAFS v5
        (b"", None),
        (bootstrap(0x05)[:1159], None),
    ],
)
def test_the_superblock_says_whether_chunks_are_compressed(head: bytes, wanted: bool | None) -> None:
    assert checks_nydusd.uncompressed(head) is wanted


def test_check_8_names_an_image_in_use_that_is_not_compressed_and_stays_ok() -> None:
    node = proved_node.proved()
    node.node.files.put(BOOTSTRAP, bootstrap(0x05), mode=0o600)
    check = node.proof().checks[7]
    assert (check.number, check.state) == (8, CheckState.OK)
    assert "not compressed" in check.detail
    assert "plain.example:5000/image" in check.detail


def test_check_8_says_nothing_of_an_image_that_is_compressed() -> None:
    node = proved_node.proved()
    node.node.files.put(BOOTSTRAP, bootstrap(0x84), mode=0o600)
    assert "compressed" not in node.proof().checks[7].detail


def test_many_images_are_told_by_three_names_and_a_count() -> None:
    told = checks_nydusd.uncompressed_warning(("a/1", "b/2", "c/3", "d/4", "e/5"))
    assert told.endswith("a/1, b/2, c/3 and 2 more")
    assert checks_nydusd.uncompressed_warning(()) == ""
