"""Layers are decompressed a piece at a time, and the directory of a run is gone at its end."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from agent.errors import ConvertError
from agent.images import layer as layers
from agent.images.convert import workspace
from agent.images.layer import FileTree, LayerFile, with_directories
from agent.images.manifest import Descriptor, digest_of
from tests.node.trees import add, directory, tar_of

LIMIT = 1 << 30


def read(
    place: Path, packed: bytes, tar: bytes, tree: FileTree | None = None, limit: int = LIMIT
) -> LayerFile:
    """A layer that is packed so, with the digest of this tar."""
    path = place / "layer"
    path.write_bytes(packed)
    described = Descriptor("", digest_of(packed), len(packed))
    return layers.read_layer(path, described, digest_of(tar), tree or FileTree(), limit=limit, content=True)


def zstd(content: bytes) -> bytes:
    return subprocess.run(
        ["zstd", "--stdout"], input=content, stdout=subprocess.PIPE, check=True, timeout=60
    ).stdout


SOME = tar_of(lambda made: add(made, "file", os.urandom(3_000_000)))
PACKED = {
    "plain": SOME,
    "gzip": gzip.compress(SOME),
    "gzip of several members, as pigz makes it": gzip.compress(SOME[:1_000_001])
    + gzip.compress(SOME[1_000_001:]),
    "zstd": zstd(SOME),
}


@pytest.mark.parametrize("form", PACKED)
def test_a_layer_is_read_whatever_it_is_packed_with(tmp_path: Path, form: str) -> None:
    tree = FileTree()
    found = read(tmp_path, PACKED[form], SOME, tree)
    assert (found.tar.length, found.tar.data, found.missing) == (len(SOME), 3_000_000, ())
    assert tree.nodes["file"].size == 3_000_000
    sent = b"".join(with_directories(found))
    assert sent.rstrip(b"\0") == SOME.rstrip(b"\0")


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_what_does_not_decompress_is_told(tmp_path: Path, form: str) -> None:
    with pytest.raises(ConvertError) as raised:
        read(tmp_path, PACKED[form][:-20_000], SOME)
    assert (raised.value.code, bool(raised.value.cause)) == ("NNA1423", True)
    with pytest.raises(ConvertError) as raised:
        read(tmp_path, PACKED[form][:12] + b"x" * 1000, SOME)
    assert raised.value.code in ("NNA1423", "NNA1403"), "what came out of it may be no tar"


def test_whoever_reads_a_layer_stops_where_it_unpacks_to_too_much(tmp_path: Path) -> None:
    bomb = tar_of(lambda made: add(made, "zeros", bytes(64 << 20)))
    packed = gzip.compress(bomb)
    assert len(packed) < 100_000
    with pytest.raises(ConvertError) as raised:
        read(tmp_path, packed, bomb, limit=1 << 20)
    assert raised.value.code == "NNA1403"


def test_a_tar_that_is_another_than_the_configuration_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="the configuration says") as raised:
        read(tmp_path, SOME, SOME + b"x")
    assert raised.value.code == "NNA1403"


def below(made: tarfile.TarFile) -> None:
    directory(made, "./", 0o711)
    directory(made, "private", 0o700, uid=7, pax_headers={"SCHILY.xattr.user.kept": "yes"})


def above(made: tarfile.TarFile) -> None:
    add(made, "new", b"x" * 2_000_000)
    add(made, "private/file", b"y" * 700)
    add(made, "private/other", b"z")
    directory(made, "plain")
    add(made, "plain/deep/file", b"")


def test_the_builder_gets_the_tar_as_it_is_with_the_directories_named_that_it_does_not(
    tmp_path: Path,
) -> None:
    tree, upper = FileTree(), tar_of(above)
    read(tmp_path, tar_of(below), tar_of(below), tree)
    found = read(tmp_path, gzip.compress(upper + b"x" * 5000), upper + b"x" * 5000, tree)
    assert found.tar.behind
    sent = b"".join(with_directories(found))
    with tarfile.open(fileobj=io.BytesIO(sent), ignore_zeros=True) as seen:
        assert [(one.name, one.mode, one.uid, one.size) for one in seen] == [
            (".", 0o711, 0, 0), ("new", 0o600, 0, 2_000_000), ("./private", 0o700, 7, 0),
            ("private/file", 0o600, 0, 700), ("private/other", 0o600, 0, 1), ("plain", 0o755, 0, 0),
            ("./plain/deep", 0o755, 0, 0), ("plain/deep/file", 0o600, 0, 0),
        ]  # fmt: skip
        assert seen.getmember("./private").pax_headers["SCHILY.xattr.user.kept"] == "yes"


@pytest.mark.parametrize("missing", [0, 100, 1024, 1200])
def test_the_padding_and_the_end_of_a_tar_are_there_for_the_builder(tmp_path: Path, missing: int) -> None:
    whole = SOME.rstrip(b"\0")
    short = whole + bytes(-len(whole) % 512 + 1024)
    short = short[: len(short) - missing]
    sent = b"".join(with_directories(read(tmp_path, short, short)))
    assert (sent.rstrip(b"\0"), len(sent) % 512, sent[-1024:]) == (whole, 0, bytes(1024))


def test_the_root_of_a_layer_without_files_keeps_its_rights(tmp_path: Path) -> None:
    tree, nothing = FileTree(), bytes(1024)
    read(tmp_path, tar_of(below), tar_of(below), tree)
    sent = b"".join(with_directories(read(tmp_path, nothing, nothing, tree)))
    with tarfile.open(fileobj=io.BytesIO(sent)) as seen:
        assert [(one.name, one.mode) for one in seen] == [(".", 0o711)]


# The directory of a run


def test_a_directory_is_its_runs_alone_and_gone_at_its_end_however_that_comes(tmp_path: Path) -> None:
    with workspace(tmp_path) as room:
        assert room.stat().st_mode & 0o7777 == 0o700
        (room / "x").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), workspace(tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_used_is_told_and_a_disk_that_is_full_too(tmp_path: Path) -> None:
    with pytest.raises(ConvertError) as raised, workspace(tmp_path / "none"):
        pass
    assert raised.value.code == "NNA1401"
    with pytest.raises(ConvertError, match="No space left") as raised, workspace(tmp_path):
        raise OSError(28, "No space left on device")
    assert raised.value.code == "NNA1401"
    with pytest.raises(BrokenPipeError), workspace(tmp_path):
        raise BrokenPipeError(32, "a reader of ours is gone")
