"""The daemon's small ports: the same promises for the fakes and for the real thing."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from agent.errors import PortError
from agent.netfilter.cgroups import CgroupTree
from agent.netfilter.sock_diag import KernelSockets
from agent.ports import Names, SocketTables, Watch
from agent.system import journal
from agent.system.resident import InotifyWatch, SystemdNotify, SystemNames
from tests.contract.netns import own_network
from tests.contract.waiting import ENDS_S
from tests.fakes.daemon import FakeNames, FakeTables, FakeWatch
from tests.fakes.event_loop import go


class Touched:
    """A watch, and a way to change a file under it."""

    def __init__(self, watch: Watch, directory: Path) -> None:
        self.watch = watch
        self.directory = directory

    def change(self, name: str) -> str:
        path = self.directory / name
        if isinstance(self.watch, FakeWatch):
            self.watch.touch(str(path))
        else:
            temporary = path.with_suffix(".new")
            temporary.write_text("x")
            temporary.rename(path)
        return str(path)

    def readable(self, within_s: float) -> bool:
        return bool(select.select([self.watch.fileno()], [], [], within_s)[0])


class TestWatch:
    @pytest.fixture(params=["fake", "inotify"])
    def touched(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Touched]:
        if request.param == "fake":
            fake = FakeWatch()
            yield Touched(fake, tmp_path)
            fake.close()
            return
        real = InotifyWatch("/")
        yield Touched(real, tmp_path)
        real.close()

    def test_a_replaced_file_wakes_the_loop_and_is_named(self, touched: Touched) -> None:
        assert touched.watch.add(str(touched.directory))
        assert not touched.readable(0)
        path = touched.change("config.toml")
        assert touched.readable(2)
        assert path in touched.watch.changed()
        assert not touched.readable(0)
        assert touched.watch.changed() == ()

    def test_adding_a_directory_twice_is_no_error(self, touched: Touched) -> None:
        assert touched.watch.add(str(touched.directory))
        assert touched.watch.add(str(touched.directory))
        touched.change("x")
        assert touched.readable(2)


class TestInotify:
    def test_a_directory_that_is_not_there_is_watched_once_it_is(self, tmp_path: Path) -> None:
        watch = InotifyWatch("/")
        assert watch.add(str(tmp_path / "later")) is False
        (tmp_path / "later").mkdir()
        assert watch.add(str(tmp_path / "later")) is True
        (tmp_path / "later").rmdir()
        watch.changed()
        (tmp_path / "later").mkdir()
        assert watch.add(str(tmp_path / "later")) is True
        (tmp_path / "later" / "x").touch()
        assert str(tmp_path / "later" / "x") in watch.changed()
        watch.close()

    def test_it_takes_no_thread(self) -> None:
        before = os.listdir("/proc/self/task")
        watch = InotifyWatch("/")
        assert os.listdir("/proc/self/task") == before
        watch.close()


class TestNames:
    @pytest.fixture(params=["fake", "system"])
    def names(self, request: pytest.FixtureRequest) -> Names:
        return FakeNames() if request.param == "fake" else SystemNames()

    def test_an_address_stands_for_itself(self, names: Names) -> None:
        assert answer_of(names, "127.0.0.1") == ("127.0.0.1",)

    @pytest.mark.parametrize(
        "host",
        ["no-such-host.invalid", "x" * 80 + ".invalid", "\u00e4" * 80 + ".invalid"],
        ids=["unknown", "too long", "too long in another script"],
    )
    def test_a_name_that_nobody_knows_is_an_error(self, names: Names, host: str) -> None:
        assert isinstance(answer_of(names, host), PortError)

    def test_no_thread_is_left(self) -> None:
        before = len(os.listdir("/proc/self/task"))
        answer_of(SystemNames(), "localhost")
        deadline = time.monotonic() + 60
        while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
            time.sleep(0.01)
        # A thread of a test before may have ended meanwhile.
        assert len(os.listdir("/proc/self/task")) <= before


def answer_of(names: Names, host: str) -> tuple[str, ...] | PortError:
    """The addresses, or why there are none."""
    try:
        return go(names.addresses(host), 60)
    except PortError as error:
        return error


class TestTables:
    @pytest.fixture(params=["fake", "kernel"])
    def tables(self, request: pytest.FixtureRequest) -> Iterator[tuple[SocketTables, int]]:
        """Tables, and a port that root holds on 127.0.0.1."""
        if request.param == "fake":
            fake = FakeTables()
            fake.held[4001] = 0
            yield fake, 4001
            return
        with (
            own_network(),
            socket.create_server(("127.0.0.1", 0)) as server,
            closing(KernelSockets()) as real,
        ):
            yield real, server.getsockname()[1]

    def test_the_holder_of_a_port_is_found(self, tables: tuple[SocketTables, int]) -> None:
        real, port = tables
        ((address, uid, inode),) = real.listening(port)
        assert (address, uid) == ("127.0.0.1", 0)
        assert inode > 0
        assert real.listening(port + 1) == ()
        found = real.find_listener("127.0.0.1", port)
        assert found is not None
        assert (found.address, found.port, found.uid, found.inode) == (address, port, uid, inode)
        assert real.find_listener("127.0.0.1", port + 1) is None

    def test_the_holder_is_told_in_words(self) -> None:
        with (
            own_network(),
            socket.create_server(("127.0.0.1", 0)) as server,
            closing(KernelSockets()) as tables,
        ):
            ((_, uid, inode),) = tables.listening(server.getsockname()[1])
            assert f"pid {os.getpid()}" in tables.holder(uid, inode)
            assert tables.holder(4_000_000_000, 1) == "uid 4000000000"

    @pytest.mark.parametrize(
        ("host", "seen"), [("::", "::"), ("::1", "::1"), ("::ffff:127.0.0.1", "127.0.0.1")]
    )
    def test_listeners_of_ipv6_are_seen_and_mapped_addresses_are_what_they_stand_for(
        self, host: str, seen: str
    ) -> None:
        with own_network(), socket.socket(socket.AF_INET6) as server:
            server.bind((host, 0))
            server.listen()
            with closing(KernelSockets()) as tables:
                assert [row[0] for row in tables.listening(server.getsockname()[1])] == [seen]

    def test_one_look_sees_the_listeners_of_both_families(self) -> None:
        with (
            own_network(),
            socket.create_server(("127.0.0.1", 0)) as old,
            socket.socket(socket.AF_INET6) as new,
        ):
            port = old.getsockname()[1]
            new.bind(("::1", port))
            new.listen()
            with closing(KernelSockets()) as tables:
                assert sorted(row[0] for row in tables.listening(port)) == ["127.0.0.1", "::1"]


class TestNotify:
    def test_the_manager_hears_what_was_sent(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
            with closing(SystemdNotify(environment)) as notify:
                notify.send("READY=1", "STATUS=all well")
                assert manager.recv(1000) == b"READY=1\nSTATUS=all well"
                assert notify.watchdog_s == 3.0

    def test_a_manager_that_was_away_for_a_moment_hears_the_next_sign_of_life(self, tmp_path: Path) -> None:
        path = tmp_path / "notify"
        with closing(SystemdNotify({"NOTIFY_SOCKET": str(path)})) as notify:
            for _ in range(2):
                notify.send("WATCHDOG=1")
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                    manager.bind(str(path))
                    manager.settimeout(60)
                    notify.send("WATCHDOG=1")
                    assert manager.recv(1000) == b"WATCHDOG=1"
                notify.send("WATCHDOG=1")
                path.unlink()

    def test_a_line_break_in_a_text_gives_the_manager_no_second_assignment(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(60)
            with closing(SystemdNotify({"NOTIFY_SOCKET": str(tmp_path / "notify")})) as notify:
                notify.send("READY=1", "STATUS=the mirror said\nMAINPID=1")
            assert manager.recv(4096) == b"READY=1\nSTATUS=the mirror said MAINPID=1"

    def test_an_abstract_address_works_too(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(f"\0nydus-agent-test-{os.getpid()}")
            with closing(SystemdNotify({"NOTIFY_SOCKET": f"@nydus-agent-test-{os.getpid()}"})) as notify:
                notify.send("WATCHDOG=1")
            assert manager.recv(1000) == b"WATCHDOG=1"

    def test_nobody_who_listens_is_no_error(self, tmp_path: Path) -> None:
        SystemdNotify({}).send("READY=1")
        with closing(SystemdNotify({"NOTIFY_SOCKET": str(tmp_path / "gone")})) as gone:
            gone.send("READY=1")
            assert gone.watchdog_s == 0.0


def drained(journald: socket.socket) -> list[int]:
    """The messages, which are numbers, of all entries that lie in the socket."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while entry := journald.recv(65536):
            found.append(int(entry.split(b"\n")[0].removeprefix(b"MESSAGE=")))
    return found


