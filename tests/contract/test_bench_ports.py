"""The ports of a bench: caches and dfdaemon's store on fakes and in earnest; programs that are timed; a
drawing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import FileError, ProcessError
from agent.ports import Caches, HostsRoom, ProgramEnd
from agent.system.bench_tools import MatplotlibDrawing, NodeCaches, RunHosts
from agent.system.followed import TimedChildren
from tests.contract.waiting import ENDS_S
from tests.fakes.bench import FakeCaches, FakeHostsRoom

BLOB, OTHER = "a" * 64, "b" * 64
NAMES = (f"{BLOB}.blob.data", f"{BLOB}.blob.meta", f"{BLOB}.chunk_map", f"{OTHER}.blob.data")


class CachesContract:
    """Run by a class that has a fixture `world`: a port, and a directory that holds NAMES."""

    def test_the_files_of_one_blob_go_and_others_stay(self, world: tuple[Caches, str]) -> None:
        port, directory = world
        assert port.cached(directory) == frozenset(NAMES)
        port.remove_blob(directory, BLOB)
        assert port.cached(directory) == {f"{OTHER}.blob.data"}
        port.remove_blob(directory, BLOB)

    def test_the_room_of_a_disk_is_told_also_for_a_directory_that_is_not_there_yet(
        self, world: tuple[Caches, str]
    ) -> None:
        port, directory = world
        for place in (directory, f"{directory}/not/yet"):
            free, size = port.room(place)
            assert 0 <= free <= size > 0

    @pytest.mark.parametrize("name", ["", "a", "../" + "a" * 61, "*"])
    def test_a_name_that_is_no_digest_removes_nothing(self, world: tuple[Caches, str], name: str) -> None:
        port, directory = world
        with pytest.raises(FileError) as caught:
            port.remove_blob(directory, name)
        assert caught.value.code == "NNA1701"
        assert port.cached(directory) == frozenset(NAMES)


class TestFakeCaches(CachesContract):
    @pytest.fixture
    def world(self) -> tuple[Caches, str]:
        return FakeCaches(*NAMES), "/cache"


class TestRealCaches(CachesContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> tuple[Caches, str]:
        for name in NAMES:
            (tmp_path / name).write_bytes(b"x")
        return NodeCaches(), str(tmp_path)


class HostsRoomContract:
    """Run by a class that has a fixture `room`."""

    def test_what_a_pull_goes_by_is_there_for_as_long_as_it_lasts(self, room: HostsRoom) -> None:
        for content in (b"one", b"two"):
            with room.holding(content) as directory:
                assert directory.startswith("/")
        with pytest.raises(KeyboardInterrupt), room.holding(b"three"):
            raise KeyboardInterrupt
        room.clear()
        room.clear()


class TestFakeHostsRoom(HostsRoomContract):
    @pytest.fixture
    def room(self) -> HostsRoom:
        return FakeHostsRoom()


class TestRealHostsRoom(HostsRoomContract):
    @pytest.fixture
    def room(self, tmp_path: Path) -> HostsRoom:
        return RunHosts(str(tmp_path / "bench"))

    def test_only_its_owner_can_look_into_it_and_nothing_of_it_stays(self, tmp_path: Path) -> None:
        place = tmp_path / "bench"
        (place / "left-by-a-killed-run").mkdir(parents=True)
        with RunHosts(str(place)).holding(b"secret") as directory:
            assert (place.stat().st_mode & 0o777, os.listdir(place)) == (0o700, ["_default"])
            file = Path(directory, "_default", "hosts.toml")
            assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"secret", 0o600)
        assert not place.exists()

    def test_a_link_in_its_place_is_removed_and_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "file").write_text("x")
        (tmp_path / "bench").symlink_to(tmp_path / "kept")
        with RunHosts(str(tmp_path / "bench")).holding(b"secret"):
            assert not (tmp_path / "bench").is_symlink()
        assert os.listdir(tmp_path / "kept") == ["file"]

    def test_a_place_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(FileError) as caught:
            RunHosts(str(tmp_path / "no" / "bench")).clear()
        assert caught.value.code == "NNA1701"


def test_a_link_in_the_cache_is_not_followed_and_a_missing_directory_is_empty(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    (tmp_path / BLOB).symlink_to(tmp_path / "kept")
    NodeCaches().remove_blob(str(tmp_path), BLOB)
    assert (tmp_path / "kept").exists()
    assert NodeCaches().cached(str(tmp_path / "no-such")) == frozenset()


def test_what_the_interfaces_received_is_a_count_without_loopback() -> None:
    received = NodeCaches().received()
    assert "lo" not in received
    assert min(received.values(), default=0) >= 0


def never() -> bool:
    return False


def test_a_program_that_ends_is_timed_to_its_first_output_and_to_its_end() -> None:
    for pause_s in (0.3, 3, 20):  # until its first line was read before the second one came
        timed = TimedChildren().run(
            ["sh", "-c", f"echo one; sleep {pause_s}; echo two >&2; exit 3"], deadline_s=50, stopped=never
        )  # fmt: skip
        assert (timed.end, timed.code, timed.tail) == (ProgramEnd.ITSELF, 3, ("one", "two"))
        assert timed.output_s is not None
        output_s = timed.output_s
        if output_s < pause_s:
            break
    assert output_s < pause_s <= timed.ready_s


def test_a_program_is_ready_at_the_line_that_is_waited_for_also_where_its_end_is_missing() -> None:
    says = f"listening on {os.getpid()}"  # this run's own: pkill sees those of other checkouts too
    timed = TimedChildren().run(
        ["sh", "-c", f"echo starting; sleep 0.2; printf '{says}'; sleep 60"],
        ready=r"listening on \d+", deadline_s=50, stopped=never, end=["pkill", "-f", f"{says}'"],
    )  # fmt: skip
    assert timed.end is ProgramEnd.READY
    assert 0.2 <= timed.ready_s < ENDS_S


@pytest.mark.parametrize(
    ("stopped", "end"), [(never, ProgramEnd.DEADLINE), (lambda: True, ProgramEnd.STOPPED)]
)
def test_a_program_that_does_not_end_is_ended_by_the_program_that_is_named_for_it(
    tmp_path: Path, stopped: Callable[[], bool], end: ProgramEnd
) -> None:
    flag = tmp_path / "flag"
    began = time.monotonic()
    timed = TimedChildren().run(
        ["sh", "-c", f"while [ ! -e {flag} ]; do sleep 0.05; done"],
        deadline_s=0.5, stopped=stopped, end=["touch", str(flag)],
    )  # fmt: skip
    assert (timed.end, timed.code, timed.output_s) == (end, None, None)
    assert flag.exists()
    assert time.monotonic() - began < ENDS_S


@pytest.mark.parametrize(
    ("stopped", "end"), [(never, ProgramEnd.DEADLINE), (lambda: True, ProgramEnd.STOPPED)]
)
@pytest.mark.parametrize("closes", ["", "exec >&- 2>&-; "])
def test_a_program_that_nothing_makes_end_is_not_waited_for_beyond_its_deadline_nor_beyond_a_signal(
    stopped: Callable[[], bool], end: ProgramEnd, closes: str
) -> None:
    began = time.monotonic()
    timed = TimedChildren().run(["sh", "-c", f"{closes}exec sleep 60"], deadline_s=0.5, stopped=stopped)
    assert (timed.end, timed.code, timed.output_s) == (end, None, None)
    assert time.monotonic() - began < ENDS_S


def test_a_program_that_closes_its_output_first_is_timed_to_its_end() -> None:
    timed = TimedChildren().run(
        ["sh", "-c", "exec >&- 2>&-; sleep 0.5; exit 4"], deadline_s=50, stopped=never
    )
    assert (timed.end, timed.code, timed.output_s) == (ProgramEnd.ITSELF, 4, None)
    assert 0.5 <= timed.ready_s < ENDS_S


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ProcessError) as caught:
        TimedChildren().run(["no-such-program"], deadline_s=1, stopped=never)
    assert caught.value.code == "NNA0221"


def test_a_machine_without_matplotlib_is_told_which_package_it_lacks() -> None:
    assert MatplotlibDrawing().missing() == "python3-matplotlib"


_DFDAEMON = """
import os, sys
from concurrent import futures
import grpc
from agent._pb import dfdaemon_pb2 as pb, dfdaemon_pb2_grpc
from agent.system.bench_tools import DfdaemonStore
from agent.errors import HttpError

