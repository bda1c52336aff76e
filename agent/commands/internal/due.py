"""`nydus-agent due`: may a change of this node begin by itself? Asked by the boot unit and after an
installation.

Exit code 0: yes. 3: no, only `nydus-agent apply` or `systemctl start nydus-agent-apply` begin one.
"""

from __future__ import annotations

import argparse

from agent import wire
from agent.apply import confirm
from agent.commands.context import Context
from agent.errors import Exit
from agent.records import generations

HELP = "say whether a change may begin by itself"
NEEDS_ROOT = True

BOOT, INSTALL = "boot", "install"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The occasion."""
    parser.add_argument(
        "occasion", choices=[BOOT, INSTALL], help="the node has booted, or a package was installed"
    )


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, ApplyError NNA0410, FileError."""
    on_install = context.load_config().config.apply.on_install
    # An upgrade does not change a node by itself: that a generation was accepted counts at boot only.
    files = wire.root_files(context.root)
    accepted = args.occasion == BOOT and generations.applied(files) is not None
    due, why = judge(on_install=on_install, accepted=accepted, hold=confirm.hold(files))
    context.console.line(("due: " if due else "not due: ") + why)
    context.console.emit("Due", {"due": due, "why": why})
    return Exit.OK if due else Exit.NOT_AS_WANTED


def judge(*, on_install: bool, accepted: bool, hold: str = "") -> tuple[bool, str]:
    """Whether a change may begin, and why."""
    if hold:
        return False, hold
    if accepted:
        return True, "a generation was accepted before"
    if on_install:
        return True, "[apply] on_install is set"
    return False, "nothing was accepted before and [apply] on_install is not set"
