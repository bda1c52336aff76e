"""The catalogue: every error code once, with what it means, its exit code and what to do.

It feeds the CLI, the man page and the journal's message catalogue. Ranges: 01 configuration, 02 binaries and rights,
03 planning, 04 the transaction, 05 systemd, 06 containerd, 07 snapshotter and nydusd, 08 mirror and fence, 09 daemon
and endpoint, 10 command line.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import Exit


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of error."""

    code: str
    title: str
    exit: Exit
    meaning: str
    action: str


_ENTRIES = (
    Entry("NNA0101", "configuration is wrong", Exit.USAGE,
          "agent.toml or a drop-in has unknown keys, wrong types, impossible values or files in conflict.",
          "Correct the named keys; `nydus-agent check` shows all problems at once."),
    Entry("NNA0102", "configuration cannot be read", Exit.USAGE,
          "A configuration file exists but is not readable, not a regular file or not TOML.",
          "Look at the named file and its rights."),
    Entry("NNA1001", "must be root", Exit.USAGE,
          "This verb changes the node or reads root's sockets.",
          "Run it with sudo."),
    Entry("NNA1002", "command line is wrong", Exit.USAGE,
          "A verb or option is unknown, missing or has an impossible value.",
          "Look at `nydus-agent --help` and nydus-agent(8)."),
    Entry("NNA1003", "route was pinned, but the agent did not confirm it", Exit.UNKNOWN,
          "The pin is on disk, but the daemon published no status that shows it within the deadline.",
          "Look at `nydus-agent status` and `systemctl status nydus-agent`."),
    Entry("NNA1099", "bug in nydus-agent", Exit.FAILED,
          "Something happened that the program was not written for.",
          "Report it with the output of the same command under NYDUS_AGENT_DEBUG=1."),
)  # fmt: skip

CATALOGUE: dict[str, Entry] = {entry.code: entry for entry in _ENTRIES}
