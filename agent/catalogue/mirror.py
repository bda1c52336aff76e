"""Errors of the mirror and the fence (08), and of Dragonfly's files (15)."""

from __future__ import annotations

from agent.errors import Entry, Exit

ENTRIES = (
    Entry("NNA0801", "fence cannot be used", Exit.FAILED,
          "nft refused a command, its library is not there, or the kernel did not end TCP connections "
          "(sock_diag). Without the fence the node works in mode native.",
          "See `nft list ruleset`. The daemon needs CAP_NET_ADMIN and python3-nftables, the kernel "
          "CONFIG_INET_DIAG_DESTROY."),
    Entry("NNA0803", "fence does not work", Exit.NOT_AS_WANTED,
          "The node was set up for it, but its self-test fails: a fenced port was still reached, or an "
          "open connection survived; or the agent says native.",
          'See `nft list ruleset` and `systemctl status nydus-agent`. Use `switch = "native"`, or find '
          "out what rewrites addresses before netfilter sees them."),
    Entry("NNA0804", "host name was not resolved", Exit.UNKNOWN,
          "The system's resolver gave no address for a registry's name, or none in time.",
          "Look at /etc/resolv.conf and the name server."),
    Entry("NNA0805", "listening sockets cannot be listed", Exit.UNKNOWN,
          "The owner of the mirror's port is asked of the kernel (sock_diag), which did not tell.",
          "Look whether the module tcp_diag can be loaded; until then the owner counts as unknown."),
    Entry("NNA0812", "mirror does not answer well", Exit.FAILED,
          "Check 9: its health URL gave no answer or a status other than 2xx and 3xx, or its data path "
          "gave no answer, another status or another content.",
          "Is dfdaemon running? Look at its log."),
    Entry("NNA0821", "no answer by HTTP", Exit.FAILED,
          "The name has no address, the connection was refused or broke, the whole answer did not come in"
          " time, or what came is too long or not HTTP.",
          "See who listens there (`ss -ltnp`), and ask the same URL with `curl -v`."),
    Entry("NNA0825", "URL is not asked", Exit.USAGE,
          "Only http://HOST/… without credentials is asked, and never a link-local address (cloud metadata).",
          "Correct the URL in agent.toml."),
    Entry("NNA1501", "Dragonfly's files cannot be rendered or audited", Exit.USAGE,
          "agent.toml or an option names what dfdaemon could not be set up with, or a file cannot be "
          "read, or dfdaemon or the chart would refuse or misread it. All problems are named.",
          "Correct the named keys; `nydus-agent check --show` shows what is set and where, `--as` says "
          "what a file is."),
)  # fmt: skip
