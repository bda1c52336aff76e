"""libnftables in this process. The commands are nft(8)'s own language: one text is one transaction."""

from __future__ import annotations

import socket
from typing import Any

from agent.errors import FenceError

_NETLINK_NETFILTER = 12  # include/uapi/linux/netlink.h


class GoneError(FenceError):
    """The table, set or element is not there."""


class Nft:
    """One handle, and with it one netlink socket: a table with `flags owner` lives as long as this."""

    def __init__(self) -> None:
        self._library: Any = None

    def run(self, text: str) -> str:
        """Its output, lists as JSON. Raises FenceError (NNA0801) with libnftables' reason (GoneError where something is
        not there); then nothing of `text` was done.
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
    """libnftables ends the whole process where it gets no netlink socket (its src/mnl.c, netlink_open_error): a kernel
    without nftables, or no descriptor left. So it is asked for one beforehand.
    """
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER).close()
    except OSError as error:
        raise FenceError("NNA0801", "nft cannot be used", cause=f"netlink socket: {error.strerror}") from error


def _cause(error: str) -> str:
    first = next((line for line in error.splitlines() if line.strip()), "no reason given").strip()
    if "Operation not permitted" in first:
        return "no permission (CAP_NET_ADMIN is missing)"
    return first.removeprefix("internal:0:0-0: ").removeprefix("Error: ")
