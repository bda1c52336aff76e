"""`nydus-agent daemon`: the resident part, started by nydus-agent.service."""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import TYPE_CHECKING, cast

from agent.commands.context import Context
from agent.errors import Exit

if TYPE_CHECKING:  # the daemon does without it (see cli)
    import argparse

HELP = "probe the mirror and hold the route (run by nydus-agent.service)"
NEEDS_ROOT = False


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, context: Context) -> Exit:
    """Run until SIGTERM. A wrong configuration does not keep it from starting (see Service)."""
    gc.enable()  # the launcher disables it, for commands that end at once
    _without_openssl()
    import asyncio

    from agent import wire
    from agent.daemon.service import Service
    from agent.daemon.settings import Places

    ports = wire.daemon_ports(context.environment)
    service = Service(lambda: context.load_config().config, ports, Places.below(context.root))
    asyncio.run(service.run())
    return Exit.OK


def _without_openssl() -> None:
    """asyncio and hashlib load OpenSSL where it is there, and do without where it is not. The daemon speaks
    plain HTTP only and digests a few small files; OpenSSL would cost it 4 MB. None in sys.modules makes an
    import fail, as the documentation of importlib says.
    """
    for name in ("ssl", "_hashlib"):
        sys.modules.setdefault(name, cast(ModuleType, None))
