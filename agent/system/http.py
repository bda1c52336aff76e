"""One bounded HTTP/1.1 exchange for root's verbs: in clear, over TLS, through a proxy, on a unix socket.

No redirects, nothing from the environment, no cloud's metadata whatever a name means, a cap on the body,
and one deadline from the name to the last byte: a server that trickles a byte a second does not stretch it.
`requests` has no such deadline, asks no unix socket, and does not tell which address it is going to ask.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from agent.config.forms import is_metadata
from agent.errors import FileError, HttpError
from agent.ports import HttpAnswer

if TYPE_CHECKING:
    import ssl

_PORTS = {"http": 80, "https": 443}
_STATUS_S, _STATUS_CAP = 1.0, 1 << 20  # bytes; as for the daemon's file
_GRACE_S = 0.2  # for a socket that was cut to be closed


class PlainHttp:
    """GET over TCP, through a forward proxy, or over a unix socket."""

    def get(
        self,
        url: str,
        *,
        deadline_s: float,
        proxy: str = "",
        headers: Mapping[str, str] | None = None,
        body_cap: int = 65536,
        unix_socket: str = "",
    ) -> HttpAnswer:
        """See ports.Http.

        Refuses clouds' metadata, as target and as proxy: credentials are there.
        """
        request = Request.of(url, proxy, headers or {}, unix_socket)
        return exchange(request, deadline_s=deadline_s, body_cap=body_cap)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that may be sent: where to connect, and what the request line and headers say."""

    peer: tuple[str, int] | str
    """(host, port), or the path of a unix socket."""
    target: str
    headers: Mapping[str, str]
    url: str
    """For messages."""
    method: str = "GET"
    body: bytes = b""
    trusted: ssl.SSLContext | None = None
    """What the certificate of the peer is held against; None: in clear."""

    @staticmethod
    def of(url: str, proxy: str, headers: Mapping[str, str], unix_socket: str) -> Request:
        """Raises HttpError (NNA0825) where the URL is not one that we send."""
        parts = _split(url)
        path = _target_of(parts)
        named = {**_named(parts), "Accept": "*/*", **headers}
        if unix_socket:
            return Request(unix_socket, path, named, url)
        if proxy:
            return Request(_host_port(_split(proxy)), f"http://{parts.netloc}{path}", named, url)
        return Request(_host_port(parts), path, named, url)


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
    named = {**_named(url), **headers}
    if body:
        named["Content-Length"] = str(len(body))
    trusted = trusted_by(ca) if url.scheme == "https" else None
    request = Request(_host_port(url), _target_of(url), named, shown(url), method, body, trusted)
    return exchange(request, deadline_s=deadline_s, body_cap=body_cap)


def read_status(path: str) -> bytes:
    """What the daemon answers to /status on its unix socket. Raises HttpError.

    The directory is the daemon's, and root asks too: a link in it is not followed to somebody else's socket.
    """
    with _held_socket(path) as held:
        place = f"/proc/self/fd/{held}"
        answer = PlainHttp().get(
            "http://localhost/status", deadline_s=_STATUS_S, body_cap=_STATUS_CAP, unix_socket=place
        )
    if answer.status != 200:
        raise HttpError("NNA0821", "the agent does not tell its status", cause=f"HTTP {answer.status}")
    return answer.body


def shown(url: SplitResult) -> str:
    """A URL for messages: its query may be a secret."""
    return f"{url.scheme}://{url.netloc}{url.path}"


def trusted_by(ca: str) -> ssl.SSLContext:
    """What a registry's certificate is held against: a CA's file, or "" for the system's store.

    Raises FileError.
    """
    import ssl  # 4 MB, and most verbs speak in clear

    try:
        context = ssl.create_default_context(cafile=ca or None)
    except ssl.SSLError as error:
        cause = f"no certificate in it ({error.reason})"
        raise FileError("NNA0421", f"cannot use the CA {ca}", cause=cause) from error
    except OSError as error:
        raise FileError("NNA0421", f"cannot use the CA {ca}", cause=error.strerror or str(error)) from error

    # Python 3.13 asks more of a certificate than containerd and nydusd do: a CA without the key usage
    # extension, as many private ones are, is good for them, so it is not to be called wrong here.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def why_not(error: ssl.SSLError) -> str:
    """Why a handshake failed, in words."""
    refused = getattr(error, "verify_message", "")  # of an SSLCertVerificationError
    return str(refused) or f"no TLS there ({error.reason or error})"


def exchange(
    request: Request,
    *,
    deadline_s: float,
    body_cap: int,
    on_connect: Callable[[socket.socket], None] | None = None,
) -> HttpAnswer:
    """Connect, send, read the whole answer. `on_connect` gets the connected socket. Raises HttpError."""
    running = _Exchange(request, deadline_s, body_cap, on_connect)
    try:
        return running.wait()
    except TimeoutError:
        cause = f"within {deadline_s:g} s"
        raise HttpError("NNA0821", f"no complete answer from {request.url}", cause=cause) from None
    except http.client.HTTPException as error:
        cause = str(error) or type(error).__name__
        raise HttpError("NNA0821", f"the answer of {request.url} is not sound HTTP", cause=cause) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: no more tasks
        cause, seen = getattr(error, "strerror", "") or str(error), (_peer(request),)
        raise HttpError("NNA0821", f"no answer from {request.url}", cause=cause, seen=seen) from error
    except ValueError as error:  # http.client refuses control characters in what it is to send
        raise _not_sent(request.url, str(error)) from None


