"""Errors of Dragonfly's side: its files, ours and those that are there (150x)."""

from __future__ import annotations

from agent.catalogue.entry import Entry
from agent.errors import Exit

ENTRIES = (
    Entry("NNA1501", "Dragonfly's files cannot be rendered", Exit.USAGE,
          "agent.toml, or an option, names what dfdaemon could not be set up with: a port for two of its servers, say.",
          "Correct the named keys; `nydus-agent check --show` shows what is set and where."),
    Entry("NNA1502", "file is no configuration of Dragonfly", Exit.USAGE,
          "It is no YAML, or holds what dfdaemon or the chart would refuse or misread; all problems are named.",
          "Correct the named keys; `--as` says what the file is where that cannot be seen."),
    Entry("NNA1503", "file to be audited cannot be read", Exit.USAGE,
          "It is not there, not a regular file, too long, not UTF-8, or not for this user to read.",
          "Look at the named file and its rights."),
)  # fmt: skip
