"""The tar of a layer is understood as Go's archive/tar does; what nydus-image would misread is refused."""

from __future__ import annotations

import hashlib
import tarfile
import time
from collections.abc import Iterator

import pytest

from agent.errors import ConvertError
from agent.images.tar import NodeKind, TarEntry, TarWalk
from tests.node.trees import CAPABILITY, XATTR, add, tar_of

END = bytes(1024)


def walk(content: bytes, *, hashed: bool = True, piece: int = 1000) -> tuple[TarWalk, list[TarEntry]]:
    """All of a tar that comes in pieces of an odd size."""
    found = TarWalk((content[at : at + piece] for at in range(0, len(content), piece)), content=hashed)
    return found, list(found)


def refusal(content: bytes) -> ConvertError:
    with pytest.raises(ConvertError) as raised:
        walk(content)
    return raised.value


def member(name: str = "x", content: bytes = b"", **fields: object) -> bytes:
    """One entry without the end of a tar."""
    entry = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(entry, field, value)
    entry.size = len(content)
    return entry.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def everything(made: tarfile.TarFile) -> None:
    add(made, "./", type=tarfile.DIRTYPE, mode=0o755)
    add(made, "d", type=tarfile.DIRTYPE, mode=0o1777, uid=3, gid=4)
    capability = {
        XATTR + "security.capability": CAPABILITY.decode("utf-8", "surrogateescape"),
        XATTR + "user.a": "ü",
    }
    add(made, "d/file", b"content", mode=0o4755, pax_headers=capability)
    add(made, "d/link", type=tarfile.LNKTYPE, linkname="d/file")
    add(made, "d/soft", type=tarfile.SYMTYPE, linkname="../" + "x" * 200)
    add(made, "null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add(made, "disk", type=tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660)
    add(made, "fifo", type=tarfile.FIFOTYPE, mode=0o600)
    add(made, "\udcff not UTF-8", b"", mode=0o600)
    add(made, "long/" + "n" * 120 + "/" + "ä" * 80, b"long", mtime=1_700_000_000.75)


@pytest.mark.parametrize("piece", [1, 511, 512, 1 << 20])
def test_a_tar_is_read_with_all_that_an_image_can_hold(piece: int) -> None:
    found, entries = walk(tar_of(everything), piece=piece)
    nodes = {entry.name: entry.node for entry in entries}
    file = nodes["d/file"]
    assert file is not None
    assert (file.kind, file.mode, file.size, file.content) == (
        NodeKind.FILE, 0o4755, 7, hashlib.sha256(b"content").hexdigest(),
    )  # fmt: skip
    assert file.xattrs == {"security.capability": CAPABILITY, "user.a": "ü".encode()}
    kinds = {name: node.kind for name, node in nodes.items() if node is not None}
    assert [kinds[name] for name in ("d", "d/soft", "null", "disk", "fifo", "\udcff not UTF-8")] == [
        NodeKind.DIRECTORY, NodeKind.SYMLINK, NodeKind.CHARACTER, NodeKind.BLOCK, NodeKind.FIFO,
        NodeKind.FILE,
    ]  # fmt: skip
    disk, last = nodes["disk"], entries[-1].node
    assert disk is not None
    assert last is not None
    assert (disk.device, last.mtime) == ((8, 1), 1_700_000_000)
    assert [(entry.name, entry.hard_link) for entry in entries if entry.node is None] == [
        ("d/link", "d/file")
    ]
    assert (found.data, found.behind, found.length) == (11, False, len(tar_of(everything)))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_are_understood_in_the_forms_of_pax_and_of_gnu(form: int) -> None:
    entry = tarfile.TarInfo("d/" * 100 + "file")
    entry.type, entry.linkname = tarfile.SYMTYPE, "t" * 300
    _, (found,) = walk(entry.tobuf(form) + END)
    assert found.node is not None
    assert (found.name, found.node.target, found.start) == ("d/" * 100 + "file", "t" * 300, 0)


def test_each_entry_says_where_its_first_header_is_and_the_tar_where_it_ends() -> None:
    first, second = member("a", b"x" * 700), member("b" * 150)
    found, entries = walk(first + second + END)
    assert [entry.start for entry in entries] == [0, len(first)]
    assert (found.end, found.length) == (len(first + second), len(first + second + END))


def test_contents_are_hashed_only_where_that_is_asked_for() -> None:
    _, (entry,) = walk(member("a", b"x") + END, hashed=False)
    assert entry.node is not None
    assert (entry.node.content, entry.node.size) == ("", 1)


@pytest.mark.parametrize("tail", [b"", bytes(512), END, bytes(10_240)])
def test_zeros_behind_the_end_are_nothing_and_anything_else_is_told(tail: bytes) -> None:
    found, _ = walk(member("a", b"x") + tail)
    assert not found.behind
    if tail:
        found, entries = walk(member("a", b"x") + tail + member("hidden"))
        assert (found.behind, [entry.name for entry in entries]) == (True, ["a"])


def test_the_padding_of_the_last_file_may_be_missing() -> None:
    found, entries = walk(member("a", b"x" * 600)[: 512 + 600])
    assert (found.end, len(entries)) == (512 + 1024, 1)


SPARSE = tarfile.TarInfo("x")
SPARSE.type = tarfile.GNUTYPE_SPARSE


@pytest.mark.parametrize(
    "content",
    [
        SPARSE.tobuf(tarfile.GNU_FORMAT),
        member(pax_headers={"GNU.sparse.size": "9", "GNU.sparse.offset": "0", "GNU.sparse.numbytes": "1"}),
        member(pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}),
        member(pax_headers={"GNU.sparse.map": "a,b", "GNU.sparse.size": "1"}),
        member(content=b"1\n0\n" * 400, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
    ],
    ids=["GNU's first", "0.0", "0.1", "0.1 that is none", "1.0"],
)
def test_a_sparse_file_is_refused_in_every_form(content: bytes) -> None:
    error = refusal(content + END)
    assert (error.code, "is sparse" in error.cause) == ("NNA1403", True), error


@pytest.mark.parametrize("kind", [tarfile.XGLTYPE, tarfile.CONTTYPE, b"V", b"M"])
def test_an_entry_of_a_kind_that_nydus_image_does_not_read_is_refused(kind: bytes) -> None:
    error = refusal(member(type=kind) + END)
    assert (error.code, "of the type" in error.cause) == ("NNA1403", True), error


def sized(size: bytes, kind: bytes = b"0") -> bytes:
    """A header whose size is these 12 bytes."""
    block = bytearray(member(type=kind))
    block[124:136], block[148:156] = size, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


CHAIN = member(pax_headers={"comment": "x"})[:1024] * 3000


@pytest.mark.parametrize(
    "content",
    [
        b"x" * 1024,
        tar_of(everything)[:-12_000],
        member("a", b"x" * 600)[:700],
        member(pax_headers={"path": "y" * 5000}) + END,
        member(pax_headers={"path": "a\0b"}) + END,
        member(pax_headers={"comment": "x" * (1 << 20)}) + END,
        member(pax_headers={"mtime": "nan"}) + END,
        member(pax_headers={"uid": "9" * 4000}) + END,
        member(pax_headers={"gid": "-1"}) + END,
        member(pax_headers={"comment": "x"})[:1024] + END,
        CHAIN + member() + END,
        sized(b"\xff" * 11 + b"\x00") + END,
        sized(b"\x80" + b"\x7f" * 11) + END,
        sized(b"00000001000\0", tarfile.DIRTYPE) + bytes(512) + END,
    ],
    ids=[
        "no header", "cut in a header", "cut in a file", "a long name", "a NUL in a name",
        "a header without end",
        "a time that is none", "an owner of 4,000 digits", "a group below 0",
        "a header without its file", "a chain of headers", "a negative size",
        "an endless size",
        "a directory with data",
    ],
)  # fmt: skip
def test_what_is_no_tar_is_told_soon(content: bytes) -> None:
    began = time.process_time()
    error = refusal(content)
    assert (error.code, bool(error.cause), len(str(error)) < 1000) == ("NNA1403", True, True), error
    assert time.process_time() - began < 10


def test_a_file_that_says_that_it_is_huge_ends_where_the_stream_does() -> None:
    """69 bytes of gzip said that there were 64 GiB, and the reader asked for them one piece after the
    other.
    """
    asked = 0

    def pieces() -> Iterator[bytes]:
        nonlocal asked
        for piece in (sized(b"\x80" + bytes(6) + b"\x10" + bytes(4)), b"x"):
            asked += 1
            yield piece

    with pytest.raises(ConvertError, match="it ends within 'x'"):
        list(TarWalk(pieces(), content=False))
    assert asked == 2
