"""Files: the contract on the fake and on the disk, and what only a disk can do."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import FileChangedError, FileError
from agent.system.files import RootFiles
from tests.contract.files import ME, FilesContract, FilesWorld, sha256
from tests.fakes.files import FakeFiles


class _FakeWorld(FilesWorld):
    def __init__(self) -> None:
        self.port = self.fake = FakeFiles()

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        self.fake.put(path, content, mode=mode)

    def link(self, path: str, target: str) -> None:
        self.fake.link(path, target)

    def make_directory(self, path: str) -> None:
        self.fake.make_directory(path)

    def see(self, path: str) -> bytes | None:
        file = self.fake.files.get(path)
        return None if file is None else file.content

    def is_link(self, path: str) -> bool:
        return path in self.fake.links

    def has_directory(self, path: str) -> bool:
        return path in self.fake.directories


class _DiskWorld(FilesWorld):
    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = RootFiles(str(root))

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        self.make_directory(str(Path(path).parent))
        self.at(path).write_bytes(content)
        self.at(path).chmod(mode)

    def link(self, path: str, target: str) -> None:
        self.make_directory(str(Path(path).parent))
        self.at(path).symlink_to(target)

    def make_directory(self, path: str) -> None:
        self.at(path).mkdir(parents=True, exist_ok=True)

    def see(self, path: str) -> bytes | None:
        return self.at(path).read_bytes() if self.at(path).is_file() else None

    def is_link(self, path: str) -> bool:
        return self.at(path).is_symlink()

    def has_directory(self, path: str) -> bool:
        return self.at(path).is_dir()


class TestFake(FilesContract):
    @pytest.fixture
    def world(self) -> FilesWorld:
        return _FakeWorld()


class TestDisk(FilesContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> FilesWorld:
        return _DiskWorld(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> _DiskWorld:
    return _DiskWorld(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[_DiskWorld]:
    """A file system of its own with room for 64 KiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", tmp_path], check=True)
    yield _DiskWorld(tmp_path)
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.fixture
def as_nobody() -> Iterator[None]:
    os.seteuid(65534)
    yield
    os.seteuid(0)


def _names(world: _DiskWorld, path: str) -> list[str]:
    return sorted(entry.name for entry in world.at(path).iterdir())


def test_a_full_disk_leaves_the_old_file_and_no_trace(small_disk: _DiskWorld) -> None:
    small_disk.put("/etc/a.toml", b"old")
    with pytest.raises(FileError) as caught:
        small_disk.port.replace("/etc/a.toml", b"x" * 100_000, mode=0o644, **ME, expect_sha256=sha256(b"old"))
    assert caught.value.code == "NNA0427"
    with pytest.raises(FileError):
        small_disk.port.replace("/etc/new/deep/b.toml", b"x" * 100_000, mode=0o644, **ME, expect_sha256="")
    assert _names(small_disk, "/etc") == ["a.toml"]
    assert small_disk.see("/etc/a.toml") == b"old"


def test_an_unreadable_file_is_not_taken_for_an_absent_one(disk: _DiskWorld, as_nobody: None) -> None:
    os.seteuid(0)
    disk.put("/secret/a.toml", b"x", mode=0o600)
    for directory in (disk.root, *list(disk.root.parents)[:-1]):
        if directory.stat().st_uid == 0 and directory.name.startswith("pytest"):
            directory.chmod(0o755)
    disk.root.chmod(0o755)
    os.seteuid(65534)
    with pytest.raises(FileError) as caught:
        disk.port.read("/secret/a.toml")
    assert caught.value.code == "NNA0422"
    with pytest.raises(FileError) as caught:
        disk.port.replace("/secret/a.toml", b"y", mode=0o644, **ME, expect_sha256=sha256(b"x"))
    assert caught.value.code == "NNA0422"


def test_the_security_label_is_carried_over(small_disk: _DiskWorld) -> None:
    label = b"system_u:object_r:etc_t:s0\0"
    small_disk.put("/etc/a.toml", b"old")
    os.setxattr(small_disk.at("/etc/a.toml"), "security.selinux", label)
    small_disk.port.replace("/etc/a.toml", b"new", mode=0o644, **ME, expect_sha256=sha256(b"old"))
    assert os.getxattr(small_disk.at("/etc/a.toml"), "security.selinux") == label


