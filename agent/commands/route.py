"""`nydus-agent route`: the lever that pins the route of reads for a while.

A pin is a file of root's that the daemon reads each second. It always has an end, and survives restarts and
reboots until then. `pin` and `auto` wait until the daemon's status shows the change: the operator does not
have to guess.
"""

from __future__ import annotations

import argparse

from agent import API_VERSION, paths, wire
from agent.commands.context import Context
from agent.commands.state.picture import Picture, take
from agent.console import Tone, Toned
from agent.daemon.documents import RELEASED
from agent.documents.status import DaemonStatus, PinStatus
from agent.durations import duration_option, in_words
from agent.errors import AgentError, Exit
from agent.health.evidence import Route
from agent.node.machine import present
from agent.ports import Clock
from agent.records import json_files

HELP = "pin the route of reads for a while, or let the agent judge again"
NEEDS_ROOT = False  # so that the refusal names the action too

POLL_S = 0.1
_LENGTH = duration_option("1s", "30d")
SAME_END_S = 1.0
"""The daemon may publish the end of a pin rounded; nobody pins twice within a second."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """pin, auto."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    pin = actions.add_parser("pin", help="send all reads one way for a while (root)", allow_abbrev=False)
    pin.add_argument("route", choices=["mirror", "origin"], help="where reads go")
    pin.add_argument(
        "--for", dest="duration", type=_LENGTH, default=3600, metavar="TIME",
        help="how long, such as 30s, 10m, 2h or 1h30m; at most 30d (default 1h)",
    )  # fmt: skip
    pin.add_argument("--reason", default="", metavar="TEXT", help="why; status shows it")
    auto = actions.add_parser("auto", help="end a pin: the agent judges again (root)", allow_abbrev=False)
    for changing in (pin, auto):
        changing.add_argument(
            "--wait",
            type=_LENGTH,
            default=5,
            metavar="TIME",
            help="how long to wait for the agent to show it (default 5s)",
        )


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises UsageError (no root), FileError, AgentError NNA1003 (not confirmed in time), NNA1004 (no
    fence).
    """
    clock = wire.clock()
    context.require_root(f"route {args.action}")
    if args.action == "auto":
        return _auto(context, clock, args.wait)
    now = clock.now()
    pin = PinStatus(Route(args.route), now + args.duration, _reason(args.reason), context.asker, now)
    return _pin(context, clock, pin, args)


def _reason(words: str) -> str:
    """One line of at most 200 characters, without control characters and bytes that are no UTF-8."""
    return " ".join("".join(one if one.isprintable() else " " for one in words).split())[:200]


def _pin(context: Context, clock: Clock, pin: PinStatus, args: argparse.Namespace) -> Exit:
    picture = take(context, clock.now())
    _refuse_without_fence(picture)
    daemon = picture.published
    if pin.route == "mirror" and daemon is not None and daemon.health_state in ("down", "suspect"):
        state = f"the mirror is {daemon.health_state}: {daemon.health_reason}"
        context.console.warn(f"{state}; reads may hang or fail")
    # How long, and where the boot clock stood: the pin ends by them where the wall clock is stepped back.
    made = present(context.path("/proc"))
    _write(context, route=pin.route, until=pin.until, reason=pin.reason, by=pin.by, at=pin.at,
           seconds=args.duration, boot=made.boot, boottime=made.boottime)  # fmt: skip
    done = f"reads are pinned to the {pin.route} for {in_words(args.duration)}"
    return _confirm(context, clock, args.wait, done, pin)


def _refuse_without_fence(picture: Picture) -> None:
    """Raises AgentError NNA1004 where nothing would move the reads: a pin must not look as if it held."""
    mode, why = "unknown", "nothing was applied on this node yet"
    if picture.running is not None:
        mode, why = str(picture.running.mode), picture.running.mode_reason
    elif picture.applied is not None:
        mode, why = picture.applied.switch, "; ".join(picture.applied.reasons)
    if mode != "fence":
        cause = f"only the fence can move reads; the mode is {mode}: {why}"
        what = "reads cannot be pinned on this node now"
        raise AgentError("NNA1004", what, cause=cause, try_="sudo nydus-agent doctor")


def _auto(context: Context, clock: Clock, wait_s: int) -> Exit:
    if wire.root_files(context.root).read(paths.PIN) is not None:
        # Not removed: the daemon logs who asked.
        _write(context, route=RELEASED, by=context.asker, at=clock.now())
    return _confirm(context, clock, wait_s, "the agent judges the route again", None)


def _write(context: Context, **fields: object) -> None:
    """Replace the pin atomically. Raises FileError."""
    files = wire.root_files(context.root)
    document = {"apiVersion": API_VERSION, "kind": "Pin", **fields}
    json_files.replace(files, paths.PIN, document, found=files.read(paths.PIN), mode=0o644)


def _confirm(context: Context, clock: Clock, wait_s: int, done: str, pin: PinStatus | None) -> Exit:
    """Wait until the daemon shows the pin, or that there is none.

    Raises AgentError NNA1003 where it does not in time.
    """
    console, deadline = context.console, clock.monotonic() + wait_s
    while True:
        picture = take(context, clock.now())
        daemon, body = picture.running, {"pin": pin, "agent": picture.agent}
        if daemon is None:
            effect = "it takes effect when the agent starts" if pin else "there is nothing to release"
            console.line(f"written, but the agent is {picture.agent.words}: {effect}")
            console.line("until then nydusd's own fallback decides, read by read")
            console.emit("RoutePin", {**body, "confirmed": False})
            return Exit.NOT_AS_WANTED
        taken = _is_taken(daemon, pin)
        if taken and (pin is None or daemon.route == pin.route):
            console.line(Toned(done, Tone.GOOD), f"; route now: {daemon.route}")
            console.emit("RoutePin", {**body, "confirmed": True, "route": daemon.route})
            return Exit.OK
        if clock.monotonic() >= deadline:
            cause = f"{paths.PIN} is as it should be; pid {daemon.pid} has not published it yet"
            if taken:
                still = f"but reads still go to the {daemon.route}: {daemon.route_reason}"
                cause = f"pid {daemon.pid} took it, {still}"
            what = f"the agent did not show the change within {wait_s} s"
            raise AgentError("NNA1003", what, cause=cause, try_=f"systemctl status {paths.AGENT_UNIT}")
        clock.sleep(POLL_S)


def _is_taken(daemon: DaemonStatus, pin: PinStatus | None) -> bool:
    if pin is None or daemon.pin is None:
        return daemon.pin is pin
    return daemon.pin.route == pin.route and abs(daemon.pin.until - pin.until) < SAME_END_S
