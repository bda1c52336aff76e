"""`nydus-agent events`: the last transitions of the health state and the route. No root, no daemon needed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from agent.commands.context import Context
from agent.commands.state.headline import assess
from agent.commands.state.picture import take
from agent.console import Console, Part, Tone, Toned
from agent.documents.status import Change, DaemonStatus
from agent.errors import Exit

HELP = "list when reads changed their way and when the mirror was found well or bad"
NEEDS_ROOT = False

HEADER = ("time", "state", "route", "cause", "why")
MOST = 100
"""The daemon keeps that many transitions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """-n."""
    parser.add_argument(
        "-n", dest="count", metavar="N", type=count, default=MOST,
        help=f"the last N, oldest first (default all, at most {MOST})",
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Exits as `status` does. Never raises on what it finds."""
    picture = take(context, time.time())
    state, console = assess(picture), context.console
    daemon = picture.daemon if isinstance(picture.daemon, DaemonStatus) else None
    history = daemon.history[-args.count :] if daemon is not None else ()
    console.line(Toned(state.headline, state.tone))
    console.line()
    if history:
        show(console, history)
    elif daemon is None:
        console.line("nothing is known: the agent takes its events along when it is stopped")
    else:
        console.line("no transition since the agent was started")
    console.emit(
        "Events",
        {
            "headline": state.headline,
            "exit": int(state.exit),
            "agent": {"state": picture.agent},
            "history": history,
        },
    )
    return state.exit


def count(text: str) -> int:
    """A number of transitions, for argparse. Raises ArgumentTypeError."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to {MOST}")
    return number


def state_step(change: Change) -> str:
    """ "healthy -> down", or "healthy" where only the route changed."""
    return _step(change.from_, change.to)


def route_step(change: Change) -> str:
    """ "mirror -> origin", or "origin" where only the health state changed or the route before is not
    known.
    """
    return _step(change.route_from, change.route)


def _step(before: str, after: str) -> str:
    return f"{before} -> {after}" if before and before != after else after


def why(change: Change) -> str:
    """The reason with its evidence."""
    return f"{change.reason} ({change.evidence})" if change.evidence else change.reason


def at(seconds: float) -> str:
    """Local time with milliseconds, as a switch is measured in them."""
    whole = int(seconds)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(whole))}.{int((seconds - whole) * 1000):03}"


def show(console: Console, changes: Sequence[Change], *, indent: int = 0) -> None:
    """A table, oldest first."""
    rows: list[tuple[Part, ...]] = []
    for change in changes:
        tone = Tone.WARN if change.route == "origin" else Tone.GOOD
        rows.append(
            (
                at(change.at),
                state_step(change),
                Toned(route_step(change), tone),
                change.cause or "-",
                why(change),
            )
        )
    console.table(rows, header=HEADER, indent=indent)