def test_no_file_is_read_with_a_bit_that_roots_sandbox_may_not_set(disk: _DiskWorld) -> None:
    """RestrictSUIDSGID= refuses it to whoever puts the file back."""
    disk.put("/etc/a.toml", b"x", mode=0o2644)
    fact = disk.port.read("/etc/a.toml")
    assert fact is not None
    assert fact.mode == 0o644


def test_owner_and_mode_are_as_asked_whatever_the_umask(disk: _DiskWorld) -> None:
    before = os.umask(0o077)
    try:
        disk.port.replace("/etc/d/a.toml", b"x", mode=0o664, uid=65534, gid=100, expect_sha256="")
    finally:
        os.umask(before)
    status = disk.at("/etc/d/a.toml").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o664, 65534, 100)
    assert disk.at("/etc/d").stat().st_mode & 0o7777 == 0o755


class _Interrupted(bytes):
    """Content that makes somebody else write the same file while it is being written out."""

    theirs: Path

    def __buffer__(self, flags: int, /) -> memoryview:
        self.theirs.write_bytes(b"theirs")
        return super().__buffer__(flags)


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_write_by_somebody_else_at_the_same_moment_wins(disk: _DiskWorld, before: bytes | None) -> None:
    disk.make_directory("/etc")
    if before is not None:
        disk.put("/etc/a.toml", before)
    content = _Interrupted(b"ours")
    content.theirs = disk.at("/etc/a.toml")
    with pytest.raises(FileChangedError):
        disk.port.replace(
            "/etc/a.toml", content, mode=0o644, **ME, expect_sha256="" if before is None else sha256(before)
        )
    assert disk.see("/etc/a.toml") == b"theirs"
    assert _names(disk, "/etc") == ["a.toml"]


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_link_in_a_directory_of_others_is_never_followed(disk: _DiskWorld, mode: int) -> None:
    disk.put("/etc/shadow", b"secret")
    disk.link("/tmp/a.toml", "../etc/shadow")
    disk.link("/tmp/d", "../etc")
    disk.at("/tmp").chmod(mode)
    for path in ("/tmp/a.toml", "/tmp/d/shadow"):
        with pytest.raises(FileError) as caught:
            disk.port.read(path)
        assert caught.value.code == "NNA0422"
        with pytest.raises(FileError) as caught:
            disk.port.replace(path, b"mine", mode=0o644, **ME, expect_sha256=sha256(b"secret"))
        assert caught.value.code == "NNA0422"
    assert disk.port.empty("/tmp/d") == 1
    assert disk.see("/etc/shadow") == b"secret"


def test_a_link_of_root_into_a_directory_of_others_is_not_followed(disk: _DiskWorld) -> None:
    disk.put("/home/eve/a.toml", b"hers")
    os.chown(disk.at("/home/eve"), 65534, 65534)
    disk.link("/etc/a.toml", "/home/eve/a.toml")
    with pytest.raises(FileError) as caught:
        disk.port.replace("/etc/a.toml", b"ours", mode=0o644, **ME, expect_sha256=sha256(b"hers"))
    assert caught.value.code == "NNA0422"
    assert disk.see("/home/eve/a.toml") == b"hers"


def test_a_plain_file_in_a_directory_of_others_can_be_read(disk: _DiskWorld) -> None:
    disk.put("/run/nydus-agent/status.json", b"{}")
    os.chown(disk.at("/run/nydus-agent"), 65534, 65534)
    fact = disk.port.read("/run/nydus-agent/status.json")
    assert fact is not None
    assert fact.content == b"{}"


def test_links_of_directories_are_followed_where_root_laid_them(disk: _DiskWorld) -> None:
    disk.put("/run/x/a", b"1")
    disk.link("/var/run", "/run")
    disk.link("/loop", "loop")
    fact = disk.port.read("/var/run/x/a")
    assert fact is not None
    assert (fact.content, fact.symlink_target) == (b"1", "")
    assert disk.port.read("/var/run/x/none") is None
    assert disk.port.listdir("/var/run/x") == ("a",)
    with pytest.raises(FileError):
        disk.port.read("/loop/a")


