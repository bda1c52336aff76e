"""nftables, in two ways: by libnftables in this process, and over netlink
(include/uapi/linux/netfilter/nf_tables.h).

libnftables takes nft(8)'s own language: one text is one transaction. But it reads every set and chain of the
node before it deletes an element: 0.2 ms on an empty node, 300 ms on one with 5,000 services in kube-proxy's
nftables mode. So the fence is made by libnftables, where its language is worth having. It is raised, renewed
and lifted over netlink, in a fifth of a millisecond whatever else there is.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from typing import Any

from agent.errors import FenceError
from agent.netfilter.netlink import (
    ACK,
    CREATE,
    REQUEST,
    NetlinkError,
    NetlinkMessage,
    NetlinkSocket,
    attribute,
    fence_error,
    nested,
)

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEW_ELEMENT, _GET_ELEMENT, _DELETE_ELEMENT = (_SUBSYSTEM << 8 | number for number in (12, 13, 14))
_GET_TABLE, _GET_CHAIN, _GET_RULE = (_SUBSYSTEM << 8 | number for number in (1, 4, 7))
_INET = 1  # NFPROTO_INET
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEMENT = 1, 2, 3, 1
_ELEMENT_KEY, _ELEMENT_TIMEOUT, _DATA_VALUE = 1, 4, 1
_TABLE_NAME, _CHAIN_TABLE, _CHAIN_NAME, _RULE_TABLE, _RULE_CHAIN = 1, 1, 3, 1, 2
_FAMILY = struct.Struct("!BBH")  # family, version, resource


class GoneError(FenceError):
    """The table, set or element is not there."""


class Nft:
    """One handle, and with it one netlink socket: a table with `flags owner` lives as long as this."""

    def __init__(self) -> None:
        self._library: Any = None

    def run(self, text: str) -> str:
        """Its output, lists as JSON. Raises FenceError (NNA0801) with libnftables' reason (GoneError where
        something is not there); then nothing of `text` was done.
        """
        code, output, error = self._loaded().cmd(text)
        if code == 0:
            return str(output)
        cause = _cause(str(error))
        kind = GoneError if "No such file" in cause else FenceError
        raise kind("NNA0801", "nft refused a command", cause=cause, seen=(text.strip().splitlines()[-1],))

    def close(self) -> None:
        """Give the socket up, and with it the tables that it owns."""
        self._library = None

    def _loaded(self) -> Any:  # noqa: ANN401 - the binding has no types
        if self._library is None:
            _need_netlink()
            try:
                import nftables

                self._library = nftables.Nftables()
            except (ImportError, OSError, AttributeError) as error:  # absent, unreadable, or something else
                raise FenceError("NNA0801", "nft cannot be used", cause=f"libnftables: {error}") from error
            self._library.set_json_output(True)
        return self._library


def _need_netlink() -> None:
    """libnftables ends the whole process where it gets no netlink socket (its src/mnl.c, netlink_open_error):
    a kernel without nftables, or no descriptor left. So it is asked for one beforehand.
    """
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER).close()
    except OSError as error:
        raise FenceError(
            "NNA0801", "nft cannot be used", cause=f"netlink socket: {error.strerror}"
        ) from error


def _cause(error: str) -> str:
    first = next((line for line in error.splitlines() if line.strip()), "no reason given").strip()
    if "Operation not permitted" in first:
        return "no permission (CAP_NET_ADMIN is missing)"
    return first.removeprefix("internal:0:0-0: ").removeprefix("Error: ")


class Elements:
    """(address . port) elements of the sets of one table of family inet. Raises FenceError (NNA0801)."""

    def __init__(self, table: str) -> None:
        self._table = table
        # Kept open: the kernel lets the closing of such a socket wait until deleted elements are freed (12
        # ms).
        self._link = NetlinkSocket(_NETLINK_NETFILTER)

    def renew(self, where: str, address: str, port: int, lease_ms: int) -> bool:
        """Add, delete and add an element in one transaction; False where there is no such table or set.

        Adding alone does not renew a running timeout; deleting alone fails once the element has lapsed.
        """
        key = _key(address, port)
        timed = nested(_LIST_ELEMENT, key, attribute(_ELEMENT_TIMEOUT, struct.pack("!Q", lease_ms)))
        return self._transaction(
            self._message(_NEW_ELEMENT, where, timed),
            self._message(_DELETE_ELEMENT, where, nested(_LIST_ELEMENT, key)),
            self._message(_NEW_ELEMENT, where, timed),
        )

    def close(self) -> None:
        """Give the socket up."""
        self._link.close()

    def remove(self, where: str, address: str, port: int) -> bool:
        """Delete an element; False where it is not there."""
        return self._transaction(
            self._message(_DELETE_ELEMENT, where, nested(_LIST_ELEMENT, _key(address, port)))
        )

    def holds(self, where: str, address: str, port: int) -> bool:
        """Whether an element is there."""
        asked = self._message(_GET_ELEMENT, where, nested(_LIST_ELEMENT, _key(address, port)))
        try:
            self._link.get(NetlinkMessage(asked.type, 0, asked.payload))
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                return False
            raise fence_error("NNA0801", "nft's set could not be read", error) from error
        return True

    def shape(self, chain: str) -> tuple[bytes, ...]:
        """Table, chain and the chain's rules as the kernel writes them, with their handles: equal bytes are
        the same objects, unchanged. Empty: there is no such table or chain.
        """
        table = attribute(_TABLE_NAME, _name(self._table))
        named = attribute(_CHAIN_TABLE, _name(self._table)) + attribute(_CHAIN_NAME, _name(chain))
        asked = attribute(_RULE_TABLE, _name(self._table)) + attribute(_RULE_CHAIN, _name(chain))
        try:
            answers = [
                self._link.get(NetlinkMessage(_GET_TABLE, 0, _FAMILY.pack(_INET, 0, 0) + table)),
                self._link.get(NetlinkMessage(_GET_CHAIN, 0, _FAMILY.pack(_INET, 0, 0) + named)),
                *self._link.dump(NetlinkMessage(_GET_RULE, 0, _FAMILY.pack(_INET, 0, 0) + asked)),
            ]
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                return ()
            raise fence_error("NNA0801", "nft's rules could not be read", error) from error
        # The family's header counts others' changes too.
        return tuple(answer[_FAMILY.size :] for answer in answers)

    def _message(self, kind: int, where: str, element: bytes) -> NetlinkMessage:
        flags = REQUEST | ACK | (CREATE if kind == _NEW_ELEMENT else 0)
        named = attribute(_LIST_TABLE, _name(self._table)) + attribute(_LIST_SET, _name(where))
        return NetlinkMessage(
            kind, flags, _FAMILY.pack(_INET, 0, 0) + named + nested(_LIST_ELEMENTS, element)
        )

    def _transaction(self, *messages: NetlinkMessage) -> bool:
        frame = _FAMILY.pack(0, 0, _SUBSYSTEM)
        begin, end = NetlinkMessage(_BATCH_BEGIN, REQUEST, frame), NetlinkMessage(_BATCH_END, REQUEST, frame)
        try:
            self._link.ask(begin, *messages, end)
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                return False
            raise fence_error("NNA0801", "nft refused a set element", error) from error
        return True


def _key(address: str, port: int) -> bytes:
    """The parts of a concatenated key are padded to 4 bytes each."""
    value = ipaddress.ip_address(address).packed + struct.pack("!H2x", port)
    return nested(_ELEMENT_KEY, attribute(_DATA_VALUE, value))


def _name(text: str) -> bytes:
    return text.encode() + b"\0"
