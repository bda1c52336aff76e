"""`nydus-agent daemon`: the resident part, started by nydus-agent.service."""

from __future__ import annotations

import gc
import importlib
import sys
from contextlib import closing
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
    _without_optional()
    _without_unused()
    from agent import wire
    from agent.daemon.service import Service
    from agent.daemon.settings import Places
    from agent.daemon.turning import Loop

    ports = wire.daemon_ports(context.environment)
    with closing(Loop()) as loop:
        Service(loop, lambda: context.load_config().config, ports, Places.below(context.root)).run()
    return Exit.OK


def _without_optional() -> None:
    """What imports these where it can does without them where it cannot: hashlib has Python's own SHA-256, shutil fewer
    kinds of archives. The daemon speaks plain HTTP only, digests a few small files and packs nothing; OpenSSL would
    cost it 4 MB, bz2 and lzma 0.3. None in sys.modules makes the import fail (importlib's documentation).
    """
    for name in ("ssl", "_hashlib", "bz2", "lzma"):
        sys.modules.setdefault(name, cast(ModuleType, None))


def _without_unused() -> None:
    """Modules that a library imports and uses nowhere, or in functions only that nobody calls here (asyncio in
    structlog's coroutines, uuid in its thread-local dictionaries): the library is given empty ones while it is
    imported. asyncio would cost 2 MB, uuid 0.1 and ctypes.util, which brings tempfile and random, 0.2.
    """
    for library, unused in (("structlog", ("asyncio", "uuid")), ("watchdog.observers.inotify_c", ("ctypes.util",))):
        empty = {name: ModuleType(name) for name in unused if name not in sys.modules}
        sys.modules.update(empty)
        try:
            importlib.import_module(library)
        finally:
            for name in empty:
                del sys.modules[name]
