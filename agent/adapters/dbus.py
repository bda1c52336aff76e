"""pystemd's bus without the rest of pystemd: the package imports lxml for an object layer that nobody here uses, which
takes as long as all that the bus itself and our adapters take.
"""

from __future__ import annotations

import importlib.util
import sys


def _only_the_bus() -> None:
    """Put the package in its place without running its own code; its parts are found by it all the same."""
    spec = importlib.util.find_spec("pystemd")
    if "pystemd" not in sys.modules and spec is not None:
        sys.modules["pystemd"] = importlib.util.module_from_spec(spec)


_only_the_bus()
from pystemd.dbusexc import DBusBaseError as DBusBaseError  # noqa: E402 - not before its package is there
from pystemd.dbuslib import DBus as DBus  # noqa: E402
from pystemd.dbuslib import apply_signature as apply_signature  # noqa: E402
