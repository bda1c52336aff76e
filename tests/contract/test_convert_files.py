"""What a conversion does on this machine's disk: layers are read and never extracted, rooms leave nothing behind."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from agent.adapters import layer_files
from agent.adapters.oci_layout import Directory, LayoutSource
from agent.adapters.rooms import DiskRooms
from agent.errors import ConvertError
from agent.oci import formats
from agent.oci.formats import Descriptor
from agent.oci.tree import Kind, Tree, differences
from agent.ports_convert import LayerFile
from tests.contract.waiting import wait_until
from tests.node.trees import CAPABILITY, XATTR, add, tar_of


def layer(directory: Path, content: bytes, compression: str = "", limit: int = 1 << 30) -> LayerFile:
    path = directory / "layer"
    path.write_bytes(content)
    return LayerFile(str(path), compression, "", len(content), limit)


def everything(made: tarfile.TarFile) -> None:
    add(made, "./", type=tarfile.DIRTYPE, mode=0o755)
    add(made, "d", type=tarfile.DIRTYPE, mode=0o1777, uid=3, gid=4)
    capability = {XATTR + "security.capability": CAPABILITY.decode("utf-8", "surrogateescape"), XATTR + "user.a": "ü"}
    add(made, "d/file", b"content", mode=0o4755, pax_headers=capability)
    add(made, "d/link", type=tarfile.LNKTYPE, linkname="d/file")
    add(made, "d/soft", type=tarfile.SYMTYPE, linkname="../" + "x" * 200)
    add(made, "null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add(made, "disk", type=tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660)
    add(made, "fifo", type=tarfile.FIFOTYPE, mode=0o600)
    add(made, "\udcff not UTF-8", b"", mode=0o600)


def test_a_layers_tar_is_read_with_all_that_an_image_can_hold(tmp_path: Path) -> None:
    found = {member.path: member for member in layer_files.members(layer(tmp_path, tar_of(everything)))}
    file = found["d/file"].node
    assert file is not None
    assert (file.kind, file.mode, file.size) == (Kind.FILE, 0o4755, 7)
    assert file.content == hashlib.sha256(b"content").hexdigest()
    assert file.xattrs == {"security.capability": CAPABILITY, "user.a": "ü".encode()}
    assert (found["d/link"].node, found["d/link"].hard_link) == (None, "d/file")
    kinds = {path: member.node.kind for path, member in found.items() if member.node is not None}
    assert [kinds[name] for name in ("d", "d/soft", "null", "disk", "fifo")] == [
        Kind.DIRECTORY, Kind.SYMLINK, Kind.CHARACTER, Kind.BLOCK, Kind.FIFO,
    ]  # fmt: skip
    disk = found["disk"].node
    assert disk is not None
    assert disk.device == (8, 1)
    assert "\udcff not UTF-8" in found


def test_a_tree_on_the_disk_is_read_as_its_tar_is(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    content = tar_of(everything)
    # GNU tar as the judge: it shares no code with either side.
    subprocess.run(
        ["tar", "--extract", "--xattrs", "--xattrs-include=*", "--same-owner", "--preserve-permissions"],
        input=content, cwd=top, check=True, timeout=30,
    )  # fmt: skip
    expected, found = Tree(), Tree()
    expected.add_layer(layer_files.members(layer(tmp_path, content)))
    for member in layer_files.walked(str(top)):
        assert member.node is not None
        found.add(member.path, member.node)
    assert [str(one) for one in differences(expected, found)] == []


@pytest.mark.parametrize("compression", ["", "gzip"])
def test_the_pieces_of_a_layer_are_its_tar(tmp_path: Path, compression: str) -> None:
    content = os.urandom(3_000_000)
    packed = content if not compression else gzip.compress(content[:1_000_001]) + gzip.compress(content[1_000_001:])
    assert b"".join(layer_files.unpacked(layer(tmp_path, packed, compression))) == content


def test_a_bomb_is_unpacked_a_piece_at_a_time(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    assert len(bomb) < 100_000
    assert max(map(len, layer_files.unpacked(layer(tmp_path, bomb, "gzip")))) <= layer_files.PIECE


def test_whoever_reads_a_layer_stops_where_it_unpacks_to_too_much(tmp_path: Path) -> None:
    packed = gzip.compress(tar_of(lambda made: add(made, "zeros", bytes(8 << 20))))
    for read in (layer_files.unpacked, layer_files.members):
        with pytest.raises(ConvertError) as raised:
            list(read(layer(tmp_path, packed, "gzip", limit=1 << 20)))
        assert raised.value.code == "NNA1421"


@pytest.mark.parametrize("packed", [b"no gzip at all", gzip.compress(b"x" * 100_000)[:-20], b""])
def test_what_does_not_decompress_is_told(tmp_path: Path, packed: bytes) -> None:
    with pytest.raises(ConvertError) as raised:
        list(layer_files.unpacked(layer(tmp_path, packed, "gzip")))
    assert raised.value.code == "NNA1423"


def header(**pax: str) -> bytes:
    """An extended header, and that of the file that it is about."""
    info = tarfile.TarInfo("x")
    info.pax_headers = {name.replace("_", "."): value for name, value in pax.items()}
    return info.tobuf(tarfile.PAX_FORMAT)


# tarfile reads what follows an extended header by calling itself, and takes the numbers of a sparse file as they are.
CHAIN = header(comment="x")[:1024] * 3000 + header(comment="x")
SPARSE = header(GNU_sparse_map="a,b", GNU_sparse_size="1") + bytes(1024)
LONG = header(comment="x" * (1 << 20)) + bytes(1024)


@pytest.mark.parametrize(
    "content",
    [b"x" * 1024, tar_of(everything)[:-12_000], CHAIN, SPARSE, LONG],
    ids=["none", "ends early", "a chain of headers", "a sparse file that is none", "a header that fills the memory"],
)
def test_a_tar_that_is_none_or_ends_early_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConvertError) as raised:
        list(layer_files.members(layer(tmp_path, content)))
    assert raised.value.code == "NNA1406"


# Rooms


def rooms_of(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_a_room_is_its_runs_alone_and_gone_at_its_end_however_that_comes(tmp_path: Path) -> None:
    with DiskRooms(str(tmp_path)).room(1) as room:
        assert Path(room.path).stat().st_mode & 0o7777 == 0o700
        (Path(room.path) / "x").write_bytes(b"x")
    assert rooms_of(tmp_path) == []
    with pytest.raises(KeyboardInterrupt), DiskRooms(str(tmp_path)).room(1):
        raise KeyboardInterrupt
    assert rooms_of(tmp_path) == []


def test_what_a_killed_run_left_is_cleared_by_the_next_one_which_learns_of_its_upload(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with DiskRooms(str(tmp_path)).room(1) as room:
            (Path(room.path) / "layer").write_bytes(b"x")
            room.note("http://r/v2/a/blobs/uploads/1")
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert len(rooms_of(tmp_path)) == 1
    assert DiskRooms(str(tmp_path)).left_behind() == ("http://r/v2/a/blobs/uploads/1",)
    assert rooms_of(tmp_path) == []


def test_a_converter_that_a_killed_run_left_waiting_is_ended_and_no_other_program(tmp_path: Path) -> None:
    rooms, programs = tmp_path / "rooms", tmp_path / "programs"
    room = rooms / "nydus-agent-convert-x"
    for directory in (room, programs):
        directory.mkdir(parents=True)
    (room / "lock").touch()
    tail = shutil.which("tail")
    assert tail is not None
    for name in ("nydus-image", "less"):
        shutil.copy(tail, programs / name)
    waiting = []
    for name, looked_at in (("nydus-image", room), ("less", room), ("nydus-image", tmp_path)):
        (looked_at / "file").touch()
        waiting.append(subprocess.Popen([programs / name, "-f", looked_at / "file"], stdout=subprocess.DEVNULL))

    def all_wait() -> bool:
        """One that has not opened its file yet ends by itself where that is gone."""
        try:
            opened = [{file.readlink().name for file in Path(f"/proc/{one.pid}/fd").iterdir()} for one in waiting]
        except OSError:  # one was closed meanwhile
            return False
        return all("file" in names for names in opened)

    try:
        wait_until(all_wait, "every program has its file")
        DiskRooms(str(rooms)).left_behind()
        assert waiting[0].wait(60) == -9
        assert [one.poll() for one in waiting[1:]] == [None, None]
        assert not room.exists()
    finally:
        for one in waiting:
            one.kill()
            one.wait(60)


def test_the_room_of_a_run_that_lives_is_left_alone(tmp_path: Path) -> None:
    with DiskRooms(str(tmp_path)).room(1) as room:
        room.note("http://r/v2/a/blobs/uploads/1")
        room.note("")
        assert DiskRooms(str(tmp_path)).left_behind() == ()
        assert Path(room.path).is_dir()


def test_what_others_lay_in_the_way_is_not_followed_and_not_removed(tmp_path: Path) -> None:
    victim, work = tmp_path / "victim", tmp_path / "work"
    victim.mkdir()
    work.mkdir()
    (victim / "lock").write_bytes(b"")
    (work / "nydus-agent-convert-link").symlink_to(victim)
    other = work / "nydus-agent-convert-other"
    other.mkdir()
    (other / "lock").write_bytes(b"")
    os.chown(other, 65534, 65534)
    assert DiskRooms(str(work)).left_behind() == ()
    assert len(rooms_of(work)) == 2
    assert (victim / "lock").exists()


def test_a_directory_that_is_too_small_or_not_there_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    for directory, need in ((tmp_path, 1 << 60), (tmp_path / "none", 1)):
        with pytest.raises(ConvertError) as raised, DiskRooms(str(directory)).room(need):
            pass
        assert raised.value.code == "NNA1426"


def test_a_room_that_is_being_made_is_left_alone_and_one_that_never_got_its_lock_is_not_kept(tmp_path: Path) -> None:
    for name, age_s in (("young", 5), ("old", 3600)):
        room = tmp_path / f"nydus-agent-convert-{name}"
        room.mkdir()
        os.utime(room, (time.time() - age_s,) * 2)
    DiskRooms(str(tmp_path)).left_behind()
    assert rooms_of(tmp_path) == ["nydus-agent-convert-young"]


def test_a_lock_that_somebody_holds_keeps_its_room(tmp_path: Path) -> None:
    room = tmp_path / "nydus-agent-convert-x"
    room.mkdir()
    with open(room / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        DiskRooms(str(tmp_path)).left_behind()
        assert room.is_dir()
    DiskRooms(str(tmp_path)).left_behind()
    assert not room.exists()


# Layouts


def layout(directory: Path, **names: bytes) -> LayoutSource:
    """A layout that holds manifests of these names."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    entries = []
    for name, content in names.items():
        digest = formats.digest_of(content)
        (blobs / digest.removeprefix("sha256:")).write_bytes(content)
        noted = {"org.opencontainers.image.ref.name": name}
        entries.append(
            {"mediaType": formats.OCI_MANIFEST, "digest": digest, "size": len(content), "annotations": noted}
        )
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return LayoutSource(Directory(str(directory)))


