"""`nydus-agent apply` with its parts timed, on the node, by the installed package; the last line of stderr is JSON.

What is imported while the node is looked at counts as import and not as looking, wherever the program puts its imports;
what another thread imports meanwhile costs what it costs: it is in neither, and the command as a whole is no shorter
for being told apart.
"""

from __future__ import annotations

import builtins
import gc
import json
import os
import sys
import threading
import time
from typing import Any

_PACKAGE = "/usr/share/nydus-node-agent"


class Imports:
    """Adds up how long this thread imports."""

    def __init__(self) -> None:
        self.took_s = 0.0
        self._import = builtins.__import__
        self._depth = 0
        self._thread = threading.get_ident()

    def __enter__(self) -> Imports:
        builtins.__import__ = self._timed
        return self

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self._import

    def _timed(self, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != self._thread or self._depth:
            return self._import(*args, **kwargs)
        began = time.perf_counter()
        self._depth += 1
        try:
            return self._import(*args, **kwargs)
        finally:
            self._depth -= 1
            self.took_s += time.perf_counter() - began


def main() -> int:
    """As /usr/bin/nydus-agent does it."""
    gc.disable()
    sys.path.insert(0, _PACKAGE)
    observe_s = 0.0
    with Imports() as imports:
        from agent.__main__ import main as run
        from agent.commands import apply  # noqa: F401

        change: Any = sys.modules["agent.apply.change"]
        observe = change.observe

        def timed(*args: Any, **kwargs: Any) -> Any:
            nonlocal observe_s
            began, imported_s = time.perf_counter(), imports.took_s
            facts = observe(*args, **kwargs)
            observe_s += time.perf_counter() - began - (imports.took_s - imported_s)
            return facts

        change.observe = timed
        status = run(["apply"])
    parts = {"imports": imports.took_s * 1000, "observe": observe_s * 1000}
    print(json.dumps(parts), file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    os._exit(main())