class TestLog:
    @pytest.fixture(autouse=True)
    def structlog_as_it_was(self) -> Iterator[None]:
        yield
        structlog.reset_defaults()

    def test_a_line_becomes_an_entry_with_fields(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
            journald.bind(str(tmp_path / "socket"))
            writer = journal.configure(str(tmp_path / "socket"))
            structlog.get_logger().warning(
                "mirror down", message_id="abc", route="origin", evidence="two\nlines"
            )
            entry = journald.recv(65536)
            writer.close()
        lines = entry.split(b"\n")
        for expected in (
            b"MESSAGE=mirror down",
            b"PRIORITY=4",
            b"MESSAGE_ID=abc",
            b"NYDUS_AGENT_ROUTE=origin",
        ):
            assert expected in lines
        assert b"NYDUS_AGENT_EVIDENCE\n\x09\0\0\0\0\0\0\0two\nlines\n" in entry

    def test_a_full_journal_is_not_waited_for_and_gets_later_what_it_missed(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
            journald.bind(str(tmp_path / "socket"))
            journald.setblocking(False)
            writer = journal.configure(str(tmp_path / "socket"))
            logger = structlog.get_logger()
            started = time.monotonic()
            for number in range(1000):
                # Nobody reads: the queue of a datagram socket holds some hundreds at most.
                logger.info(str(number))
            assert time.monotonic() - started < ENDS_S
            first, later = drained(journald), []
            for number in range(1000, 1100):
                logger.info(str(number))
                later += drained(journald)
            writer.close()
        assert first == list(range(len(first)))
        assert later == list(range(later[0], 1100))
        assert 930 < later[0] < 950
        assert capsys.readouterr().err == ""

    def test_without_a_journal_it_goes_to_stderr_with_its_priority(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        writer = journal.configure(str(tmp_path / "gone"))
        structlog.get_logger().info("started", route="mirror")
        structlog.get_logger().debug("never seen")
        writer.close()
        captured = capsys.readouterr()
        assert captured.err == "<6>started route=mirror\n"
        assert captured.out == ""


class TestCgroups:
    def test_processes_are_found_by_their_names_or_how_these_begin(self) -> None:
        tree = CgroupTree()
        code = "open('/proc/self/comm', 'w').write('nydusd-2.4.4'); print(1, flush=True); input()"
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-I", "-c", code], stdin=pipe, stdout=pipe) as child:
            assert child.stdout is not None
            child.stdout.readline()
            assert tree.own() in tree.of_processes("nydusd*")["nydusd*"]
            assert tree.own() not in tree.of_processes("nydusd")["nydusd"]
            assert tree.own() in tree.of_processes("nydusd", "nydusd-2.4.4")["nydusd-2.4.4"]
            child.communicate(b"\n", timeout=60)

    def test_the_id_of_a_cgroup_is_that_of_its_sockets(self) -> None:
        tree = CgroupTree()
        ids = tree.ids((tree.own(), "/no/such/cgroup"))
        assert list(ids.values()) == [tree.own()]
