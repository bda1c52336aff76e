"""Children that end at once, with the answers that a test wrote down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.errors import ProcessError
from agent.ports import Finished, RunningProgram
from tests.fakes.faults import Faults

Act = Callable[[tuple[str, ...], bytes], Finished]
"""(argv, stdin) -> what the child leaves behind."""


class FakeProcesses:
    """Answers by the longest matching beginning of argv, the newest first. Faults count `run`.

    `programs` maps a name to its absolute path (`which`); `ran` logs argv of each run.
    """

    def __init__(self, programs: Mapping[str, str] | None = None, *, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        self.programs = dict(programs or {})
        self.running: dict[int, tuple[RunningProgram, str]] = {}
        """pid -> what it runs, and its digest."""
        self.unseen: dict[int, ProcessError] = {}
        """pid -> the error of looking at what it runs."""
        self.cannot_start = ""
        """Why no child can be started at all; "" = they can."""
        self.ran: list[tuple[str, ...]] = []
        self._answers: list[tuple[tuple[str, ...], Act]] = []

    def on(self, *argv: str, code: int = 0, stdout: str = "", stderr: str = "") -> None:
        """A child whose argv begins so ends with this code and output."""
        self.act(*argv, by=lambda whole, _stdin: Finished(whole, code, stdout, stderr))

    def act(self, *argv: str, by: Act) -> None:
        """A child whose argv begins so is this function; it may raise ProcessError (no end in time)."""
        self._answers.insert(0, (argv, by))

    def run(
        self, argv: Sequence[str], *, deadline_s: float, ok: Sequence[int] = (0,), stdin: bytes = b""
    ) -> Finished:
        whole = tuple(argv)
        self.ran.append(whole)
        if self.cannot_start:
            raise ProcessError("NNA0221", f"cannot run {argv[0]}", cause=self.cannot_start)
        with self.faults.around("run", *whole):
            finished = self._act_for(whole)(whole, stdin)
        if finished.code not in ok:
            raise ProcessError(
                "NNA0221", f"{whole[0]} failed", cause=f"exit code {finished.code}",
                seen=tuple(finished.stderr.splitlines()[-5:]),
            )  # fmt: skip
        return finished

    def program(self, pid: int) -> RunningProgram | None:
        if pid in self.unseen:
            raise self.unseen[pid]
        return self.running[pid][0] if pid in self.running else None

    def program_sha256(self, pid: int) -> str | None:
        if pid in self.unseen:
            raise self.unseen[pid]
        return self.running[pid][1] if pid in self.running else None

    def which(self, name: str) -> str | None:
        if name.startswith("/"):
            return name if name in self.programs.values() else None
        return self.programs.get(name)

    def _act_for(self, argv: tuple[str, ...]) -> Act:
        matching = [(len(start), act) for start, act in self._answers if argv[: len(start)] == start]
        if not matching:
            raise ProcessError("NNA0221", f"cannot run {argv[0]}", cause="no such program")
        return max(matching, key=lambda pair: pair[0])[1]
