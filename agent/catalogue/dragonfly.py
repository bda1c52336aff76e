"""Errors of Dragonfly's side: its files (150x)."""

from __future__ import annotations

from agent.catalogue.entry import Entry
from agent.errors import Exit

ENTRIES = (
    Entry("NNA1501", "Dragonfly's files cannot be rendered", Exit.USAGE,
          "agent.toml, or an option, names what dfdaemon could not be set up with: a port for two of its servers, say.",
          "Correct the named keys; `nydus-agent check --show` shows what is set and where."),
)  # fmt: skip
