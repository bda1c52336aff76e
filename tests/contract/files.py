"""What every implementation of the Files port does.

Subclasses give the world: a port, and somebody else's hand.
"""

from __future__ import annotations

import abc
import hashlib

import pytest

from agent.errors import FileChangedError, FileError
from agent.ports import Files

ME = {"uid": 0, "gid": 0}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class FilesWorld(abc.ABC):
    """The port under test, and files laid and seen without it."""

    port: Files

    @abc.abstractmethod
    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None: ...

    @abc.abstractmethod
    def link(self, path: str, target: str) -> None: ...

    @abc.abstractmethod
    def make_directory(self, path: str) -> None: ...

    @abc.abstractmethod
    def see(self, path: str) -> bytes | None:
        """The content behind a path, None where nothing is."""

    @abc.abstractmethod
    def is_link(self, path: str) -> bool: ...

    @abc.abstractmethod
    def has_directory(self, path: str) -> bool: ...


class FilesContract:
    """Run by a class that has a fixture `world`."""

    def test_a_missing_file_is_none_and_not_an_error(self, world: FilesWorld) -> None:
        assert world.port.read("/etc/no/such/file") is None
        assert world.port.head("/etc/no/such/file", 4) is None
        assert world.port.listdir("/etc/no") == ()

    def test_reading_tells_content_digest_mode_and_owner(self, world: FilesWorld) -> None:
        world.put("/etc/a.toml", b"x = 1\n", mode=0o640)
        fact = world.port.read("/etc/a.toml")
        assert fact is not None
        assert (fact.path, fact.content, fact.sha256) == ("/etc/a.toml", b"x = 1\n", sha256(b"x = 1\n"))
        assert (fact.mode, fact.uid, fact.gid, fact.symlink_target) == (0o640, 0, 0, "")

    def test_the_head_of_a_long_file_can_be_read(self, world: FilesWorld) -> None:
        world.put("/usr/bin/nydusd", b"\x7fELF" + b"\0" * (20 << 20))
        assert world.port.head("/usr/bin/nydusd", 4) == b"\x7fELF"

    def test_a_program_that_was_replaced_has_another_stamp_and_digest(self, world: FilesWorld) -> None:
        world.put("/usr/bin/nydusd", b"one")
        stamp = world.port.stamp("/usr/bin/nydusd")
        assert stamp
        assert world.port.stamp("/usr/bin/nydusd") == stamp
        assert world.port.sha256("/usr/bin/nydusd") == sha256(b"one")
        world.port.replace("/usr/bin/nydusd", b"longer", mode=0o755, **ME, expect_sha256=sha256(b"one"))
        assert world.port.stamp("/usr/bin/nydusd") not in (None, stamp)
        assert world.port.sha256("/usr/bin/nydusd") == sha256(b"longer")

    def test_what_is_not_there_and_what_cannot_be_looked_at_are_told_apart(self, world: FilesWorld) -> None:
        assert world.port.stamp("/usr/bin/nydusd") is None
        assert world.port.sha256("/usr/bin/nydusd") is None
        world.make_directory("/usr/bin/nydusd")
        world.make_directory("/srv")
        world.link("/usr/bin/nydus-image", "/srv/nothing")
        for path in ("/usr/bin/nydusd", "/usr/bin/nydus-image"):
            with pytest.raises(FileError):
                world.port.stamp(path)
            with pytest.raises(FileError):
                world.port.sha256(path)

    def test_a_directory_is_listed_by_name_in_order(self, world: FilesWorld) -> None:
        world.put("/etc/conf.d/b.toml", b"")
        world.put("/etc/conf.d/a.toml", b"")
        world.make_directory("/etc/conf.d/sub")
        assert world.port.listdir("/etc/conf.d") == ("a.toml", "b.toml", "sub")

    def test_a_directory_is_not_read_as_a_file(self, world: FilesWorld) -> None:
        world.make_directory("/etc/conf.d")
        with pytest.raises(FileError):
            world.port.read("/etc/conf.d")

    def test_a_new_file_appears_with_its_directories_which_are_told(self, world: FilesWorld) -> None:
        world.make_directory("/etc")
        made = world.port.replace("/etc/a/b/c.toml", b"new", mode=0o600, **ME, expect_sha256="")
        assert made == ("/etc/a", "/etc/a/b")
        fact = world.port.read("/etc/a/b/c.toml")
        assert fact is not None
        assert (fact.content, fact.mode) == (b"new", 0o600)

    def test_a_file_that_is_as_it_was_seen_is_replaced(self, world: FilesWorld) -> None:
        world.put("/etc/a.toml", b"old", mode=0o600)
        assert world.port.replace("/etc/a.toml", b"new", mode=0o644, **ME, expect_sha256=sha256(b"old")) == ()
        assert world.see("/etc/a.toml") == b"new"
        fact = world.port.read("/etc/a.toml")
        assert fact is not None
        assert fact.mode == 0o644
        assert world.port.listdir("/etc") == ("a.toml",)

    def test_what_somebody_else_changed_is_left_alone(self, world: FilesWorld) -> None:
        world.put("/etc/a.toml", b"theirs")
        with pytest.raises(FileChangedError):
            world.port.replace("/etc/a.toml", b"ours", mode=0o644, **ME, expect_sha256=sha256(b"old"))
        with pytest.raises(FileChangedError):
            world.port.replace("/etc/a.toml", b"ours", mode=0o644, **ME, expect_sha256="")
        with pytest.raises(FileChangedError):
            world.port.remove("/etc/a.toml", expect_sha256=sha256(b"old"))
        assert world.see("/etc/a.toml") == b"theirs"

    def test_a_file_that_vanished_is_not_made_again(self, world: FilesWorld) -> None:
        world.make_directory("/etc")
        with pytest.raises(FileChangedError):
            world.port.replace("/etc/gone/a.toml", b"ours", mode=0o644, **ME, expect_sha256=sha256(b"old"))
        with pytest.raises(FileChangedError):
            world.port.remove("/etc/gone/a.toml", expect_sha256=sha256(b"old"))
        assert not world.has_directory("/etc/gone")

    def test_a_link_stays_a_link_and_its_target_is_replaced(self, world: FilesWorld) -> None:
        world.put("/srv/real.toml", b"old")
        world.link("/etc/a.toml", "../srv/real.toml")
        fact = world.port.read("/etc/a.toml")
        assert fact is not None
        assert (fact.path, fact.symlink_target) == ("/etc/a.toml", "/srv/real.toml")
        world.port.replace("/etc/a.toml", b"new", mode=0o644, **ME, expect_sha256=fact.sha256)
        assert world.is_link("/etc/a.toml")
        assert world.see("/srv/real.toml") == b"new"

    def test_a_link_to_nothing_is_neither_absent_nor_filled(self, world: FilesWorld) -> None:
        world.make_directory("/srv")
        world.link("/etc/a.toml", "/srv/nothing.toml")
        with pytest.raises(FileError):
            world.port.read("/etc/a.toml")
        with pytest.raises(FileError):
            world.port.replace("/etc/a.toml", b"new", mode=0o644, **ME, expect_sha256="")
        assert world.see("/srv/nothing.toml") is None

    def test_a_file_that_is_as_it_was_seen_is_removed(self, world: FilesWorld) -> None:
        world.put("/etc/a.toml", b"old")
        world.port.remove("/etc/a.toml", expect_sha256=sha256(b"old"))
        assert world.see("/etc/a.toml") is None
        world.port.remove("/etc/a.toml", expect_sha256="")  # nothing was expected, nothing is there

    def test_a_link_is_removed_only_as_a_link(self, world: FilesWorld) -> None:
        world.put("/srv/real.toml", b"old")
        world.link("/etc/a.toml", "/srv/real.toml")
        with pytest.raises(FileError):
            world.port.remove("/etc/a.toml", expect_sha256=sha256(b"old"))
        assert not world.port.remove_link("/srv/real.toml")
        assert not world.port.remove_link("/etc/no.toml")
        assert world.port.remove_link("/etc/a.toml")
        assert not world.is_link("/etc/a.toml")
        assert world.see("/srv/real.toml") == b"old"

    def test_only_an_empty_directory_is_removed(self, world: FilesWorld) -> None:
        world.put("/etc/full/a.toml", b"")
        world.make_directory("/etc/bare")
        assert world.port.remove_empty_directory("/etc/bare")
        assert not world.has_directory("/etc/bare")
        assert not world.port.remove_empty_directory("/etc/full")
        assert not world.port.remove_empty_directory("/etc/full/a.toml")
        assert not world.port.remove_empty_directory("/etc/none")
        assert world.see("/etc/full/a.toml") == b""

    def test_a_directory_is_synced_where_it_is_there(self, world: FilesWorld) -> None:
        world.put("/etc/a.toml", b"old")
        world.port.sync("/etc")
        world.port.sync("/etc/none")
        assert world.see("/etc/a.toml") == b"old"

    def test_where_no_writer_was_killed_there_is_nothing_to_sweep(self, world: FilesWorld) -> None:
        world.put("/etc/a.toml", b"old")
        world.port.sweep("/etc/a.toml")
        world.port.sweep("/etc/gone.toml")
        world.port.sweep("/etc/none/a.toml")
        world.port.sweep("/etc/")
        world.port.sweep("/etc/none/")
        assert world.port.listdir("/etc") == ("a.toml",)

    def test_a_spool_is_emptied_and_its_directories_stay(self, world: FilesWorld) -> None:
        world.put("/srv/real.toml", b"old")
        world.put("/run/request/a", b"")
        world.put("/run/request/sub/b", b"")
        world.link("/run/request/l", "/srv/real.toml")
        assert world.port.empty("/run/request") == 2
        assert world.port.listdir("/run/request") == ("sub",)
        assert world.see("/srv/real.toml") == b"old"
        assert world.port.empty("/run/none") == 0

    @pytest.mark.parametrize("lies", ["a link to a directory", "a link to nothing", "a file"])
    def test_what_lies_in_a_spools_place_is_removed_and_nothing_that_it_leads_to(
        self, world: FilesWorld, lies: str
    ) -> None:
        world.put("/srv/real.toml", b"old")
        if lies == "a file":
            world.put("/run/request", b"")
        else:
            world.link("/run/request", "/srv" if "directory" in lies else "/nowhere")
        assert world.port.empty("/run/request") == 1
        assert world.port.empty("/run/request") == 0
        assert world.see("/srv/real.toml") == b"old"

    def test_a_file_in_the_way_of_a_directory_is_an_error(self, world: FilesWorld) -> None:
        world.put("/etc/certs.d", b"a file")
        with pytest.raises(FileError):
            world.port.replace("/etc/certs.d/hosts.toml", b"new", mode=0o644, **ME, expect_sha256="")
        assert world.see("/etc/certs.d") == b"a file"
