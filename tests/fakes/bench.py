"""What a bench touches besides containerd: programs whose output is timed, caches, dfdaemon's store, a
drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from agent.bench.figures import Chart
from agent.errors import FileError, HttpError
from agent.ports import PeerTask, ProgramEnd, Timed

Act = Callable[[tuple[str, ...]], Timed]


class FakePrograms:
    """Answers by a word of argv, the newest first; without one, a program that said a line and ended with
    0.
    """

    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []
        self._answers: list[tuple[str, Act]] = []

    def act(self, word: str, by: Act) -> None:
        """A program in whose argv this word is, is this function."""
        self._answers.insert(0, (word, by))

    def run(
        self,
        argv: Sequence[str],
        *,
        ready: str = "",
        end: Sequence[str] = (),
        deadline_s: float,
        stopped: Callable[[], bool],
    ) -> Timed:
        whole = tuple(argv)
        self.ran.append(whole)
        if stopped():
            return Timed(ProgramEnd.STOPPED, None, None, 0.0, ())
        found = (act for word, act in self._answers if word in whole)
        return next(found, lambda _argv: Timed(ProgramEnd.ITSELF, 0, 0.2, 0.5, ("hello",)))(whole)


class FakeCaches:
    """nydusd's cache directory is a set of names; `locked` is why the page cache cannot be dropped."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.dropped = 0
        self.locked = ""
        self.free, self.size = 90 << 30, 100 << 30
        self.rx: dict[str, int] = {"eth0": 0}

    def drop_pages(self) -> None:
        if self.locked:
            raise FileError("NNA1701", "the page cache cannot be dropped", cause=self.locked)
        self.dropped += 1

    def cached(self, directory: str) -> frozenset[str]:
        return frozenset(self.names)

    def remove_blob(self, directory: str, blob: str) -> None:
        if len(blob) != 64 or not blob.isalnum():
            raise FileError("NNA1701", "no cache of a blob can be removed", cause=f"{blob!r} is no sha256")
        self.names = {name for name in self.names if not name.startswith(blob)}

    def room(self, directory: str) -> tuple[int, int]:
        return self.free, self.size

    def received(self) -> Mapping[str, int]:
        return dict(self.rx)


class FakePeerStore:
    """dfdaemon's tasks by id; `down` is why it does not answer."""

    def __init__(self, *tasks: PeerTask) -> None:
        self.kept = {task.id: task for task in tasks}
        self.down = ""

    def tasks(self, socket: str, *, deadline_s: float) -> tuple[PeerTask, ...]:
        if self.down:
            raise HttpError("NNA1701", f"ListLocalTasks failed on {socket}", cause=self.down)
        return tuple(self.kept.values())

    def remove(self, socket: str, task: str, *, deadline_s: float) -> None:
        if self.down:
            raise HttpError("NNA1701", f"DeleteLocalTask failed on {socket}", cause=self.down)
        self.kept.pop(task, None)


class FakeHostsRoom:
    """Keeps every content that was held; `held` is what is there now."""

    def __init__(self) -> None:
        self.contents: list[str] = []
        self.held = ""

    @contextmanager
    def holding(self, content: bytes) -> Iterator[str]:
        self.held = content.decode()
        self.contents.append(self.held)
        try:
            yield "/run/hosts"
        finally:
            self.clear()

    def clear(self) -> None:
        self.held = ""


class FakeDrawing:
    """Keeps what was drawn; `absent` is the package that is missing."""

    def __init__(self, absent: str = "") -> None:
        self.absent = absent
        self.drawn: dict[str, Chart] = {}

    def missing(self) -> str:
        return self.absent

    def draw(self, chart: Chart, path: str) -> None:
        self.drawn[path] = chart
