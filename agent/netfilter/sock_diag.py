"""Finds TCP sockets and destroys connections through sock_diag (sock_diag(7), include/uapi/linux/inet_diag.h
and tcp.h), without a child process.

To destroy is what `ss -K` does: the kernel filters by remote address, port and cgroup (Linux 5.8). It needs
CAP_NET_ADMIN in the network namespace and a kernel with CONFIG_INET_DIAG_DESTROY.

Any user can make tens of thousands of sockets with the mirror's port. So what the daemon asks for again and
again must have few answers: which one socket listens, or the connections of a few cgroups.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import os
import pwd
import socket
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.facts.node import Listener
from agent.facts.transfer import Transfer
from agent.netfilter.netlink import (
    ACK,
    REQUEST,
    NetlinkError,
    NetlinkMessage,
    NetlinkSocket,
    attribute,
    attributes,
    fence_error,
)
from agent.ports import SocketHolder

_NETLINK_SOCK_DIAG = 4
_TCP_OF_ALL_FAMILIES = 18  # TCPDIAG_GETSOCK
_SOCK_DIAG_BY_FAMILY = 20
_SOCK_DESTROY = 21
_REQ_BYTECODE = 1  # attribute of a request
_INFO, _CGROUP_ID = 2, 21  # attributes of an answer
_WITH_INFO = 1 << (_INFO - 1)  # asked for by an extension's bit
# Byte code: compare the local end, the remote end, the cgroup.
_JUMP, _S_COND, _D_COND, _CGROUP_COND = (
    1,
    7,
    8,
    13,
)
_MOST_CGROUPS = 1000
"""The byte code's jumps have 16 bits. Where there are more, the kernel lists all connections, and we choose.
"""

_REQUEST = struct.Struct("=BBBBI48s")  # family, protocol, extensions, pad, states, socket id
_OLD_REQUEST = struct.Struct("=BBBB48sII")  # family, prefix lengths, extensions, socket id, states, device
# Family, state, timer, retransmits, socket id, expires, queues, uid, inode.
_SOCKET = struct.Struct("=BBBB48s5I")
_HOST_CONDITION = struct.Struct("=BBHi")  # family, prefix length, pad, port
_OPERATION = struct.Struct("=BBH")  # code, bytes to skip if true, bytes to skip if not
_TCP_INFO = struct.Struct("=24xI16xI4xII84xI4xI")
"""unacked; last_data_sent, last_data_recv, last_ack_recv; notsent_bytes; data_segs_in. Linux 4.6 and newer
know all of these; what newer ones append is not looked at."""

_LOOKUP = struct.Struct("!HH16s16s")  # local and remote port, local and remote address; network byte order
_LOOPBACK_DEVICE = struct.pack("=I", 1)  # LOOPBACK_IFINDEX, in each network namespace
_NO_COOKIE = b"\xff" * 8
_NO_ID = bytes(48)
_ESTABLISHED, _SYN_SENT, _TIME_WAIT, _CLOSE, _LISTEN = 1, 2, 6, 7, 10
_LISTENING = 1 << _LISTEN
_CONNECTED = 0xFFF & ~(1 << _LISTEN | 1 << _TIME_WAIT | 1 << _CLOSE | 1)
"""States that hold a connection, as a bit set; SYN_SENT is among them."""
_GONE = (errno.ENOENT, errno.ESTALE)


@dataclass(frozen=True, slots=True)
class TcpConnection:
    """One TCP connection as the kernel names it."""

    family: int
    state: int
    id: bytes
    uid: int
    cgroup: int
    transfer: Transfer | None
    """What it is doing, where that was asked for and the kernel told it."""

    @property
    def source_port(self) -> int:
        """The local end's port."""
        return int.from_bytes(self.id[:2], "big")


