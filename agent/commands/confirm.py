"""`nydus-agent confirm`: keep the change that `apply --confirm` made; otherwise it is taken back by
itself.
"""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import confirm
from agent.commands.context import Context
from agent.config.model import Config
from agent.console import Tone, Toned
from agent.durations import in_words
from agent.errors import Exit
from agent.ports import Ports
from agent.records.generations import Pending

HELP = "keep the change that apply --confirm made, before it is taken back"
NEEDS_ROOT = True


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, context: Context) -> Exit:
    """Raises LockedError (the change, or its rollback, is under way), ApplyError NNA0418 (too late),
    NNA0410.
    """
    ports = wire.root_ports(Config())  # no word of the configuration counts here, and it may be broken
    return tell(keep(ports), context)


def keep(ports: Ports) -> tuple[Pending, float] | None:
    """Under the lock. Raises as `run`."""
    with ports.ledger.lock("confirm"):
        return confirm.confirm(ports)


def tell(kept: tuple[Pending, float] | None, context: Context) -> Exit:
    """Say what stays, and how long was left."""
    console = context.console
    if kept is None:
        console.line("nothing waits for a confirmation")
        console.emit("ConfirmResult", {"changed": False, "generation": None, "left_s": None})
        return Exit.OK
    change, left = kept
    done = Toned(f"generation {change.generation} is confirmed", Tone.GOOD)
    console.line(done, f"; {in_words(left)} of {in_words(change.seconds)} were left")
    body = {"changed": True, "generation": change.generation, "left_s": round(left, 1)}
    console.emit("ConfirmResult", body)
    return Exit.OK
