"""Nodes for arm64 on a machine of another kind, and their programs: everything on them is emulated.

What user emulation has not, no test here can show: nftables, sock_diag, seccomp and BPF do not get through
it, and runc does not start containers under it (see tests/arm64/test_node.py, which says how far a node
comes).
"""

from __future__ import annotations

from pathlib import Path

from tests.node import cache, emulation, program_packages, stock
from tests.node.boot import Node

_EMULATED = """\
[Service]
ImportCredential=
LoadCredential=
SetCredential=
PrivateIPC=no
PrivateUsers=no
TimeoutStartSec=10min
WatchdogSec=10min
"""
"""For every service: what systemd cannot set up under emulation; and an emulated start takes many times as
long.
"""


def root() -> Path:
    """The root of an arm64 node. Raises EmulationError."""
    with emulation.arm64():
        return cache.make("arm64-root", env={"BUILD_ROOT": str(cache.make("build-root"))})


def programs() -> program_packages.Contents:
    """The programs for arm64, cross-built; some minutes of two processors the first time."""
    snapshotter = cache.make("snapshotter", "arm64", env={"GOARCH": "arm64"})
    return program_packages.contents(_cross("nydus"), snapshotter / "bin")


def wrapper() -> Path:
    """nydusd where it may not raise its limit of open files: it runs /usr/local/libexec/nydusd.real."""
    return _cross("wrapper") / "nydusd"


def _cross(name: str) -> Path:
    return cache.make(name, "arm64", env={"CROSS_ROOT": str(cache.make("cross-root"))}) / "bin"


class Arm64Node(Node):
    """A node for arm64 with containerd and no nydus program, for use in the block of `emulation.arm64`."""

    up_s, ask_s = 240.0, 60.0

    def __init__(self) -> None:
        super().__init__(root=root(), snapshotter="none", nydus=False)
        self.contents = stock.Contents(snapshotter="none", nydus=False, crictl=False)

    def _lay_out(self) -> None:
        super()._lay_out()
        drop_in = self.directory / "upper/etc/systemd/system/service.d/10-emulated.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(_EMULATED)
