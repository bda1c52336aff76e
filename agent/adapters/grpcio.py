"""grpcio without the half of it that nobody here uses: `grpc.aio`, with the asyncio and ssl that it needs, is a third
of what loading it takes.
"""

from __future__ import annotations

import contextlib
from types import ModuleType

from agent.adapters import sparing

# One that cannot be loaded so (1.51 can) is loaded as it is.
with contextlib.suppress(ImportError, AttributeError):
    sparing.load("grpc", {name: ModuleType(name) for name in ("asyncio", "grpc.aio")})
import grpc as grpc
