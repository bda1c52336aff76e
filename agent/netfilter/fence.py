"""The nft fence, through libnftables in this process, and the destruction of connections through sock_diag.

The commands are nft(8)'s own language: one text is one transaction, and leases keep their milliseconds
(libnftables' JSON knows whole seconds only). Nothing in a text comes from outside: addresses and numbers are
parsed before. While the table is as it was made, raising, renewing and lifting go over netlink directly
(agent.netfilter.nft), on sockets that are open already: the way to the origin needs no descriptor, no file,
no other process.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agent import paths
from agent.errors import WANTS, FenceError
from agent.facts.node import FenceAbility, Unknown
from agent.facts.transfer import Standing, standing
from agent.netfilter.cgroups import CgroupTree
from agent.netfilter.nft import Elements, GoneError, Nft
from agent.netfilter.sock_diag import SockDiag
from agent.outside_json import json_value
from agent.ports import Released

_NAME = "nydus_agent"
_TABLE = f"inet {_NAME}"
_CHAIN = "output"
_SETS = {4: "mirror4", 6: "mirror6"}
_PRIORITY = -150
"""Before destination NAT (-100): at 0 the address of a Service or NodePort is rewritten before the rule sees
it."""
_TRIAL_PRIORITY = _PRIORITY - 1
"""The self-test's rules are met before the fence's own, which may be up meanwhile."""
_SYN = "tcp flags & (syn | ack) == syn"
"""Only attempts to connect: resetting a stray ACK of a transfer under way would cut containerd's pulls."""


