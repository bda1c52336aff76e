"""`nydus-agent events`: the last transitions of the health state and the route. No root, no daemon needed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from agent.commands.context import Context
from agent.commands.state.assessment import assess
from agent.commands.state.picture import take
from agent.console import Console, Part, Tone, Toned
from agent.documents.status import Change
from agent.errors import Exit
from agent.outside_json import whole

HELP = "list when reads changed their way and when the mirror was found well or bad"
NEEDS_ROOT = False

MOST = 100
"""The daemon keeps that many transitions."""
NOTHING = "nothing is known of before: the agent takes what it has published along when it is stopped"
NO_TRANSITION = "no transition since the agent was started"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """-n."""
    parser.add_argument(
        "-n", dest="count", metavar="N", type=count, default=MOST,
        help=f"the last N, oldest first (default all, at most {MOST})",
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Exits as `status` does. Never raises on what it finds."""
    picture = take(context, time.time())
    found, console = assess(picture), context.console
    history = picture.published.history[-args.count :] if picture.published is not None else ()
    console.line(Toned(found.headline, found.tone))
    console.line()
    if not history:
        console.line(NOTHING if picture.published is None else NO_TRANSITION)
    show(console, history)
    agent = {"state": picture.agent}
    body = {"headline": found.headline, "exit": int(found.exit), "agent": agent, "history": history}
    console.emit("Events", body)
    return found.exit


def count(text: str) -> int:
    """A number of transitions, or of starts of a bench, for argparse. Raises ArgumentTypeError."""
    number = whole(text) or 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to {MOST}")
    return number


def show(console: Console, changes: Sequence[Change], *, indent: int = 0) -> None:
    """A table, oldest first; nothing where there are none. A step is "before -> after", or the one word where
    nothing changed or what was before is not known.
    """
    rows: list[tuple[Part, ...]] = []
    for change in changes:
        tone = Tone.WARN if change.route == "origin" else Tone.GOOD
        why = f"{change.reason} ({change.evidence})" if change.evidence else change.reason
        route = Toned(_step(change.route_from, change.route), tone)
        rows.append((_at(change.at), _step(change.from_, change.to), route, change.cause or "-", why))
    if rows:
        console.table(rows, header=("time", "state", "route", "cause", "why"), indent=indent)


def _step(before: str, after: str) -> str:
    return f"{before} -> {after}" if before and before != after else after


def _at(seconds: float) -> str:
    """Local time with milliseconds, as a switch is measured in them."""
    whole = int(seconds)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(whole))}.{int((seconds - whole) * 1000):03}"