class SockDiag:
    """Looks at the sockets and ends some of them. Raises FenceError (NNA0801, NNA0805)."""

    def __init__(self) -> None:
        self._link = NetlinkSocket(_NETLINK_SOCK_DIAG)

    def __enter__(self) -> SockDiag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Open the socket beforehand, so that a look needs no descriptor any more."""
        try:
            self._link.open()
        except NetlinkError as error:
            raise fence_error("NNA0801", "connections could not be listed", error) from error

    def close(self) -> None:
        """Give the socket up."""
        self._link.close()

    def towards(
        self, address: str, port: int, *, cgroups: Collection[int] = (), transfers: bool = False
    ) -> tuple[TcpConnection, ...]:
        """The connections of this network namespace whose remote end is `address:port`: those of the cgroups
        with these ids, or all. With `transfers` also what each is doing.
        """
        # The kernel walks through its whole table of connections for each question, so both families are
        # asked for at once: an IPv4 peer can be that of an IPv6 socket (::ffff:a.b.c.d), which is compared
        # too.
        condition = attribute(_REQ_BYTECODE, _remote_end(ipaddress.ip_address(address), port, cgroups))
        request = (
            _OLD_REQUEST.pack(0, 0, 0, _WITH_INFO if transfers else 0, _NO_ID, _CONNECTED, 0) + condition
        )
        try:
            answers = self._link.dump(NetlinkMessage(_TCP_OF_ALL_FAMILIES, 0, request))
        except NetlinkError as error:
            raise fence_error("NNA0801", "connections could not be listed", error) from error
        found = (_connection(answer) for answer in answers)
        return tuple(one for one in found if not cgroups or one.cgroup in cgroups)

    def find_listener(self, address: str, port: int) -> Listener | None:
        """The listening TCP socket that would get a connection which this node made to `address:port`; None:
        it would be refused. No right is needed.

        The kernel looks the socket up as it does for a connection (inet_lookup in net/ipv4/inet_diag.c). So
        an exact address, an IPv6 socket without IPv4 (IPV6_V6ONLY), a bound device, SO_REUSEPORT count as
        they do there, and many other sockets with this port make it no slower. A socket for all addresses
        gets nothing of what goes to an address that is not this node's, which the lookup does not ask.
        """
        ip = ipaddress.ip_address(address)
        ip = (ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None) or ip
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        if not (ip.is_loopback or _is_of_this_node(family, str(ip))):
            return None
        # The remote end is one that no connection has: port 0.
        ident = _LOOKUP.pack(port, 0, ip.packed, ip.packed) + _LOOPBACK_DEVICE + _NO_COOKIE
        request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _LISTENING, ident)
        try:
            return _listener(self._link.get(NetlinkMessage(_SOCK_DIAG_BY_FAMILY, 0, request)))
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                return None
            raise fence_error("NNA0805", "the listening socket could not be looked up", error) from error

    def listening(self, port: int) -> tuple[Listener, ...]:
        """The TCP sockets of this network namespace that listen on this port: as many as users have made. No
        right is needed.
        """
        here = _compared(_S_COND, _HOST_CONDITION.pack(socket.AF_UNSPEC, 0, 0, port))
        condition = attribute(_REQ_BYTECODE, here)
        request = _OLD_REQUEST.pack(0, 0, 0, 0, _NO_ID, _LISTENING, 0) + condition
        try:
            answers = self._link.dump(NetlinkMessage(_TCP_OF_ALL_FAMILIES, 0, request))
        except NetlinkError as error:
            raise fence_error("NNA0805", "listening sockets could not be listed", error) from error
        return tuple(_listener(answer) for answer in answers)

    def destroy(self, connection: TcpConnection) -> bool:
        """End a connection: its owner's reads and writes fail at once. False where it ended by itself
        meanwhile."""
        request = _REQUEST.pack(
            connection.family, socket.IPPROTO_TCP, 0, 0, 1 << connection.state, connection.id
        )
        try:
            self._link.ask(NetlinkMessage(_SOCK_DESTROY, REQUEST | ACK, request))
        except NetlinkError as error:
            if error.code in _GONE:
                return False
            raise fence_error("NNA0801", "a connection could not be destroyed", error) from error
        return True


def _is_of_this_node(family: socket.AddressFamily, address: str) -> bool:
    """Whether a socket can be bound to the address. Where that cannot be tried (no descriptor), it is taken
    for one."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as tried:
            tried.bind((address, 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def _remote_end(
    remote: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, cgroups: Collection[int]
) -> bytes:
    family, bits = (socket.AF_INET, 32) if remote.version == 4 else (socket.AF_INET6, 128)
    return _compared(
        _D_COND, _HOST_CONDITION.pack(family, bits, 0, port) + remote.packed,
        _one_of(cgroups) if len(cgroups) <= _MOST_CGROUPS else b"",
    )  # fmt: skip


def _compared(code: int, operand: bytes, rest: bytes = b"") -> bytes:
    """A comparison, and `rest` where it holds."""
    length = _OPERATION.size + len(operand)
    # True: go on with the rest, whose end accepts. False: jump beyond the end, which rejects.
    return _OPERATION.pack(code, length, length + len(rest) + 4) + operand + rest


def _one_of(cgroups: Collection[int]) -> bytes:
    made = b""
    for cgroup in cgroups:
        # False: jump beyond the comparison and the jump that follows it, to the next comparison; behind the
        # last one that is beyond the end. The jump, which is always taken, goes to the end.
        end = _OPERATION.pack(_JUMP, _OPERATION.size, _OPERATION.size + len(made)) if made else b""
        made = _compared(_CGROUP_COND, struct.pack("=Q", cgroup)) + end + made
    return made


def _connection(payload: bytes) -> TcpConnection:
    family, state, _, _, ident, _, unread, _, uid, _ = _SOCKET.unpack_from(payload)
    told = attributes(payload[_SOCKET.size :])
    transfer = _transfer(state, unread, told.get(_INFO, b""))
    return TcpConnection(family, state, ident, uid, _cgroup(told), transfer)


def _transfer(state: int, unread: int, info: bytes) -> Transfer | None:
    if len(info) < _TCP_INFO.size:
        return None
    unacked, sent_ms, received_ms, acknowledged_ms, unsent, segments_in = _TCP_INFO.unpack_from(info)
    return Transfer(
        connecting=state == _SYN_SENT,
        established=state == _ESTABLISHED,
        answered=segments_in > 0,
        unacknowledged=unacked > 0 or unsent > 0,
        unread=unread > 0,
        sent_ms=sent_ms,
        received_ms=received_ms,
        acknowledged_ms=acknowledged_ms,
    )


def _cgroup(told: Mapping[int, bytes]) -> int:
    value = told.get(_CGROUP_ID, b"")
    return int(struct.unpack("=Q", value)[0]) if len(value) == 8 else 0


@functools.lru_cache(maxsize=16)  # the same few, each second
def _listener(payload: bytes) -> Listener:
    family, _, _, _, ident, _, _, _, uid, inode = _SOCKET.unpack_from(payload)
    length = 4 if family == socket.AF_INET else 16
    source = ipaddress.ip_address(ident[4 : 4 + length])  # after the two ports
    mapped = source.ipv4_mapped if isinstance(source, ipaddress.IPv6Address) else None
    return Listener(
        str(mapped or source),
        int.from_bytes(ident[:2], "big"),
        uid,
        inode,
        _cgroup(attributes(payload[_SOCKET.size :])),
    )


def uid_of_peer(peer: tuple[str, int], ours: tuple[str, int]) -> int | None:
    """The user of the other end of an IPv4 connection within this node; None where that cannot be told.

    Its socket must have an inode: the kernel tells uid 0 of every one that its process has closed.
    """
    hosts = (socket.inet_aton(host) for host, _ in (peer, ours))
    ident = _LOOKUP.pack(peer[1], ours[1], *hosts) + _LOOPBACK_DEVICE + _NO_COOKIE
    request = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _CONNECTED, ident)
    with contextlib.closing(NetlinkSocket(_NETLINK_SOCK_DIAG)) as link, contextlib.suppress(NetlinkError):
        found = _SOCKET.unpack_from(link.get(NetlinkMessage(_SOCK_DIAG_BY_FAMILY, 0, request)))
        # Where there is no such connection, the kernel names whoever listens on its port.
        return found[8] if found[9] and found[4][: _LOOKUP.size] == ident[: _LOOKUP.size] else None
    return None


class KernelSockets:
    """The sockets of the process's own network namespace, by sock_diag: /proc/net/tcp walks through the table
    of all connections, which takes the kernel milliseconds even where there are none. The socket for that
    stays open.
    """

    def __init__(self) -> None:
        self._diag = SockDiag()

    def close(self) -> None:
        """Give the kernel's socket up."""
        self._diag.close()

    def find_listener(self, address: str, port: int) -> Listener | None:
        """See ports.SocketTables."""
        return self._diag.find_listener(address, port)

    def listening(self, port: int) -> tuple[tuple[str, int, int], ...]:
        """See ports.SocketTables."""
        return tuple((row.address, row.uid, row.inode) for row in self._diag.listening(port))

    def holder(self, uid: int, inode: int) -> str:
        """See ports.SocketTables."""
        process = _process_with(inode)
        with contextlib.suppress(OSError):  # it has ended
            if process is not None:
                return f"{(process / 'comm').read_text().strip()} (pid {process.name}), {_user(uid)}"
        return _user(uid)


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _process_with(inode: int) -> Path | None:
    """The directory in /proc of a process that has the socket; None: none that we may see."""
    wanted = f"socket:[{inode}]"
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # another user's process, or one that ended
            if os.readlink(link) == wanted:
                return link.parent.parent
    return None


_CAP = 64 << 10  # bytes of a file in /proc/PID


class ProcHolders:
    """By /proc: the processes of other users only root may see.

    `kept` takes what is wanted out of /proc/PID/environ, which may hold secrets.
    """

    def __init__(self, kept: Callable[[bytes], Mapping[str, str]]) -> None:
        self._kept = kept

    def of(self, inode: int) -> SocketHolder | None:
        """See ports.SocketHolders."""
        process = _process_with(inode)
        with contextlib.suppress(OSError):  # it has ended
            return None if process is None else self._holder(process)
        return None

    def _holder(self, process: Path) -> SocketHolder:
        """Raises OSError where it ended meanwhile."""
        argv = tuple(part.decode(errors="replace") for part in _head(process / "cmdline").split(b"\0"))
        unit = _unit(_head(process / "cgroup").decode(errors="replace"))
        return SocketHolder(int(process.name), argv[:-1], unit, self._kept(_head(process / "environ")))


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_CAP)


def _unit(table: str) -> str:
    """The service that a process's line of cgroup v2 names, else that of systemd's own v1 hierarchy."""
    paths = dict(line.split(":", 2)[1:] for line in table.splitlines() if line.count(":") >= 2)
    for hierarchy in ("", "name=systemd"):
        last = paths.get(hierarchy, "").rpartition("/")[2]
        if last.endswith(".service"):
            return last
    return ""