def test_a_layout_gives_its_only_image_or_the_one_that_is_named(tmp_path: Path) -> None:
    assert layout(tmp_path / "one", a=b'{"a":1}').document("", 1000).content == b'{"a":1}'
    two = layout(tmp_path / "two", a=b'{"a":1}', b=b'{"b":1}')
    assert two.document("b", 1000).content == b'{"b":1}'
    with pytest.raises(ConvertError, match="it has: @0 = a, @1 = b"):
        two.document("", 1000)
    with pytest.raises(ConvertError, match="it has: @0 = a, @1 = b"):
        two.document("c", 1000)


def test_what_a_layout_holds_is_a_manifest_or_an_index_by_its_own_keys_alone(tmp_path: Path) -> None:
    source = layout(tmp_path, a=b'{"layers":[],"annotations":{"manifests":"x"}}', b=b'{"manifests":[]}')
    assert source.document("a", 1000).media_type == formats.OCI_MANIFEST
    assert source.document("b", 1000).media_type == formats.OCI_INDEX


def test_a_layout_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    source = layout(tmp_path / "l", a=b'{"a":1}')
    digest = formats.digest_of(b'{"a":1}')
    blob = tmp_path / "l/blobs/sha256" / digest.removeprefix("sha256:")
    blob.write_bytes(b'{"a":2}')
    for read in (
        lambda: source.document(digest, 1000),
        lambda: source.small(Descriptor("x", digest, 7), 1000),
        lambda: source.fetch(Descriptor("x", digest, 7), str(tmp_path / "out"), lambda _: None),
    ):
        with pytest.raises(ConvertError) as raised:
            read()
        assert raised.value.code == "NNA1403"
    blob.unlink()
    blob.symlink_to("/etc/passwd")
    with pytest.raises(ConvertError) as raised:
        source.document(digest, 1000)
    assert raised.value.code == "NNA1401"
