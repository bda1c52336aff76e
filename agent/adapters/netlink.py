"""Destroys TCP connections through sock_diag (sock_diag(7), include/uapi/linux/inet_diag.h), without a child process.

What `ss -K` does, with the choice of sockets made by us: the kernel filters by remote address and port, and the
cgroup id that it reports for each socket (Linux 5.7) is compared here. Needs CAP_NET_ADMIN in the network namespace
and a kernel with CONFIG_INET_DIAG_DESTROY.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import FenceError

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_SOCK_DESTROY = 21
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_DUMP = 0x300
_NLM_F_DUMP_INTR = 0x10

_REQ_BYTECODE = 1  # attribute of a request
_CGROUP_ID = 21  # attribute of an answer
_D_COND = 8  # byte code: compare the remote end

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBBI48s")  # family, protocol, extensions, pad, states, socket id
_SOCKET = struct.Struct("=BBBB48s5I")  # family, state, timer, retransmits, socket id, expires, queues, uid, inode
_HOST_CONDITION = struct.Struct("=BBHi")  # family, prefix length, pad, port
_OPERATION = struct.Struct("=BBH")  # code, bytes to skip if true, bytes to skip if not

_NO_ID = bytes(48)
_LISTEN, _TIME_WAIT, _CLOSE = 10, 6, 7
_CONNECTED = 0xFFF & ~(1 << _LISTEN | 1 << _TIME_WAIT | 1 << _CLOSE | 1)
"""States that hold a connection, as a bit set; SYN_SENT is among them."""
_BUFFER = 1 << 16
_ROUNDS = 3
"""A dump that the kernel calls interrupted is begun anew, at most this often."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection as the kernel names it."""

    family: int
    state: int
    id: bytes
    uid: int
    cgroup: int


class SockDiag:
    """One netlink socket, opened for a piece of work: `with SockDiag() as diag`. Raises FenceError."""

    def __init__(self, deadline_s: float = 2.0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._socket.settimeout(deadline_s)
        self._sequence = 0

    def __enter__(self) -> SockDiag:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def towards(self, address: str, port: int) -> tuple[Connection, ...]:
        """The connections of this network namespace whose remote end is `address:port`."""
        remote = ipaddress.ip_address(address)
        found: list[Connection] = []
        # An IPv4 peer can be that of an IPv6 socket (::ffff:a.b.c.d): the kernel compares those too.
        families = (socket.AF_INET, socket.AF_INET6) if remote.version == 4 else (socket.AF_INET6,)
        for family in families:
            found += self._dump(family, _condition(remote, port))
        return tuple(found)

    def destroy(self, connection: Connection) -> bool:
        """End a connection: its owner's reads and writes fail at once. False where it ended by itself meanwhile."""
        request = _REQUEST.pack(connection.family, socket.IPPROTO_TCP, 0, 0, 1 << connection.state, connection.id)
        self._send(_SOCK_DESTROY, _NLM_F_REQUEST | _NLM_F_ACK, request)
        for kind, _, payload in self._answers():
            if kind == _NLMSG_ERROR:
                code = -int(struct.unpack_from("=i", payload)[0])
                if code in (0, errno.ENOENT, errno.ESTALE):
                    return code == 0
                raise _failed("a connection could not be destroyed", code)
        raise _failed("a connection could not be destroyed", errno.EPROTO)

    def _dump(self, family: int, condition: bytes) -> list[Connection]:
        attribute = struct.pack("=HH", 4 + len(condition), _REQ_BYTECODE) + condition
        request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _CONNECTED, _NO_ID) + attribute
        for _ in range(_ROUNDS):
            self._send(_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, request)
            found, interrupted = [], False
            for kind, flags, payload in self._answers():
                interrupted = interrupted or bool(flags & _NLM_F_DUMP_INTR)
                if kind == _NLMSG_ERROR:
                    raise _failed("connections could not be listed", -struct.unpack_from("=i", payload)[0])
                if kind == _SOCK_DIAG_BY_FAMILY:
                    found.append(_connection(payload))
            if not interrupted:
                break
        return found

    def _send(self, kind: int, flags: int, payload: bytes) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(payload), kind, flags, self._sequence, 0)
        try:
            self._socket.sendto(header + payload, (0, 0))
        except OSError as error:
            raise _failed("sock_diag did not take a request", error.errno or 0) from error

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """(type, flags, payload) of each answer to the last request, up to its end."""
        while True:
            try:
                data = self._socket.recv(_BUFFER)
            except OSError as error:  # a timeout is one
                raise _failed("sock_diag did not answer", error.errno or errno.ETIMEDOUT) from error
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                payload = data[at + _HEADER.size : at + length]
                at += max(_HEADER.size, (length + 3) & ~3)
                if sequence != self._sequence:
                    continue
                if kind == _NLMSG_DONE:
                    return
                yield kind, flags, payload
                if kind == _NLMSG_ERROR:
                    return


def _condition(remote: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bytes:
    family, bits = (socket.AF_INET, 32) if remote.version == 4 else (socket.AF_INET6, 128)
    host = _HOST_CONDITION.pack(family, bits, 0, port) + remote.packed
    length = _OPERATION.size + len(host)
    # True: jump to the end of the code (accept). False: jump beyond it (reject).
    return _OPERATION.pack(_D_COND, length, length + 4) + host


def _connection(payload: bytes) -> Connection:
    family, state, _, _, ident, _, _, _, uid, _ = _SOCKET.unpack_from(payload)
    cgroup, at = 0, _SOCKET.size
    while at + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, at)
        if kind == _CGROUP_ID and length == 12:
            cgroup = struct.unpack_from("=Q", payload, at + 4)[0]
        at += max(4, (length + 3) & ~3)
    return Connection(family, state, ident, uid, cgroup)


def _failed(what: str, code: int) -> FenceError:
    hints = {
        errno.EPERM: "CAP_NET_ADMIN is missing",
        errno.EOPNOTSUPP: "the kernel was built without CONFIG_INET_DIAG_DESTROY",
    }
    return FenceError("NNA0802", what, cause=hints.get(code, os.strerror(code)))
