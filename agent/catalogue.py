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
    Entry("NNA0430", "packages are still being installed", Exit.LOCKED,
          "nydus-agent-apply.service waits until dpkg has finished, and it did not within half an hour.",
          "When it has: systemctl start nydus-agent-apply"),
    Entry("NNA1001", "must be root", Exit.USAGE,
          "This verb changes the node or reads root's sockets.",
          "Run it with sudo."),
    Entry("NNA1002", "command line is wrong", Exit.USAGE,
          "A verb or option is unknown, missing or has an impossible value.",
          "Look at `nydus-agent --help` and nydus-agent(8)."),
    Entry("NNA1003", "route was pinned, but the agent did not confirm it", Exit.UNKNOWN,
          "The pin is on disk, but the daemon published no status that shows it within the deadline.",
          "Look at `nydus-agent status` and `systemctl status nydus-agent`."),
    Entry("NNA1010", "agent is not running", Exit.NOT_AS_WANTED,
          "Nothing judges the mirror and nothing is fenced; reads that fail at the mirror fall back one by one in nydusd.",
          "Start it: `systemctl start nydus-agent`."),
    Entry("NNA1011", "agent publishes nothing", Exit.UNKNOWN,
          "The daemon's process lives, but its last publication is old.",
          "Restart it: `systemctl restart nydus-agent`; the lease of a fence survives that."),
    Entry("NNA1012", "published file cannot be read", Exit.UNKNOWN,
          "A file that `status` answers from is not readable, not a regular file or not JSON.",
          "Look at the named file and its rights."),
    Entry("NNA1014", "mirror is not well", Exit.NOT_AS_WANTED,
          "Probes or real reads showed that the mirror does not answer, or answers wrongly.",
          "Look at dfdaemon's own log; `nydus-agent doctor` shows what fails."),
    Entry("NNA1016", "origin does not answer", Exit.NOT_AS_WANTED,
          "A registry that images come from does not answer this node.",
          "Look at the network and at the registry."),
    Entry("NNA1017", "not proved", Exit.UNKNOWN,
          "Something could not be told or was not proved for long; it is not claimed to be right.",
          "Climb the ladder now: `nydus-agent doctor`."),
    Entry("NNA1018", "condition is not as wanted", Exit.NOT_AS_WANTED,
          "The agent found something that is not as it was applied.",
          "`nydus-agent doctor` shows what; `nydus-agent plan` shows what `apply` would mend."),
    Entry("NNA1019", "foreign listener on the mirror's port", Exit.NOT_AS_WANTED,
          "Another user than the mirror's listens on its port and could feed bytes to containers; it is fenced.",
          "Find out who listens: `ss -tlnp`."),
    Entry("NNA1099", "bug in nydus-agent", Exit.FAILED,
          "Something happened that the program was not written for.",
          "Report it with the output of the same command under NYDUS_AGENT_DEBUG=1."),
)  # fmt: skip

CATALOGUE: dict[str, Entry] = {entry.code: entry for entry in _ENTRIES}
