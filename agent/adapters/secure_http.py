"""One bounded HTTP/1.1 exchange over TLS or in clear, for root's oneshots and verbs: `ssl` costs 4 MB.

As in `agent.adapters.http`, which does the speaking: no redirects, no proxy from the environment, no
link-local address whatever the name means, and one deadline for all of it, the handshake too.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult

from agent.adapters.http import Request, exchange, target_of
from agent.adapters.tls import context, why_not
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

    Raises HttpError; its text holds the URL without its query, and no header. FileError where the CA cannot
    be used.
    """
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    named = {"Host": url.netloc, "User-Agent": "nydus-agent", "Connection": "close", **headers}
    if body:
        named["Content-Length"] = str(len(body))
    request = Request((host, port), target_of(url), named, shown(url), method, body)
    secured = _secured(context(ca), host) if url.scheme == "https" else None
    return exchange(request, deadline_s=deadline_s, body_cap=body_cap, secured=secured)


def shown(url: SplitResult) -> str:
    """A URL for messages: its query may be a secret."""
    return f"{url.scheme}://{url.netloc}{url.path}"


def _secured(trusted: ssl.SSLContext, host: str) -> Callable[[socket.socket], socket.socket]:
    def secured(plain: socket.socket) -> socket.socket:
        try:
            # Its timeout bounds the whole handshake (ssl, since Python 3.5), and it is closed where that
            # fails.
            return trusted.wrap_socket(plain, server_hostname=host)
        except ssl.SSLError as error:
            raise HttpError("NNA0821", f"no answer from {host}", cause=why_not(error)) from None

    return secured