class NftFence:
    """The fence in this network namespace.

    `exempt_uid` is the user whose probes pass: the daemon's. Root is never exempt, because nydusd is root.
    """

    def __init__(self, exempt_uid: int | None = None, cgroups: CgroupTree | None = None) -> None:
        self._exempt = _daemon_uid() if exempt_uid is None else exempt_uid
        self._cgroups = cgroups if cgroups is not None else CgroupTree()
        self._nft = Nft()
        self._elements = Elements(_NAME)
        self._diag = SockDiag()
        self._shape: tuple[bytes, ...] = ()
        """Table, chain and rules as they were when we made them; empty: not made by this process."""

    def close(self) -> None:
        """Give the kernel's sockets up; the fence stays as it is."""
        self._elements.close()
        self._diag.close()
        self._nft.close()

    def available(self) -> str:
        """See ports.Fence."""
        try:
            self._nft.run("list tables")
        except FenceError as error:
            return error.cause
        return ""

    def assert_table(self) -> None:
        """See ports.Fence."""
        self._assert_and("")
        self._diag.open()

    def renew(self, address: str, port: int, lease_ms: int) -> None:
        """See ports.Fence."""
        where, element = _element(address, port)
        lease_ms = max(1, lease_ms)
        if self._quickly(where, address, port, lease_ms):
            return
        entry = f"{_TABLE} {where} {{ {element} timeout {lease_ms}ms }}\n"
        self._assert_and(
            f"add element {entry}delete element {_TABLE} {where} {{ {element} }}\nadd element {entry}"
        )

    def lift(self, address: str, port: int) -> None:
        """See ports.Fence."""
        self._elements.remove(_element(address, port)[0], address, port)

    def fenced(self) -> tuple[tuple[str, int, int], ...]:
        """See ports.Fence. The milliseconds are whole seconds, rounded down."""
        found: list[tuple[str, int, int]] = []
        for where in _SETS.values():
            with contextlib.suppress(GoneError):
                for item in self._objects(f"list set {_TABLE} {where}", "set"):
                    found += [_fenced(entry["elem"]) for entry in item.get("elem", [])]
        return tuple(found)

    def intact(self) -> bool:
        """See ports.Fence."""
        return bool(self._shape) and self._elements.shape(_CHAIN) == self._shape

    def stands(self, address: str, port: int) -> bool:
        """See ports.Fence."""
        return self.intact() and self._elements.holds(_element(address, port)[0], address, port)

    def refused(self) -> int:
        """See ports.Fence."""
        with contextlib.suppress(GoneError):
            for item in self._objects(f"list counter {_TABLE} refused", "counter"):
                return int(item["packets"])
        return 0

    def destroy(self, address: str, port: int, cgroups: Sequence[str]) -> int:
        """See ports.Fence."""
        ids = self._cgroups.ids(tuple(cgroups))
        if not ids:
            return 0
        return sum(self._diag.destroy(found) for found in self._diag.towards(address, port, cgroups=ids))

    def release(
        self,
        address: str,
        port: int,
        cgroups: Sequence[str],
        patience_s: float,
        *,
        at_once: Sequence[str] = (),
    ) -> Released:
        """See ports.Fence."""
        all_of, some_of = self._cgroups.ids(tuple(at_once)), self._cgroups.ids(tuple(cgroups))
        if not all_of and not some_of:
            return Released()
        seen = self._diag.towards(address, port, cgroups={**all_of, **some_of}, transfers=bool(some_of))
        ended = sum(self._diag.destroy(found) for found in seen if found.cgroup in all_of)
        became = dict.fromkeys(Standing, 0)
        for found in seen:
            judged = found.cgroup in some_of and found.cgroup not in all_of
            if judged and found.transfer is not None:  # what cannot be judged is not cut
                what = standing(found.transfer, patience_s)
                ends = what in (Standing.WAITING, Standing.STALLED)
                became[what] += self._diag.destroy(found) if ends else 1
        return Released(ended, became[Standing.WAITING], became[Standing.STALLED], became[Standing.FLOWING])

    def remove_table(self) -> None:
        """See ports.Fence."""
        self._nft.run(f"add table {_TABLE}\ndelete table {_TABLE}")

    def self_test(
        self, *, deadline_s: float, mirror: tuple[str, int] | None = None
    ) -> FenceAbility | Unknown:
        """See ports.Fence."""
        try:
            with _Trial(self._nft.run, self._objects, deadline_s) as trial:
                shown = trial.refuses_and_destroys(self.destroy, self._cgroups.own())
                if mirror is not None:
                    shown += trial.sees(*mirror)
        except (FenceError, OSError) as error:
            if isinstance(error, OSError) and error.errno in WANTS | {errno.EADDRINUSE}:
                return Unknown(f"it could not be tried: {error}")
            reason = f"{error.what}: {error.cause}" if isinstance(error, FenceError) else str(error)
            return FenceAbility(usable=False, reason=reason)
        return FenceAbility(usable=True, reason=shown)

    def _quickly(self, where: str, address: str, port: int, lease_ms: int) -> bool:
        """Renew first, then look whether the table is whole; False where libnftables must do it (and tell why
        not)."""
        try:
            return self._elements.renew(where, address, port, lease_ms) and self.intact()
        except FenceError:
            return False

    def _assert_and(self, more: str) -> None:
        try:
            self._nft.run(self._table() + more)
        except FenceError:
            # Somebody left a table, set or chain of our name with another shape: make it anew, in one
            # transaction.
            self._nft.run(f"add table {_TABLE}\ndelete table {_TABLE}\n{self._table()}{more}")
        self._shape = self._elements.shape(_CHAIN)

    def _table(self) -> str:
        exempt = f" meta skuid != {self._exempt}" if self._exempt > 0 else ""
        lines = [
            f"add table {_TABLE}",
            f"add counter {_TABLE} refused",
            f"add set {_TABLE} {_SETS[4]} {{ type ipv4_addr . inet_service; flags timeout; }}",
            f"add set {_TABLE} {_SETS[6]} {{ type ipv6_addr . inet_service; flags timeout; }}",
            f"add chain {_TABLE} {_CHAIN} {{ type filter hook output priority {_PRIORITY}; policy accept; }}",
            f"flush chain {_TABLE} {_CHAIN}",
        ]
        for family, where in (("ip", _SETS[4]), ("ip6", _SETS[6])):
            match = f"{_SYN}{exempt} {family} daddr . tcp dport @{where}"
            lines.append(f"add rule {_TABLE} {_CHAIN} {match} counter name refused reject with tcp reset")
        return "\n".join(lines) + "\n"

    def _objects(self, command: str, kind: str) -> Iterator[dict[str, Any]]:
        for entry in json_value(self._nft.run(command))["nftables"]:
            if kind in entry:
                yield entry[kind]


