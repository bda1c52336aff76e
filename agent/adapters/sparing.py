"""Libraries without modules that they import and nobody here needs: loading those is most of what some of them cost."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType


def load(library: str, instead: Mapping[str, ModuleType | None]) -> None:
    """Import a library while these modules stand where others would; None: it cannot import that one, and can do
    without. Afterwards it is as if nobody had asked for them.

    What is loaded already stays as it is. Whatever another thread imports meanwhile meets them too.
    """
    if library in sys.modules:
        return
    put = {name: module for name, module in instead.items() if name not in sys.modules}
    sys.modules.update(put)  # type: ignore[arg-type] # None makes an import fail (importlib's documentation)
    try:
        importlib.import_module(library)
    finally:
        for name in put:
            del sys.modules[name]