class Store(dfdaemon_pb2_grpc.DfdaemonDownloadServicer):
    kept = {"t": pb.LocalTask(task_id="t", content_length=7,
                              response_header={"Docker-Content-Digest": "sha256:x"},
                              finished_at=pb.Timestamp(seconds=1)), "u": pb.LocalTask(task_id="u")}
    def ListLocalTasks(self, request, context):
        return pb.ListLocalTasksResponse(tasks=self.kept.values())
    def DeleteLocalTask(self, request, context):
        if request.task_id == "held":
            context.abort(grpc.StatusCode.INTERNAL, "disk is on fire")
        if request.task_id not in self.kept:
            context.abort(grpc.StatusCode.INTERNAL, f"task {request.task_id} not found")
        del self.kept[request.task_id]
        return pb.DeleteLocalTaskResponse()

server = grpc.server(futures.ThreadPoolExecutor(2))
dfdaemon_pb2_grpc.add_DfdaemonDownloadServicer_to_server(Store(), server)
server.add_insecure_port(f"unix://{sys.argv[1]}")
server.start()
store = DfdaemonStore()
found = sorted(store.tasks(sys.argv[1], deadline_s=5), key=lambda t: t.id)
print([(t.id, t.size, t.finished, t.headers) for t in found])
store.remove(sys.argv[1], "t", deadline_s=5)
store.remove(sys.argv[1], "t", deadline_s=5)
print([t.id for t in store.tasks(sys.argv[1], deadline_s=5)])
for ask in (lambda: store.remove(sys.argv[1], "held", deadline_s=5),
            lambda: store.tasks("/no/such", deadline_s=1)):
    try:
        ask()
    except HttpError as error:
        print(error.code, error.cause.split()[0])
server.stop(0)
"""


def test_what_dfdaemon_keeps_is_listed_and_removed_over_its_socket(tmp_path: Path) -> None:
    # In a process of its own: while grpc winds a channel down, nothing may fork there.
    argv = [sys.executable, "-c", _DFDAEMON, str(tmp_path / "s")]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.stdout.splitlines() == [
        "[('t', 7, True, ('sha256:x',)), ('u', 0, False, ())]",
        "['u']",
        "NNA1701 INTERNAL",
        "NNA1701 UNAVAILABLE",
    ]
