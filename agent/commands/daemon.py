"""`nydus-agent daemon`: the resident part, started by nydus-agent.service."""

from __future__ import annotations

import argparse
from contextlib import closing

from agent import wire
from agent.commands.context import Context
from agent.daemon.service import Service
from agent.daemon.settings import Places
from agent.daemon.turning import Loop
from agent.errors import Exit

HELP = "probe the mirror and hold the route (run by nydus-agent.service)"
NEEDS_ROOT = False


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, context: Context) -> Exit:
    """Run until SIGTERM. A wrong configuration does not keep it from starting (see Service)."""
    ports = wire.daemon_ports(context.environment)
    with closing(Loop()) as loop:
        Service(loop, lambda: context.load_config().config, ports, Places.below(context.root)).run()
    return Exit.OK
