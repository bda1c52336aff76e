"""`nydus-agent daemon`: the resident part, started by nydus-agent.service."""

from __future__ import annotations

import argparse
import asyncio

from agent import wire
from agent.commands.context import Context
from agent.daemon.service import Service
from agent.daemon.settings import Places
from agent.errors import Exit

HELP = "probe the mirror and hold the route (run by nydus-agent.service)"
NEEDS_ROOT = False


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, context: Context) -> Exit:
    """Run until SIGTERM. A wrong configuration does not keep it from starting (see Service)."""
    ports = wire.daemon_ports(context.environment)
    service = Service(lambda: context.load_config().config, ports, Places.below(context.root))
    asyncio.run(service.run())
    return Exit.OK
