"""Scenarios, and the children that run them: each verb in a process of its own that may be killed at any
moment.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError
from tests.bench.survival import picture
from tests.bench.survival.picture import Picture
from tests.bench.survival.stage import FIRST, SECOND, Stage, view

OK, FAILED, BUG = 0, 1, 99
"""Exit status of a child: done, an error that an operator would be told, and one that nobody foresaw."""

Act = Callable[[Stage], None]


@dataclass(frozen=True)
class Scenario:
    """One change of a node that was prepared once; each round works on a copy of it."""

    name: str
    act: Act
    template: Path
    before: Picture
    after: Picture

    def copy(self, to: Path) -> Path:
        """A node in its state before."""
        return clone(self.template, to)

    def verdict(self, root: Path) -> tuple[str, str]:
        """ "before", "after" or "mixed", and for the last what is wrong."""
        now = picture.take(root)
        if now == self.before:
            return "before", ""
        if now == self.after:
            return "after", ""
        nearer_before = now.accepted == self.before.accepted
        against = self.before if nearer_before else self.after
        return "mixed", f"not {'before' if nearer_before else 'after'}: {picture.differs(now, against)}"


_PREPARED: dict[str, tuple[tuple[Act, ...], Act]] = {
    "apply": ((), lambda stage: stage.apply(FIRST)),
    "change": ((lambda stage: stage.apply(FIRST),), lambda stage: stage.apply(SECOND)),
    "rollback": ((lambda stage: stage.apply(FIRST), lambda stage: stage.apply(SECOND)), Stage.roll_back),
    "remove": ((lambda stage: stage.apply(FIRST), lambda stage: stage.apply(SECOND)), Stage.remove),
}
"""name -> what makes the node before, and the verb."""
NAMES = tuple(_PREPARED)


def prepare(name: str, scratch: Path) -> Scenario:
    """Lay the node, and see what the verb makes of it when nobody disturbs it."""
    prior, act = _PREPARED[name]
    template = scratch / f"{name}.template"
    template.mkdir()
    Stage(template).lay()
    for step in prior:
        _must(template, step)
    after = clone(template, scratch / f"{name}.after")
    _must(after, act)
    return Scenario(name, act, template, picture.take(template), picture.take(after))


def _must(root: Path, act: Act) -> None:
    ended = Child(root, act).wait()
    assert ended == OK, f"undisturbed, it ended with {ended}:\n{said(root)}"


def clone(source: Path, to: Path) -> Path:
    """A copy of a node, with what its services know."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(source, to, symlinks=True)
    shutil.copy2(f"{source}.machine", f"{to}.machine")
    Path(f"{to}.machine.view").unlink(missing_ok=True)
    view(to)
    return to


def said(root: Path) -> str:
    """What the last child that ended badly had to say."""
    place = Path(f"{root}.said")
    return place.read_text() if place.exists() else ""


class Process:
    """Work in a process of its own; what it died of is written beside `root`."""

    def __init__(
        self, root: Path, work: Callable[[], None], *, first: Callable[[], None] = lambda: None
    ) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run(root, work, first))

    def kill_after(self, seconds: float) -> int:
        """SIGKILL in so many seconds; its exit status, or -9."""
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def ended(self) -> bool:
        """Whether it has ended; `wait` then says how."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self) -> int:
        """Its exit status, the signal's number with a minus."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Child(Process):
    """A verb in a process of its own."""

    def __init__(self, root: Path, act: Act, *, first: Callable[[], None] = lambda: None) -> None:
        super().__init__(root, lambda: act(Stage(root)), first=first)


def _run(root: Path, work: Callable[[], None], first: Callable[[], None]) -> int:
    try:
        first()
        work()
    except AgentError as error:
        Path(f"{root}.said").write_text(f"{error}\n{error.seen}")
        return FAILED
    except BaseException:  # noqa: BLE001 - a child says what it died of
        Path(f"{root}.said").write_text(traceback.format_exc())
        return BUG
    return OK