class _Exchange(threading.Thread):
    """One exchange, in a thread that is left behind where a resolver does not come back (getaddrinfo(3) knows
    no deadline).
    """

    def __init__(
        self,
        request: Request,
        deadline_s: float,
        body_cap: int,
        on_connect: Callable[[socket.socket], None] | None,
    ) -> None:
        super().__init__(name="http", daemon=True)
        self._request, self._deadline_s, self._cap = request, deadline_s, body_cap
        self._on_connect = on_connect
        self._result: HttpAnswer | Exception = TimeoutError()
        self._socket: socket.socket | None = None
        self._ended = False

    def wait(self) -> HttpAnswer:
        """The answer. At the deadline the connection is cut. Raises whatever the thread met."""
        self.start()
        try:
            self.join(self._deadline_s)
            late = self.is_alive()
        finally:
            self._end()
        if late:
            raise TimeoutError
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def run(self) -> None:
        """In the thread."""
        try:
            self._connect()
            self._result = self._speak()
        except (HttpError, OSError, http.client.HTTPException, ValueError) as error:
            self._result = error
        finally:
            if self._socket is not None:
                self._socket.close()

    def _end(self) -> None:
        self._ended = True
        if self.is_alive() and self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which would take its state away from the thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            self.join(_GRACE_S)

    def _connect(self) -> None:
        """To the first address that takes a connection."""
        failure = OSError("the name has no address")
        for family, address in _addresses(self._request):
            if self._ended:
                raise TimeoutError
            if self._socket is not None:
                self._socket.close()
            self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(self._deadline_s)
            try:
                self._socket.connect(address)
            except TimeoutError:
                raise
            except OSError as error:
                failure = error
                continue
            if self._on_connect is not None:
                self._on_connect(self._socket)
            return
        raise failure

    def _secure(self) -> None:
        request = self._request
        if request.trusted is not None and self._socket is not None:
            import ssl

            host = request.peer[0]
            # Made first and used then, so that it can be cut within the handshake.
            self._socket = secured = request.trusted.wrap_socket(
                self._socket, server_hostname=host, do_handshake_on_connect=False
            )
            try:
                secured.do_handshake()
            except ssl.SSLError as error:
                raise HttpError("NNA0821", f"no answer from {host}", cause=why_not(error)) from None

    def _speak(self) -> HttpAnswer:
        self._secure()
        request, connection = self._request, http.client.HTTPConnection("unused")
        connection.sock = self._socket
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.endheaders(request.body or None)
        with connection.getresponse() as answer:
            body = _body(answer, request, self._cap)
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return HttpAnswer(answer.status, headers, body)


def _addresses(request: Request) -> Iterator[tuple[int, str | tuple[object, ...]]]:
    """(family, address) of each that the name has. Raises HttpError for one of a cloud's metadata."""
    if isinstance(request.peer, str):
        yield socket.AF_UNIX, request.peer
        return
    host, port = request.peer
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        _refuse_metadata(str(address[0]), request.url)
        yield family, address


def _body(answer: http.client.HTTPResponse, request: Request, cap: int) -> bytes:
    body = b""
    while piece := answer.read(min(65536, cap + 1 - len(body))):
        body += piece
        if len(body) > cap:
            what = f"the answer of {request.url} is too long"
            raise HttpError("NNA0821", what, cause=f"more than {cap} bytes")
    if answer.length:  # what Content-Length promised and did not come; read(n) does not say so
        raise http.client.IncompleteRead(body, answer.length)
    return body


def _named(url: SplitResult) -> dict[str, str]:
    return {"Host": url.netloc, "User-Agent": "nydus-agent", "Connection": "close"}


def _target_of(url: SplitResult) -> str:
    """What the request line says of a URL."""
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # .port raises ValueError where it is no number
    except ValueError as error:
        raise _not_sent(url, str(error)) from None
    if parts.scheme != "http" or not host:
        raise _not_sent(url, "only http://HOST/… is spoken here")
    if "@" in parts.netloc:
        raise _not_sent(parts._replace(netloc="…").geturl(), "credentials do not belong into a URL")
    _refuse_metadata(host, url)
    return parts


def _host_port(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _refuse_metadata(host: str, url: str) -> None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return  # a name: its addresses are looked at when it is resolved
    if is_metadata(address):
        raise _not_sent(url, f"{host} is link-local, or of a cloud's metadata service")


def _not_sent(url: str, cause: str) -> HttpError:
    return HttpError("NNA0825", f"will not ask {url}", cause=cause)


def _peer(request: Request) -> str:
    peer = request.peer
    return f"connecting to {peer}" if isinstance(peer, str) else f"connecting to {peer[0]} port {peer[1]}"


@contextlib.contextmanager
def _held_socket(path: str) -> Iterator[int]:
    try:
        held = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise HttpError("NNA0821", f"no answer from {path}", cause=error.strerror or str(error)) from error
    try:
        if not stat.S_ISSOCK(os.fstat(held).st_mode):
            raise HttpError("NNA0821", f"no answer from {path}", cause="is not a socket")
        yield held
    finally:
        os.close(held)
