"""`nydus-agent daemon`: the resident part, started by nydus-agent.service."""

from __future__ import annotations

import argparse
import gc
import sys
from contextlib import closing
from types import ModuleType
from typing import cast

from agent.commands.context import Context
from agent.errors import Exit

HELP = "probe the mirror and hold the route (run by nydus-agent.service)"
NEEDS_ROOT = False


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, context: Context) -> Exit:
    """Run until SIGTERM. A wrong configuration does not keep it from starting (see Service)."""
    gc.enable()  # the launcher disables it, for commands that end at once
    _without_openssl()
    _without_asyncio()
    from agent import wire
    from agent.daemon.service import Service
    from agent.daemon.settings import Places
    from agent.daemon.turning import Loop

    ports = wire.daemon_ports(context.environment)
    with closing(Loop()) as loop:
        Service(loop, lambda: context.load_config().config, ports, Places.below(context.root)).run()
    return Exit.OK


def _without_openssl() -> None:
    """What imports ssl or _hashlib where it can does without them where it cannot: hashlib has Python's own SHA-256
    then. The daemon speaks plain HTTP only and digests a few small files; OpenSSL would cost it 4 MB. None in
    sys.modules makes the import fail (importlib's documentation).
    """
    for name in ("ssl", "_hashlib"):
        sys.modules.setdefault(name, cast(ModuleType, None))


def _without_asyncio() -> None:
    """structlog imports asyncio and uses it in its coroutines only, which nobody calls here; it would cost 2 MB. So
    structlog is given an empty module of that name while it is imported.
    """
    if "asyncio" in sys.modules:
        return
    sys.modules["asyncio"] = ModuleType("asyncio")
    try:
        import structlog  # noqa: F401 - so that it is there
    finally:
        del sys.modules["asyncio"]
