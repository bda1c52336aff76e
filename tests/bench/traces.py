"""`make bench-traces`: through how many files a reader goes who follows a ping, a change or a status.

Method: the real code on a node of fakes, in one process; each function of agent/ that is called is recorded,
in every thread (sys.setprofile). A move is a call into another file than the call before. The ping's trace
begins with the first ping that the mirror refuses and ends when the fence is raised; what other tasks of the
daemon do in that time is not counted: a call counts where its stack holds a function of the ping. The figures
of version 2 were made the same way for the review of it: they are the last column.
"""

from __future__ import annotations

import io
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tests.bench.report import Goal, Row, publish, quick
from tests.bench.survival.stage import FIRST, Stage
from tests.contract.test_convert_verb import Place, tar
from tests.fakes.event_loop import on_time, until
from tests.fakes.mirror import SmallMirror, Way
from tests.unit.daemon_node import Node, running
from tests.unit.published import Answer, PublishedNode

METHOD = "the real code on a node of fakes, each call of a function of agent/ recorded"
AGENT = str(Path(__file__).parents[2] / "agent") + "/"
_BEFORE = {
    "failing ping to fence": (16, 84, 150, 65),
    "apply, first": (76, 414, 3363, 1149),
    "apply, nothing to do": (57, 250, 1084, 433),
    "status": (21, 110, 831, 118),
    "convert of two layers": (50, 271, 963, 351),
}
"""case -> files, functions, calls, moves of version 2."""
_GOALS = {
    "failing ping to fence": 8, "apply, first": 30, "apply, nothing to do": 25, "status": 10,
    "convert of two layers": 15,
}  # fmt: skip
"""case -> files at most."""


@dataclass
class Trace:
    """The calls that were recorded, in their order: (file, function)."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def files(self) -> list[str]:
        """Each file once, in the order in which it was entered."""
        return list(dict.fromkeys(file for file, _ in self.calls))

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Files, functions, calls, moves."""
        moves = sum(one[0] != other[0] for one, other in zip(self.calls, self.calls[1:], strict=False))
        return len(self.files), len(set(self.calls)), len(self.calls), moves


@contextmanager
def recorded(only: Callable[[FrameType], bool] = lambda _: True) -> Iterator[Trace]:
    """What is called inside, where `only` says that it counts."""
    trace = Trace()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        # A comprehension or a lambda is no place to which a reader goes.
        ours = code.co_filename.startswith(AGENT) and "/_pb/" not in code.co_filename
        if event == "call" and ours and not code.co_name.startswith("<") and only(frame):
            trace.calls.append((code.co_filename.removeprefix(AGENT), code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield trace
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def failing_ping(directory: Path) -> Trace:
    """From the first ping that is refused until the fence stands."""
    traces = []

    async def work() -> None:
        async with SmallMirror() as mirror:
            node = Node(directory, mirror)
            async with running(node):
                await until(node.is_("healthy", "mirror"))
                with recorded(only=_of_the_ping) as trace:
                    mirror.all_fail(Way.RESET)
                    await until(node.fenced)
                traces.append(_until_the_fence(trace))

    on_time(work)
    return traces[0]


def _until_the_fence(trace: Trace) -> Trace:
    names = [name for _, name in trace.calls]
    return Trace(trace.calls[names.index("Pinger.ping") : names.index("FenceLease.raise_") + 1])


def _of_the_ping(frame: FrameType) -> bool:
    at: FrameType | None = frame
    while at is not None:
        if at.f_code.co_filename.startswith(AGENT + "daemon/") and "ping" in at.f_code.co_qualname.lower():
            return True
        at = at.f_back
    return False


def applies(directory: Path) -> tuple[Trace, Trace]:
    """The first apply of a node, and the next one, which has nothing to do."""
    directory.mkdir()
    Stage(directory).lay()
    with recorded() as first:
        Stage(directory).apply(FIRST)
    with recorded() as nothing:
        Stage(directory).apply(FIRST)
    return first, nothing


def status(directory: Path) -> Trace:
    """The verb on a node that is well."""
    node = PublishedNode(directory)
    with recorded() as trace:
        Answer(node)
    return trace


def convert(directory: Path) -> Trace:
    """The verb, with skopeo and a builder that is as simple as can be."""
    place = Place(directory)
    source = place.image(tar("DATA-1"), tar("DATA-2"))
    out = io.StringIO()
    with recorded() as trace:
        told = place.run(source)
    if told.code:
        raise RuntimeError(f"convert: {told.err}{out.getvalue()}")
    return trace


def main() -> int:
    """Trace and publish."""
    quick()
    with tempfile.TemporaryDirectory(dir="/run") as scratch:
        places = [Path(scratch) / str(number) for number in range(4)]
        for place in places:
            place.mkdir()
        first, nothing = applies(places[0] / "root")
        traces = dict(
            zip(
                _GOALS,
                (failing_ping(places[1]), first, nothing, status(places[2]), convert(places[3])),
                strict=True,
            )
        )
    for case, trace in traces.items():
        print(f"{case}: {' '.join(trace.files)}", flush=True)
    rows = [_row(case, trace) for case, trace in traces.items()]
    goals = [Goal(case, float(len(trace.files)), _GOALS[case], "files") for case, trace in traces.items()]
    return publish("traces", METHOD, rows, goals=goals)


def _row(case: str, trace: Trace) -> Row:
    files, functions, calls, moves = trace.figures
    before = " / ".join(str(figure) for figure in _BEFORE[case])
    extra: dict[str, float | str] = {
        "functions": functions,
        "calls": calls,
        "moves": moves,
        "version 2": before,
    }
    return Row(case, 1, files, files, files, "files", extra=extra)


if __name__ == "__main__":
    sys.exit(main())