class _Trial:
    """The self-test's own table.

    It belongs to this process (flags owner): the kernel removes it if we die.
    """

    def __init__(
        self,
        run: Callable[[str], str],
        objects: Callable[[str, str], Iterator[dict[str, Any]]],
        deadline_s: float,
    ) -> None:
        self._run = run
        self._objects = objects
        self._until = time.monotonic() + deadline_s
        self._table = f"inet nydus_agent_test_{os.getpid()}"

    def __enter__(self) -> _Trial:
        self._run(
            f"add table {self._table} {{ flags owner; }}\n"
            f"add chain {self._table} output {{ type filter hook output priority {_TRIAL_PRIORITY}; policy "
            f"accept; }}\n"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._run(f"delete table {self._table}")

    def refuses_and_destroys(self, destroy: Callable[[str, int, Sequence[str]], int], cgroup: str) -> str:
        """Fence a listener of ours: a new connection is refused, an open one ends. Raises FenceError."""
        with socket.create_server(("127.0.0.1", 0), backlog=4) as server:
            port = int(server.getsockname()[1])
            with self._connected(port) as opened:
                self._refuse(f"ip daddr 127.0.0.1 tcp dport {port}")
                self._must_be_refused(port)
                if destroy("127.0.0.1", port, (cgroup,)) < 1:
                    raise _unusable(
                        "an open connection was not destroyed", f"none was found in cgroup {cgroup}"
                    )
                self._must_have_ended(opened)
        return "a connection was refused and an open one destroyed"

    def sees(self, address: str, port: int) -> str:
        """One packet of ours to the mirror's own address meets the rule, whether or not the mirror lives.

        A load balancer in the socket layer (eBPF) would have rewritten the address before netfilter. The rule
        names our source port, so nobody else's connection is touched. Raises FenceError.
        """
        family = socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6
        daddr = "ip daddr" if family == socket.AF_INET else "ip6 daddr"
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(self._left())
            probe.bind(("", 0))
            self._refuse(f"{daddr} {address} tcp dport {port} tcp sport {probe.getsockname()[1]}")
            try:
                probe.connect((address, port))
            except OSError as error:
                if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                    return f"; the mirror's own address was not tested ({os.strerror(error.errno)})"
        rules = self._objects(f"list chain {self._table} output", "rule")
        counted = [part["counter"]["packets"] for rule in rules for part in rule["expr"] if "counter" in part]
        if not counted or counted[-1] < 1:
            raise _unusable(
                "a connection to the mirror's address was not seen by the fence",
                "something rewrites the address before netfilter (a load balancer in the socket layer?)",
            )
        return "; the mirror's own address is seen"

    def _refuse(self, what: str) -> None:
        self._run(f"add rule {self._table} output {_SYN} {what} counter reject with tcp reset")

    def _must_be_refused(self, port: int) -> None:
        try:
            self._connected(port).close()
        except ConnectionRefusedError:
            return
        raise _unusable(
            "a fenced port was still reached", "netfilter does not see connections of this process"
        )

    def _must_have_ended(self, opened: socket.socket) -> None:
        opened.settimeout(self._left())
        try:
            ended = opened.recv(1)
        except TimeoutError as error:
            raise _unusable("an open connection was not destroyed", "it was still open afterwards") from error
        except OSError:
            return  # ECONNABORTED: the kernel ended it
        raise _unusable("an open connection was not destroyed", f"it read {ended!r}")

    def _connected(self, port: int) -> socket.socket:
        """By hand: create_connection resolves even an address, and the codec for names would cost the daemon
        0.7 MB."""
        opened = socket.socket()
        try:
            opened.settimeout(self._left())
            opened.connect(("127.0.0.1", port))
        except BaseException:
            opened.close()
            raise
        return opened

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise _unusable("the self-test took too long", "its deadline passed")
        return left


def _unusable(what: str, cause: str) -> FenceError:
    return FenceError("NNA0803", what, cause=cause)


def _element(address: str, port: int) -> tuple[str, str]:
    parsed = ipaddress.ip_address(address)
    return _SETS[parsed.version], f"{parsed} . {int(port)}"


def _fenced(element: dict[str, Any]) -> tuple[str, int, int]:
    address, port = element["val"]["concat"]
    return str(address), int(port), int(element.get("expires", 0)) * 1000


def _daemon_uid() -> int:
    """The daemon's user; where there is none (tests), this process's own unless it is root."""
    try:
        return pwd.getpwnam(paths.USER).pw_uid
    except KeyError:
        return os.geteuid()
