"""A drill: an nft table that makes the mirror look dead or hung to the agent, to nydusd and to new
connections.

The table has `flags owner`: it belongs to this process's netlink socket, so the kernel removes it when the
process ends in whatever way, and nobody else can change it. Its elements have the drill's length as timeout:
a process that is stopped (Ctrl-Z) does not prolong it.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable

from agent.errors import FenceError
from agent.netfilter.cgroups import CgroupTree
from agent.netfilter.nft import Nft
from agent.netfilter.sock_diag import SockDiag, TcpConnection
from agent.ports import DrillKind, DrillScope, Struck

TABLE = "inet nydus_agent_drill"
_PRIORITY = -149
"""Right after the fence (-150): what it refuses is refused, and not lost, while a hang goes on. Before
destination NAT (-100), as the fence."""
_SYN = "tcp flags & (syn | ack) == syn"
_VERDICTS = {DrillKind.DOWN: "reject with tcp reset", DrillKind.HANG: "drop"}
_FAMILIES = ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr"))


class NftDrill:
    """Drills in this network namespace. Needs CAP_NET_ADMIN and Linux 5.12 (tables with an owner)."""

    def __init__(self, cgroups: CgroupTree | None = None) -> None:
        self._cgroups = cgroups if cgroups is not None else CgroupTree()
        self._nft = Nft()

    def begin(self, kind: DrillKind, scope: DrillScope, seconds: float) -> Struck:
        """See ports.Drill."""
        lasts_ms = max(1, round(seconds * 1000))
        self._nft.run(_table(kind, scope, lasts_ms))
        try:
            return self._strike(kind, scope, lasts_ms)
        except FenceError:
            self.end()
            raise

    def end(self) -> None:
        """See ports.Drill."""
        with contextlib.suppress(FenceError):
            self._nft.run(f"delete table {TABLE}")
        self._nft.close()

    def _strike(self, kind: DrillKind, scope: DrillScope, lasts_ms: int) -> Struck:
        """What was open before the table was there."""
        ids = self._cgroups.ids(scope.nydusd)
        with SockDiag() as diag:
            found = diag.towards(*scope.proxy)
            nydusds = [one for one in found if one.cgroup in ids]
            agents = {
                one.id: one for one in (*found, *diag.towards(*scope.ping)) if one.uid == scope.agent_uid
            }
            if kind is DrillKind.DOWN:
                return Struck(_ended(diag, nydusds), _ended(diag, agents.values()))
        if nydusds:
            ports = ", ".join(f"{one.source_port} timeout {lasts_ms}ms" for one in nydusds)
            self._nft.run(f"add element {TABLE} silent {{ {ports} }}")
        return Struck(len(nydusds), len(agents))


def _ended(diag: SockDiag, connections: Iterable[TcpConnection]) -> int:
    return sum(diag.destroy(one) for one in connections)


def _table(kind: DrillKind, scope: DrillScope, lasts_ms: int) -> str:
    verdict = _VERDICTS[kind]
    lines = [
        f"create table {TABLE} {{ flags owner; }}",
        f"add set {TABLE} silent {{ type inet_service; flags timeout; }}",
        f"add chain {TABLE} output {{ type filter hook output priority {_PRIORITY}; policy accept; }}",
    ]
    for version, family, kind_of in _FAMILIES:
        shape = f"{{ type {kind_of} . inet_service; flags timeout; }}"
        mirror = f"{family} daddr . tcp dport @mirror{version}"
        agents = f"meta skuid {scope.agent_uid} {family} daddr . tcp dport @agents{version}"
        lines += [
            f"add set {TABLE} mirror{version} {shape}",
            f"add set {TABLE} agents{version} {shape}",
            f"add rule {TABLE} output {agents} {verdict}",
            f"add rule {TABLE} output {_SYN} {mirror} {verdict}",
            f"add rule {TABLE} output tcp sport @silent {mirror} drop",
        ]
    lines += [_element("mirror", scope.proxy, lasts_ms), _element("agents", scope.proxy, lasts_ms)]
    if scope.ping != scope.proxy:
        lines.append(_element("agents", scope.ping, lasts_ms))
    return "\n".join(lines) + "\n"


def _element(name: str, where: tuple[str, int], lasts_ms: int) -> str:
    address = ipaddress.ip_address(where[0])
    return (
        f"add element {TABLE} {name}{address.version} {{ {address} . {int(where[1])} timeout {lasts_ms}ms }}"
    )
