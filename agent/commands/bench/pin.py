"""The route while a bench measures: `route pin origin` for short whiles, and `route auto` after it."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import replace

from agent.commands import route
from agent.commands.context import Context
from agent.commands.state.picture import Agent, Picture, take
from agent.console import Console, Format
from agent.documents.status import DaemonStatus
from agent.errors import AgentError, Exit
from agent.ports import Clock

_WAIT_S = 10
_POLL_S = 0.25
REASON = "nydus-agent bench measures without Dragonfly"


class Lever:
    """Pins that the bench sets end by themselves; one that was there before is left alone."""

    def __init__(self, context: Context, clock: Clock, stopped: Callable[[], bool]) -> None:
        self._context, self._clock, self._stopped = context, clock, stopped
        self._quiet = replace(context, console=Console(io.StringIO(), io.StringIO(), Format.JSON))
        self._ours = False

    def origin(self, seconds: int) -> str:
        """Reads of the whole node go to the origin for at most so long; "" or why they do not."""
        held = take(self._context, self._clock.now()).valid_pin
        if held is not None and not self._ours:
            return "" if held.route == "origin" else f"the route is pinned to the {held.route}"
        wanted = argparse.Namespace(
            action="pin", route="origin", duration=seconds, reason=REASON, wait=_WAIT_S
        )
        try:
            self._ours = True
            done = route.run(wanted, self._quiet)
        except AgentError as error:
            return f"{error.what}: {error.cause}"
        return "" if done is Exit.OK else "the agent does not run, so nothing moves the reads"

    def mirror(self, seconds: float) -> str:
        """The agent judges again, and has so long to go back to the mirror, or until somebody stops us; "" or
        why reads do not go there.
        """
        if problem := self.release():
            return problem
        deadline = self._clock.monotonic() + seconds
        while True:
            picture = take(self._context, self._clock.now())
            problem = _elsewhere(picture)
            late = self._clock.monotonic() > deadline
            if not problem or late or picture.valid_pin is not None or self._stopped():
                return problem
            self._clock.sleep(_POLL_S)

    def release(self) -> str:
        """End our own pin, where there is one; "" or why it could not be told."""
        if not self._ours:
            return ""
        try:
            route.run(argparse.Namespace(action="auto", wait=_WAIT_S), self._quiet)
        except AgentError as error:
            return f"{error.what}: {error.cause}"
        self._ours = False
        return ""


def _elsewhere(picture: Picture) -> str:
    """Why reads do not go to the mirror; "" = they do, or nothing of ours moves them."""
    daemon = picture.daemon
    if picture.agent is not Agent.RUNNING or not isinstance(daemon, DaemonStatus) or daemon.mode != "fence":
        return ""
    return "" if daemon.route == "mirror" else f"reads go to the {daemon.route}: {daemon.route_reason}"
