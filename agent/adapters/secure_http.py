"""One bounded HTTP/1.1 exchange over TLS or in clear, for root's oneshots and verbs: `ssl` costs 4 MB.

As in `agent.adapters.http`, which does the speaking: no redirects, no proxy from the environment, no link-local
address whatever the name means, and one deadline for all of it, the handshake too.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult

from agent.adapters.http import Request, exchange
from agent.adapters.tls import context
from agent.errors import HttpError
from agent.ports import HttpAnswer

_PORTS = {"http": 80, "https": 443}


def ask(
    url: SplitResult,
    headers: Mapping[str, str],
    *,
    deadline_s: float,
    method: str = "GET",
    body: bytes = b"",
    body_cap: int = 65536,
    ca: str = "",
) -> HttpAnswer:
    """Ask http://HOST… or https://HOST…; `ca` is a file, "" the system's store.

    Raises HttpError; its text holds the URL without its query, and no header. FileError where the CA cannot be used.
    """
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    shown = f"{url.scheme}://{url.netloc}{url.path}"
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    named = {"Host": url.netloc, "User-Agent": "nydus-agent", "Connection": "close", **headers}
    if body:
        named["Content-Length"] = str(len(body))
    request = Request((host, port), target, named, shown, method, body)
    secured = _secured(context(ca), host) if url.scheme == "https" else None
    return exchange(request, deadline_s=deadline_s, body_cap=body_cap, secured=secured)


def _secured(trusted: ssl.SSLContext, host: str) -> Callable[[socket.socket, float], socket.socket]:
    def secured(plain: socket.socket, deadline: float) -> socket.socket:
        # It takes the descriptor over, so nobody else closes it where the handshake fails.
        within = trusted.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        try:
            _handshake(within, deadline)
        except ssl.SSLError as error:
            within.close()
            raise HttpError("NNA0821", f"no answer from {host}", cause=_words(error)) from None
        except BaseException:
            within.close()
            raise
        return within

    return secured


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return f"no TLS there ({error.reason or error})"


def _handshake(within: ssl.SSLSocket, deadline: float) -> None:
    """Its timeout counts for each read alone; here all of it ends with the deadline. Raises TimeoutError, SSLError."""
    within.settimeout(0)
    while True:
        try:
            within.do_handshake()
            return
        except ssl.SSLWantReadError:
            ready = select.select([within], [], [], max(0.0, deadline - time.monotonic()))
        except ssl.SSLWantWriteError:
            ready = select.select([], [within], [], max(0.0, deadline - time.monotonic()))
        if not any(ready):
            raise TimeoutError
