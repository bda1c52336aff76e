"""An archive is taken apart the same way however its bytes arrive, and whatever stands in it, nothing but a refusal or
the very programs that the lock pins comes of it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping

import pytest

from agent.artifacts.addresses import refusal_of
from agent.artifacts.child import checksum
from agent.artifacts.child.archive import Wanted, take_apart
from agent.artifacts.child.refused import RefusedError
from agent.artifacts.fetching import Limits
from agent.artifacts.lock import Artifact
from agent.artifacts.refusals import Refusal
from tests.hostile import tars
from tests.hostile.stage import OLD, pinned, release

URL = "https://example.org/x/nydus.tgz"
TAR = release(OLD)
GOOD = tars.gz(TAR)


def _pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def _take(content: bytes, size: int = 1 << 20) -> tuple[Artifact, Mapping[str, bytes]]:
    """With a lock that pins these very bytes."""
    artifact = pinned(content, URL, OLD)
    files = {name: os.memfd_create(name) for name in OLD}
    try:
        seen = take_apart(_pieces(content, size), Wanted(artifact, artifact.sha256, files), Limits(), lambda _: None)
        return seen, {name: os.pread(file, 1 << 20, 0) for name, file in files.items()}
    finally:
        for file in files.values():
            os.close(file)


@pytest.mark.parametrize("size", [1, 2, 7, 511, 512, 513, 4096])
def test_programs_arrive_in_pieces_of_any_size(size: int) -> None:
    assert _take(GOOD, size) == (pinned(GOOD, URL, OLD), OLD)


def _flip(chance: random.Random, content: bytearray) -> None:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _overwrite(chance: random.Random, content: bytearray) -> None:
    at = chance.randrange(len(content))
    content[at : at + chance.randrange(1, 40)] = chance.randbytes(chance.randrange(1, 40))


def _drop(chance: random.Random, content: bytearray) -> None:
    at = chance.randrange(len(content))
    del content[at : at + chance.randrange(1, 600)]


def _copy(chance: random.Random, content: bytearray) -> None:
    at, length = chance.randrange(len(content)), chance.randrange(1, 1600)
    content[at:at] = content[at : at + length]


@pytest.mark.parametrize("spoil", [_flip, _overwrite, _drop, _copy])
@pytest.mark.parametrize("packed", [True, False])
def test_a_spoiled_archive_brings_a_refusal_or_the_right_programs(
    spoil: Callable[[random.Random, bytearray], None], packed: bool
) -> None:
    refusals = set()
    for seed in range(400):
        content = bytearray(GOOD if packed else TAR)
        spoil(random.Random(seed), content)
        try:
            _, found = _take(bytes(content) if packed else tars.gz(bytes(content)), 700)
        except RefusedError as error:
            refusals.add(error.refusal)
        else:
            assert found == OLD
    assert len(refusals) > 2


@pytest.mark.parametrize(
    ("address", "refusal"),
    [
        ("140.82.121.3", None), ("10.0.0.1", None), ("2606:50c0::1", None), ("fd12::1", None),
        ("127.0.0.1", Refusal.ADDRESS_LOOPBACK), ("127.9.9.9", Refusal.ADDRESS_LOOPBACK),
        ("::1", Refusal.ADDRESS_LOOPBACK), ("::ffff:127.0.0.1", Refusal.ADDRESS_LOOPBACK),
        ("169.254.0.1", Refusal.ADDRESS_LINK_LOCAL), ("fe80::1%eth0", Refusal.ADDRESS_LINK_LOCAL),
        ("2002:a9fe:a9fe::", Refusal.ADDRESS_METADATA), ("100.100.100.200", Refusal.ADDRESS_METADATA),
        ("0.0.0.0", Refusal.ADDRESS_SPECIAL), ("::", Refusal.ADDRESS_SPECIAL), ("ff02::1", Refusal.ADDRESS_SPECIAL),
    ],
)  # fmt: skip
def test_a_download_goes_to_other_machines_only(address: str, refusal: Refusal | None) -> None:
    assert refusal_of(address, loopback=False) is refusal


def test_a_mirror_on_this_machine_may_lead_to_this_machine_but_not_to_metadata() -> None:
    assert refusal_of("127.0.0.1", loopback=True) is None
    assert refusal_of("169.254.169.254", loopback=True) is Refusal.ADDRESS_METADATA


@pytest.mark.parametrize("line", ["{}  nydus.tgz\n", "{} *nydus.tgz\n", "{}  nydus.tgz", "{}  nydus.tgz\r\n"])
def test_a_checksum_is_read_as_sha256sum_writes_it(line: str) -> None:
    assert checksum.parse(line.format("a" * 64).encode(), "nydus.tgz") == "a" * 64


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (b"", Refusal.CHECKSUM_FORM),
        (b"A" * 64 + b"  nydus.tgz\n", Refusal.CHECKSUM_FORM),
        (b"a" * 63 + b"  nydus.tgz\n", Refusal.CHECKSUM_FORM),
        (b"a" * 64 + b"  ../nydus.tgz\n", Refusal.CHECKSUM_FORM),
        (b"a" * 64 + b"  other.tgz\n", Refusal.CHECKSUM_NAME),
        (b"a" * 64 + b"  nydus.tgz\n" * 200, Refusal.CHECKSUM_LENGTH),
    ],
)
def test_any_other_checksum_is_refused(content: bytes, refusal: Refusal) -> None:
    with pytest.raises(RefusedError) as caught:
        checksum.parse(content, "nydus.tgz")
    assert caught.value.refusal is refusal