def test_a_link_cannot_leave_the_root(disk: _DiskWorld) -> None:
    disk.put("/etc/passwd", b"inside")
    disk.link("/etc/a", "../../../../../../etc/passwd")
    fact = disk.port.read("/etc/a")
    assert fact is not None
    assert fact.content == b"inside"


def test_a_pipe_does_not_hang_the_reader(disk: _DiskWorld) -> None:
    disk.make_directory("/etc")
    os.mkfifo(disk.at("/etc/pipe"))
    with pytest.raises(FileError) as caught:
        disk.port.read("/etc/pipe")
    assert caught.value.code == "NNA0421"


def test_a_file_that_would_eat_the_memory_is_refused(disk: _DiskWorld) -> None:
    disk.put("/etc/big", b"")
    os.truncate(disk.at("/etc/big"), (16 << 20) + 1)
    with pytest.raises(FileError) as caught:
        disk.port.read("/etc/big")
    assert caught.value.code == "NNA0421"


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(disk: _DiskWorld) -> None:
    disk.put("/etc/a.toml", b"old")
    disk.put("/etc/.a.toml.00000000deadbeef.nna-tmp", b"half")
    disk.put("/etc/.a.toml.0000000011111111.nna-tmp", b"being written")
    with disk.at("/etc/.a.toml.0000000011111111.nna-tmp").open() as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        disk.port.replace("/etc/a.toml", b"new", mode=0o644, **ME, expect_sha256=sha256(b"old"))
        assert _names(disk, "/etc") == [".a.toml.0000000011111111.nna-tmp", "a.toml"]


def test_what_a_killed_writer_left_of_a_file_that_is_not_there_is_swept_too(disk: _DiskWorld) -> None:
    disk.put("/etc/.a.toml.00000000deadbeef.nna-tmp", b"half")
    disk.put("/etc/.b.toml.00000000deadbeef.nna-tmp", b"half")
    disk.put("/etc/.b.toml", b"not ours")
    disk.port.sweep("/etc/a.toml")
    assert _names(disk, "/etc") == [".b.toml", ".b.toml.00000000deadbeef.nna-tmp"]
    disk.port.sweep("/etc/")
    assert _names(disk, "/etc") == [".b.toml"]


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(disk: _DiskWorld) -> None:
    whole = {letter * 200_000 for letter in (b"a", b"b")}
    disk.put("/etc/a.toml", b"a" * 200_000)
    loop = (
        "import sys; from agent.system.files import RootFiles; f = RootFiles(sys.argv[1]); "
        "print(flush=True)\n"
        "while True:\n"
        "    old = f.read('/etc/a.toml'); new = (b'b' if old.content[:1] == b'a' else b'a') * 200_000\n"
        "    f.replace('/etc/a.toml', new, mode=0o644, uid=0, gid=0, expect_sha256=old.sha256)\n"
    )
    for round_number in range(8):
        with subprocess.Popen([sys.executable, "-c", loop, str(disk.root)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(0.003 * round_number)
            writer.kill()
        assert disk.see("/etc/a.toml") in whole
    fact = disk.port.read("/etc/a.toml")
    assert fact is not None
    disk.port.replace("/etc/a.toml", b"new", mode=0o644, **ME, expect_sha256=fact.sha256)
    assert _names(disk, "/etc") == ["a.toml"]


@pytest.mark.parametrize("path", ["relative", "", "/", "/..", "/a\0b"])
def test_what_is_no_path_of_a_file_is_refused(disk: _DiskWorld, path: str) -> None:
    with pytest.raises(FileError):
        disk.port.read(path)


def test_no_descriptor_is_left_open(disk: _DiskWorld) -> None:
    disk.put("/etc/a.toml", b"old")
    disk.link("/etc/l", "/etc/a.toml")
    before = len(os.listdir("/proc/self/fd"))
    disk.port.read("/etc/l")
    disk.port.listdir("/etc")
    disk.port.replace("/etc/l", b"new", mode=0o644, **ME, expect_sha256=sha256(b"old"))
    disk.port.replace("/etc/x/y", b"new", mode=0o644, **ME, expect_sha256="")
    disk.port.remove("/etc/x/y", expect_sha256=sha256(b"new"))
    for path in ("/etc/none", "/none/none"):
        assert disk.port.read(path) is None
    with pytest.raises(FileError):
        disk.port.read("/etc")
    assert len(os.listdir("/proc/self/fd")) == before
