"""Nodes with another containerd than trixie's: Debian's own of bookworm and of testing, and upstream's
newest.

1.6  bookworm as it is: systemd 252, Python 3.11
1.7  trixie as it is
2.1  trixie whose containerd was upgraded to testing's package, by dpkg with its conffile
2.4  trixie without Debian's containerd; upstream's in /usr/local as its installation guide has it, no
configuration
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.node import cache, stock
from tests.node.boot import Node

_UNIT = """\
[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target dbus.service

[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""
"""Upstream's containerd.service, without its modprobe: nodes load no modules."""

_RUNC = """\
#!/bin/sh
exec python3 -S -E {program} "$@"
"""


def directory(line: str) -> Path:
    """Where the made containerd of a line of releases ("2.1") is.

    Raises KeyError where the recipe has none.
    """
    found = {place.name.rpartition(".")[0]: place for place in cache.make("containerds").iterdir()}
    return found[line]


@contextmanager
def booted(line: str, *, shares: Mapping[str, Path] | None = None) -> Iterator[Node]:
    """A node that runs a containerd of this line of releases: "1.6", "1.7", "2.1" or "2.4"; `shares` as of
    Node.
    """
    with Node(root=stock.root("bookworm") if line == "1.6" else None, shares=shares) as node:
        _CHANGES[line](node)
        _spare_runc(node)
        yield node


def _as_it_is(node: Node) -> None:
    """The root has it already."""


def _upgraded(node: Node) -> None:
    node.push(directory("2.1") / "containerd.deb", "/var/tmp/containerd.deb")
    # A node's disk may be slow to sync, and is thrown away.
    node.run(["dpkg", "--force-unsafe-io", "--install", "/var/tmp/containerd.deb"], timeout=180)


def _by_hand(node: Node) -> None:
    # Others may depend on Debian's package (its snapshotter); upstream's takes its place.
    node.run(["dpkg", "--force-depends", "--purge", "containerd"], timeout=120)
    for program in ("containerd", "containerd-shim-runc-v2", "ctr"):
        node.push(directory("2.4") / program, f"/usr/local/bin/{program}")
    node.write("/usr/local/lib/systemd/system/containerd.service", _UNIT)
    node.run(["systemctl", "daemon-reload"])
    node.run(["systemctl", "enable", "--now", "containerd"])


def _spare_runc(node: Node) -> None:
    """Where the machine cannot give pods a cgroup, runc is asked for less than the specification says."""
    if node.machine.controllers and node.machine.sys_resource:
        return
    program = f"{stock.PYTHONPATH_ON_NODE}/tests/node/inside/runc.py"
    node.write("/usr/local/sbin/runc", _RUNC.format(program=program), mode=0o755)


_CHANGES: dict[str, Callable[[Node], None]] = {
    "1.6": _as_it_is,
    "1.7": _as_it_is,
    "2.1": _upgraded,
    "2.4": _by_hand,
}
LINES = tuple(_CHANGES)
