"""One bounded HTTP/1.1 GET in clear text: no redirects, no proxy from the environment, a cap on the body, and
one deadline for everything from the name to the last byte (a server that trickles a byte a second does not
stretch it).

TLS is not here: `ssl` costs 4 MB, and a mirror is spoken to in clear.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import SplitResult, urlsplit

from agent.errors import HttpError
from agent.ports import HttpAnswer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Address = tuple[str, int]


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

        Refuses link-local addresses, as target and as proxy: clouds keep credentials there.
        """
        request = Request.of(url, proxy, headers or {}, unix_socket)
        return exchange(request, deadline_s=deadline_s, body_cap=body_cap)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that may be sent: where to connect, and what the request line and headers say."""

    peer: Address | str
    """(host, port), or the path of a unix socket."""
    target: str
    headers: Mapping[str, str]
    url: str
    """For messages."""
    method: str = "GET"
    body: bytes = b""

    @staticmethod
    def of(url: str, proxy: str, headers: Mapping[str, str], unix_socket: str) -> Request:
        """Raises HttpError (NNA0825) where the URL is not one that we send."""
        parts = _split(url)
        path = target_of(parts)
        named = {
            "Host": parts.netloc,
            "Accept": "*/*",
            "User-Agent": "nydus-agent",
            "Connection": "close",
            **headers,
        }
        if unix_socket:
            return Request(unix_socket, path, named, url)
        if proxy:
            return Request(_host_port(_split(proxy)), f"http://{parts.netloc}{path}", named, url)
        return Request(_host_port(parts), path, named, url)


def target_of(url: SplitResult) -> str:
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
    _refuse_link_local(host, url)
    return parts


def _host_port(parts: SplitResult) -> Address:
    return parts.hostname or "", parts.port or 80


def _refuse_link_local(host: str, url: str) -> None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return  # a name: its addresses are looked at when it is resolved
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if (mapped or address).is_link_local:
        raise _not_sent(url, f"{host} is a link-local address")


def _not_sent(url: str, cause: str) -> HttpError:
    return HttpError("NNA0825", f"will not ask {url}", cause=cause)


def exchange(
    request: Request,
    *,
    deadline_s: float,
    body_cap: int,
    on_connect: Callable[[socket.socket], None] | None = None,
    secured: Callable[[socket.socket], socket.socket] | None = None,
) -> HttpAnswer:
    """Connect, send, read the whole answer. `on_connect` gets the connected socket; `secured` gets it with
    the time that is left as its timeout, and gives the one to speak through. Raises HttpError.
    """
    deadline = time.monotonic() + deadline_s
    try:
        with contextlib.closing(_connect(request, deadline)) as connected:
            if on_connect is not None:
                on_connect(connected)
            connected.settimeout(_left(deadline))
            with contextlib.closing(connected if secured is None else secured(connected)) as within:
                return _speak(request, _Timed(within, deadline), body_cap)
    except TimeoutError:
        raise HttpError(
            "NNA0821", f"no complete answer from {request.url}", cause=f"within {deadline_s:g} s"
        ) from None
    except http.client.HTTPException as error:
        cause = str(error) or type(error).__name__
        raise HttpError("NNA0821", f"the answer of {request.url} is not sound HTTP", cause=cause) from error
    except OSError as error:
        cause = error.strerror or str(error)
        raise HttpError(
            "NNA0821", f"no answer from {request.url}", cause=cause, seen=(_peer(request),)
        ) from error
    except ValueError as error:  # http.client refuses control characters in what it is to send
        raise _not_sent(request.url, str(error)) from None


def _peer(request: Request) -> str:
    peer = request.peer
    return f"connecting to {peer}" if isinstance(peer, str) else f"connecting to {peer[0]} port {peer[1]}"


def _connect(request: Request, deadline: float) -> socket.socket:
    if isinstance(request.peer, str):
        return _connected(socket.AF_UNIX, request.peer, deadline)
    host, port = request.peer
    failure: OSError = OSError("the name has no address")
    for family, address in _resolve(host, port, deadline):
        _refuse_link_local(address[0], request.url)
        try:
            return _connected(family, address, deadline)
        except TimeoutError:
            raise
        except OSError as error:
            failure = error
    raise failure


def _connected(family: int, address: str | tuple[str, int], deadline: float) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(_left(deadline))
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _resolve(host: str, port: int, deadline: float) -> list[tuple[int, Address]]:
    """getaddrinfo(3) knows no deadline, so it runs in a thread that is left behind if it does not come
    back.
    """
    with contextlib.suppress(ValueError):
        version = ipaddress.ip_address(host).version
        return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]
    answers: queue.Queue[list[tuple[int, Address]] | OSError] = queue.Queue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(entry[0], cast("Address", entry[4][:2])) for entry in found])
        except OSError as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Timed:
    """What http.client needs of a socket, each operation bounded by what is left until the deadline."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self.socket = connected
        self.deadline = deadline

    def sendall(self, data: bytes) -> None:
        self.socket.settimeout(_left(self.deadline))
        self.socket.sendall(data)

    def makefile(self, _mode: str, *_arguments: object) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))

    def close(self) -> None:
        """The socket is closed by whoever connected it."""


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: _Timed) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._timed.socket.settimeout(_left(self._timed.deadline))
        return self._timed.socket.recv_into(buffer)


def _speak(request: Request, timed: _Timed, body_cap: int) -> HttpAnswer:
    connection = http.client.HTTPConnection("unused")
    connection.sock = timed  # http.client uses its sendall, makefile and close only
    connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers.items():
        connection.putheader(name, value)
    connection.endheaders(request.body or None)
    with connection.getresponse() as answer:
        body = _body(answer, request, body_cap)
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return HttpAnswer(answer.status, headers, body)


def _body(answer: http.client.HTTPResponse, request: Request, cap: int) -> bytes:
    body = b""
    while piece := answer.read(min(65536, cap + 1 - len(body))):
        body += piece
        if len(body) > cap:
            raise HttpError(
                "NNA0821", f"the answer of {request.url} is too long", cause=f"more than {cap} bytes"
            )
    if answer.length:  # what Content-Length promised and did not come; read(n) does not say so
        raise http.client.IncompleteRead(body, answer.length)
    return body
