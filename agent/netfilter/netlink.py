"""A netlink socket (netlink(7)) for short questions and their answers; what is said on it belongs to the
modules that use it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.errors import FenceError

REQUEST = 0x1
ACK = 0x4
DUMP = 0x300
CREATE = 0x400

_ERROR = 2
_DONE = 3
_DUMP_INTERRUPTED = 0x10
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_NESTED = 0x8000
_BUFFER = 1 << 16
_ROUNDS = 3
"""A dump that the kernel calls interrupted is begun anew, at most this often."""


@dataclass(frozen=True, slots=True)
class NetlinkMessage:
    """One message to the kernel."""

    type: int
    flags: int
    payload: bytes


class NetlinkError(Exception):
    """The kernel refused a message or did not answer; `code` is an errno."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


class NetlinkSocket:
    """One socket, opened by the first question and again after a failure that may have left answers in it.
    Raises NetlinkError.
    """

    def __init__(self, protocol: int, deadline_s: float = 2.0) -> None:
        self._protocol = protocol
        self._deadline_s = deadline_s
        self._socket: socket.socket | None = None
        self._sequence = 0

    def open(self) -> None:
        """Open the socket beforehand, so that a question needs no descriptor any more."""
        if self._socket is not None:
            return
        try:
            opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, self._protocol)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO) from error
        opened.settimeout(0)  # with a time to wait, Python would ask poll(2) before each call
        self._socket = opened

    def close(self) -> None:
        """Give the socket up."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    def ask(self, *messages: NetlinkMessage) -> None:
        """Send messages in one datagram and wait until the last one that asks for it is acknowledged."""
        first = self._sequence + 1
        awaited = {first + at for at, message in enumerate(messages) if message.flags & ACK}
        self._send(messages)
        while awaited:
            for sequence, kind, _, payload in self._receive():
                # An answer to an earlier question, which failed before all its answers were read, is passed
                # over.
                if kind == _ERROR and sequence >= first and (code := _code(payload)):
                    raise NetlinkError(code)
                awaited.discard(sequence)

    def get(self, message: NetlinkMessage) -> bytes:
        """The payload of the one answer to a question about one thing."""
        self._send([NetlinkMessage(message.type, message.flags | REQUEST, message.payload)])
        while True:
            for sequence, kind, _, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == _ERROR:
                    raise NetlinkError(_code(payload))
                return payload

    def dump(self, message: NetlinkMessage) -> list[bytes]:
        """The payloads of all answers to one question, taken at one moment."""
        for _ in range(_ROUNDS):
            found, whole = self._dump(message)
            if whole:
                return found
        raise NetlinkError(errno.EAGAIN)

    def _dump(self, message: NetlinkMessage) -> tuple[list[bytes], bool]:
        self._send([NetlinkMessage(message.type, message.flags | REQUEST | DUMP, message.payload)])
        found: list[bytes] = []
        whole = True
        while True:
            for sequence, kind, flags, payload in self._receive():
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _DUMP_INTERRUPTED
                if kind == _DONE:
                    return found, whole
                if kind == _ERROR:
                    raise NetlinkError(_code(payload))
                found.append(payload)

    def _send(self, messages: Sequence[NetlinkMessage]) -> None:
        self.open()
        parts = []
        for message in messages:
            self._sequence += 1
            length = _HEADER.size + len(message.payload)
            parts.append(
                _HEADER.pack(length, message.type, message.flags, self._sequence, 0) + message.payload
            )
        assert self._socket is not None
        try:
            self._socket.sendto(b"".join(parts), (0, 0))
        except OSError as error:
            self.close()
            raise NetlinkError(error.errno or errno.EIO) from error

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(sequence, type, flags, payload) of each message of the next datagram."""
        try:
            data = self._datagram()
        except OSError as error:  # a timeout is one, without a number
            # the rest of a dump would be taken for the answer to the next one, or refuse it (EBUSY)
            self.close()
            raise NetlinkError(error.errno or errno.ETIMEDOUT) from error
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
            yield sequence, kind, flags, data[at + _HEADER.size : at + length]
            at += max(_HEADER.size, _aligned(length))

    def _datagram(self) -> bytes:
        """The next one. The kernel has answered by the time that it returns from the question, mostly."""
        assert self._socket is not None
        try:
            return self._socket.recv(_BUFFER)
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(self._socket, select.POLLIN)
            if not waiting.poll(1000 * self._deadline_s):
                raise TimeoutError from None
            return self._socket.recv(_BUFFER)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in a payload, by type."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        found[kind & ~_NESTED] = data[at + _ATTRIBUTE.size : at + length]
        at += max(_ATTRIBUTE.size, _aligned(length))
    return found


def fence_error(code: str, what: str, error: NetlinkError) -> FenceError:
    """What the kernel's refusal means for the fence."""
    hints = {
        errno.EPERM: "no permission (CAP_NET_ADMIN is missing)",
        errno.EOPNOTSUPP: "the kernel cannot do it (CONFIG_INET_DIAG_DESTROY)",
        errno.ETIMEDOUT: "no answer in time",
    }
    return FenceError(code, what, cause=hints.get(error.code, os.strerror(error.code)))


def _code(payload: bytes) -> int:
    return -int(struct.unpack_from("=i", payload)[0])


def _aligned(length: int) -> int:
    return (length + 3) & ~3
