"""TLS towards registries, and a listener that sees whether others speak it. For root's oneshots only: ssl
costs 4 MB.

No request is sent to a registry here: the handshake alone tells whether its certificate verifies.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from agent.adapters.peers import uid_of_peer, uids_of
from agent.errors import FileError, HttpError
from agent.ports import TlsSight

_HTTPS_PORT = 443
_HANDSHAKE = 0x16  # content type of the record that a TLS client sends first (RFC 8446, section 5.1)


class RegistryTls:
    """The `Tls` port."""

    def verify(self, host: str, ca: str, *, deadline_s: float) -> str:
        """See ports.Tls."""
        trusted = context(ca)
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname or "", parts.port or _HTTPS_PORT
        try:
            with (
                socket.create_connection((name, port), timeout=deadline_s) as plain,
                trusted.wrap_socket(plain, server_hostname=name),
            ):
                return ""
        except ssl.SSLError as error:
            return why_not(error)
        except OSError as error:
            raise HttpError("NNA0821", f"no answer from {host}", cause=str(error)) from error

    def sight(self, fetch: Callable[[str], None], *, user: str, deadline_s: float) -> TlsSight:
        """See ports.Tls."""
        allowed = uids_of("root", user)
        try:
            listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        except OSError as error:
            raise HttpError("NNA0821", "cannot listen on the loopback", cause=str(error)) from error
        seen = [TlsSight.NOBODY]
        with listener:
            thread = threading.Thread(target=_watch, args=(listener, seen, allowed, deadline_s), daemon=True)
            thread.start()
            with contextlib.suppress(HttpError):
                fetch(f"127.0.0.1:{listener.getsockname()[1]}")
            # shutdown wakes the accept of a thread that still waits; close alone would not (accept(2) on
            # Linux).
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(deadline_s)
        return seen[0]


def context(ca: str) -> ssl.SSLContext:
    """What a registry's certificate is held against: a CA's file, or "" for the system's store.

    Raises FileError.
    """
    try:
        found = ssl.create_default_context(cafile=ca or None)
    except ssl.SSLError as error:
        raise FileError(
            "NNA0421", f"cannot use the CA {ca}", cause=f"no certificate in it ({error.reason})"
        ) from error
    except OSError as error:
        raise FileError("NNA0421", f"cannot use the CA {ca}", cause=error.strerror or str(error)) from error

    # Python 3.13 asks more of a certificate than containerd and nydusd do: a CA without the key usage
    # extension, as many private ones are, is good for them, so it is not to be called wrong here.
    found.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return found


def why_not(error: ssl.SSLError) -> str:
    """Why a handshake failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return f"no TLS there ({error.reason or error})"


def _watch(listener: socket.socket, seen: list[TlsSight], allowed: frozenset[int], deadline_s: float) -> None:
    """Cut off each client after its first byte (a mirror may try again), until the listener or the time
    ends.
    """
    end = time.monotonic() + deadline_s
    while (left := end - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            client, peer = listener.accept()
            with client:
                if uid_of_peer(peer, listener.getsockname()) not in allowed:
                    continue
                client.settimeout(left)
                first = client.recv(1)
        except OSError:
            return
        if first and seen[0] is TlsSight.NOBODY:
            seen[0] = TlsSight.TLS if first[0] == _HANDSHAKE else TlsSight.PLAIN
