"""`nydus-agent after-dpkg`: returns when no package manager is at work. The apply unit runs it first."""

from __future__ import annotations

import argparse

from agent import wire
from agent.commands.context import Context
from agent.durations import in_words, parse_duration
from agent.errors import Exit, LockedError
from agent.ports import Clock, PackageManager

HELP = "wait until dpkg and apt have finished"
NEEDS_ROOT = True
_POLL_S = 0.5  # a poll costs one system call


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--for."""
    parser.add_argument("--for", dest="patience", metavar="DURATION", type=parse_duration, default=1800)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises LockedError NNA0401."""
    waited = wait(wire.package_manager(context.root), wire.clock(), deadline_s=args.patience)
    if waited >= 1:
        context.console.progress(f"waited {in_words(waited)} for dpkg")
    return Exit.OK


def wait(manager: PackageManager, clock: Clock, *, deadline_s: float) -> float:
    """Wait until nobody holds dpkg's lock; returns the seconds waited. Raises LockedError NNA0401 at the
    deadline.

    Only the run that is under way is waited for: another may begin a moment later, as beside any other
    change.
    """
    started = clock.monotonic()
    while (holder := manager.holder()) is not None:
        waited = clock.monotonic() - started
        if waited >= deadline_s:
            raise LockedError(
                "NNA0401",
                "the node was not changed, because packages are still being installed",
                cause=f"dpkg's lock was held all the time, for {in_words(waited)}",
                seen=(f"process {holder} holds /var/lib/dpkg/lock-frontend",),
                try_="systemctl start nydus-agent-apply",
            )
        clock.sleep(_POLL_S)
    return clock.monotonic() - started
