"""Destroys TCP connections through sock_diag (sock_diag(7), include/uapi/linux/inet_diag.h), without a child process.

What `ss -K` does, with the choice of sockets made by us: the kernel filters by remote address and port, and the
cgroup id that it reports for each socket (Linux 5.7) is compared here. Needs CAP_NET_ADMIN in the network namespace
and a kernel with CONFIG_INET_DIAG_DESTROY.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass

from agent.adapters.netlink import (
    ACK,
    REQUEST,
    Message,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes,
    fence_error,
)

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_SOCK_DESTROY = 21
_REQ_BYTECODE = 1  # attribute of a request
_CGROUP_ID = 21  # attribute of an answer
_D_COND = 8  # byte code: compare the remote end

_REQUEST = struct.Struct("=BBBBI48s")  # family, protocol, extensions, pad, states, socket id
_SOCKET = struct.Struct("=BBBB48s5I")  # family, state, timer, retransmits, socket id, expires, queues, uid, inode
_HOST_CONDITION = struct.Struct("=BBHi")  # family, prefix length, pad, port
_OPERATION = struct.Struct("=BBH")  # code, bytes to skip if true, bytes to skip if not

_NO_ID = bytes(48)
_LISTEN, _TIME_WAIT, _CLOSE = 10, 6, 7
_LISTENING = 1 << _LISTEN
_CONNECTED = 0xFFF & ~(1 << _LISTEN | 1 << _TIME_WAIT | 1 << _CLOSE | 1)
"""States that hold a connection, as a bit set; SYN_SENT is among them."""
_GONE = (errno.ENOENT, errno.ESTALE)


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection as the kernel names it."""

    family: int
    state: int
    id: bytes
    uid: int
    cgroup: int


@dataclass(frozen=True, slots=True)
class Listening:
    """One listening TCP socket."""

    address: str
    port: int
    uid: int
    inode: int


class SockDiag:
    """One look at the sockets: `with SockDiag() as diag`. Raises FenceError (NNA0802)."""

    def __init__(self) -> None:
        self._link = NetlinkSocket(_NETLINK_SOCK_DIAG)

    def __enter__(self) -> SockDiag:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def towards(self, address: str, port: int) -> tuple[Connection, ...]:
        """The connections of this network namespace whose remote end is `address:port`."""
        remote = ipaddress.ip_address(address)
        # An IPv4 peer can be that of an IPv6 socket (::ffff:a.b.c.d): the kernel compares those too.
        families = (socket.AF_INET, socket.AF_INET6) if remote.version == 4 else (socket.AF_INET6,)
        condition = attribute(_REQ_BYTECODE, _condition(remote, port))
        found: list[Connection] = []
        for family in families:
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _CONNECTED, _NO_ID) + condition
            try:
                answers = self._link.dump(Message(_SOCK_DIAG_BY_FAMILY, 0, request))
            except NetlinkError as error:
                raise fence_error("NNA0802", "connections could not be listed", error) from error
            found += [_connection(answer) for answer in answers]
        return tuple(found)

    def listening(self) -> tuple[Listening, ...]:
        """The listening TCP sockets of this network namespace. No right is needed."""
        found: list[Listening] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _LISTENING, _NO_ID)
            try:
                answers = self._link.dump(Message(_SOCK_DIAG_BY_FAMILY, 0, request))
            except NetlinkError as error:
                raise fence_error("NNA0805", "listening sockets could not be listed", error) from error
            found += [_listening(answer) for answer in answers]
        return tuple(found)

    def destroy(self, connection: Connection) -> bool:
        """End a connection: its owner's reads and writes fail at once. False where it ended by itself meanwhile."""
        request = _REQUEST.pack(connection.family, socket.IPPROTO_TCP, 0, 0, 1 << connection.state, connection.id)
        try:
            self._link.ask(Message(_SOCK_DESTROY, REQUEST | ACK, request))
        except NetlinkError as error:
            if error.code in _GONE:
                return False
            raise fence_error("NNA0802", "a connection could not be destroyed", error) from error
        return True


def _condition(remote: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bytes:
    family, bits = (socket.AF_INET, 32) if remote.version == 4 else (socket.AF_INET6, 128)
    host = _HOST_CONDITION.pack(family, bits, 0, port) + remote.packed
    length = _OPERATION.size + len(host)
    # True: jump to the end of the code (accept). False: jump beyond it (reject).
    return _OPERATION.pack(_D_COND, length, length + 4) + host


def _connection(payload: bytes) -> Connection:
    family, state, _, _, ident, _, _, _, uid, _ = _SOCKET.unpack_from(payload)
    cgroup = attributes(payload[_SOCKET.size :]).get(_CGROUP_ID, b"")
    return Connection(family, state, ident, uid, struct.unpack("=Q", cgroup)[0] if len(cgroup) == 8 else 0)


def _listening(payload: bytes) -> Listening:
    family, _, _, _, ident, _, _, _, uid, inode = _SOCKET.unpack_from(payload)
    length = 4 if family == socket.AF_INET else 16
    source = ipaddress.ip_address(ident[4 : 4 + length])  # after the two ports
    mapped = source.ipv4_mapped if isinstance(source, ipaddress.IPv6Address) else None
    return Listening(str(mapped or source), int.from_bytes(ident[:2], "big"), uid, inode)
