"""HTTP/1.1 as far as probes need it, without ssl (which costs 4 MB of memory): one request, one bounded answer.
Failures become ProbeError with the kind that the health machine knows.

A socket and the loop's readers and writers, and callbacks: four pings a second are most of what the daemon does.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import socket
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from agent.daemon.turning import Loop
from agent.health.evidence import Failure

_HEADER_CAP = 16384
_PIECE = 65536
BODY_CAP = 65536

_WANTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""The agent's own lack: of a descriptor, memory, a buffer, or a port to connect from."""
_address = functools.lru_cache(maxsize=64)(ipaddress.ip_address)


class ProbeError(Exception):
    """A probe that failed, in the health machine's words."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(f"{failure}: {detail}")
        self.failure = failure
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Url:
    """Where a probe goes. `tls` URLs are never spoken to: only whether their port accepts can be seen."""

    host: str
    port: int
    path: str
    tls: bool = False

    @property
    def authority(self) -> str:
        """host:port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes

    @property
    def keeps(self) -> bool:
        """Whether the connection can be used again."""
        return self.headers.get("connection", "").lower() != "close" and "content-length" in self.headers


def parse_url(text: str) -> Url:
    """An http(s) URL of the configuration, which has checked it."""
    parts = urlsplit(text)
    host = "127.0.0.1" if parts.hostname in (None, "localhost") else str(parts.hostname)
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(host, parts.port or (443 if tls else 80), path, tls)


Told: TypeAlias = "Callable[[Answer | ProbeError], None]"
Headers: TypeAlias = tuple[tuple[str, str], ...]
CLOSE: Headers = (("Connection", "close"),)
_Parts: TypeAlias = "Generator[None, None, bytes]"


class _Question:
    """What was asked, and how far its answer has come."""

    __slots__ = ("cap", "parts", "path", "take", "told")

    def __init__(self, path: str, take: Callable[[bytes], None], told: Told, cap: int) -> None:
        self.path = path
        self.take = take
        self.told = told
        self.cap = cap
        self.parts: Generator[None, None, Answer] | None = None


@functools.lru_cache(maxsize=32)
def _request(path: str, authority: str, headers: Headers) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {authority}", "User-Agent: nydus-agent", "Accept: */*"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode()


class Connection:
    """One connection, for one or more requests in turn."""

    def __init__(self, loop: Loop, opened: socket.socket, where: str) -> None:
        self._loop = loop
        self._socket = opened
        self._where = where
        self._closed = False
        self._buffer = bytearray()
        self._ended = False
        """The other side has sent its last byte."""
        self._unsent = b""
        self._hears: Callable[[bytes | OSError], None] | None = None
        self._question: _Question | None = None
        self._known: tuple[bytes, Answer, bytes] | None = None
        """An answer that came in one piece, as it came, parsed, and its body: the next one is mostly the same."""

    @classmethod
    def begin(cls, loop: Loop, host: str, port: int) -> Connection:
        """Begin to connect to an address; what comes of it, the first question tells. Raises ProbeError."""
        what = f"connect to {host}:{port}"
        if link_local(host):
            raise ProbeError(Failure.UNREACHABLE, f"{host} is link-local, where a cloud's metadata lives: not asked")
        try:
            family = socket.AF_INET if _address(host).version == 4 else socket.AF_INET6
            opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except ValueError as error:  # a name, whose resolution would hold the loop up
            raise ProbeError(Failure.UNREACHABLE, f"{what}: not an address") from error
        except OSError as error:
            raise _probe_error(error, what) from error
        code = opened.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            opened.close()
            raise _probe_error(OSError(code, os.strerror(code)), what)
        return cls(loop, opened, what)

    @property
    def usable(self) -> bool:
        """Whether another question can be asked on it."""
        return not (self._closed or self._ended or self._buffer)

    def stand(self, told: Callable[[ProbeError | None], None]) -> None:
        """`told` hears once that the connection stands, or why it does not."""

        def writable() -> None:
            self._unwrite()
            told(self._refusal())

        self._write(writable)

    def ask(
        self,
        path: str,
        authority: str,
        headers: Headers,
        take: Callable[[bytes], None],
        told: Told,
        cap: int = BODY_CAP,
    ) -> None:
        """GET `path` (or a whole URL, through a proxy). The body goes to `take` piece by piece, up to `cap` bytes of
        it; `told` hears of the end, once, or never where the connection is closed before. Raises ProbeError where
        nothing can be sent. The caller holds the deadline.
        """
        self._question = _Question(path, take, told, cap)
        self._hears = self._hear_answer
        self._unsent = _request(path, authority, headers)
        self._send()  # on the loopback a connection stands by now
        if self._unsent:
            self._write(self._writable)
        self._read()

    def watch(self, ended: Callable[[str], None]) -> None:
        """`ended` hears once how the other side ends an idle connection."""

        def hear(heard: bytes | OSError) -> None:
            if isinstance(heard, OSError):
                self._unread()
                ended(heard.strerror or str(heard))
            elif not heard:
                self._unread()
                ended("end of file")

        self._hears = hear
        self._read()

    def close(self) -> None:
        """At once: nothing is flushed or waited for."""
        if not self._closed:
            self._unread()
            self._unwrite()
            self._closed, self._hears = True, None
            self._socket.close()

    # The socket

    def _readable(self) -> None:
        try:
            heard: bytes | OSError = self._socket.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError as error:
            heard = error
        if self._hears is None:  # unasked: the other side's end, or nothing that an answer could be told from
            self.close()
        else:
            self._hears(heard)

    def _read(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _unread(self) -> None:
        self._loop.remove_reader(self._socket.fileno())

    def _write(self, writable: Callable[[], object]) -> None:
        self._loop.add_writer(self._socket.fileno(), writable)

    def _unwrite(self) -> None:
        self._loop.remove_writer(self._socket.fileno())

    def _writable(self) -> None:
        try:
            refusal = self._refusal()
            if refusal is not None:
                raise refusal
            self._send()
        except ProbeError as error:
            self._answered(error)
            return
        if not self._unsent:
            self._unwrite()

    def _refusal(self) -> ProbeError | None:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return _probe_error(OSError(code, os.strerror(code)), self._where) if code else None

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return  # it does not stand yet
        except OSError as error:
            raise _probe_error(error, self._where) from error

    # The answer

    def _hear_answer(self, heard: bytes | OSError) -> None:
        question = self._question
        assert question is not None
        known = self._known
        if known is not None and heard == known[0] and question.parts is None and len(known[2]) <= question.cap:
            if known[2]:
                question.take(known[2])
            self._answered(known[1])
            return
        found = self._gone_on(question, heard)
        if found is not None:
            self._answered(found)

    def _answered(self, found: Answer | ProbeError) -> None:
        question, self._question, self._hears = self._question, None, None
        if isinstance(found, ProbeError) or self._ended:
            self.close()
        if question is not None:
            question.told(found)

    def _gone_on(self, question: _Question, heard: bytes | OSError) -> Answer | ProbeError | None:
        """The answer, once it is complete."""
        first = question.parts is None
        if question.parts is None:
            question.parts = self._answer(question.take, question.cap)
        path = question.path
        try:
            if isinstance(heard, OSError):
                raise heard
            self._ended = not heard
            self._buffer += heard
            next(question.parts)
        except StopIteration as end:
            answer: Answer = end.value
            simple = first and self.usable and answer.keeps and "transfer-encoding" not in answer.headers
            if simple and isinstance(heard, bytes):
                self._known = heard, answer, heard.partition(b"\r\n\r\n")[2]
            return answer
        except EOFError as error:
            return ProbeError(Failure.CLOSED, f"closed after {error} bytes of {path}")
        except OverflowError:
            return ProbeError(Failure.CONTENT, f"header of {path} is longer than {_HEADER_CAP} bytes")
        except ValueError as error:
            return ProbeError(Failure.CONTENT, f"answer to {path} is not HTTP: {error}")
        except OSError as error:
            return _probe_error(error, f"GET {path}")
        return None

    def _answer(self, take: Callable[[bytes], None], cap: int) -> Generator[None, None, Answer]:
        head = (yield from self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, rest = head[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"begins with {head[0][:40]!r}")
        headers = fields(head[1:])
        status, length = int(rest[:3]), 0

        def counted(piece: bytes) -> None:
            nonlocal length
            length += len(piece)
            if length > cap:
                raise ValueError("a body that is too long")
            take(piece)

        yield from self._body(headers, counted, cap)
        return Answer(status, headers, b"")

    def _body(self, headers: Mapping[str, str], take: Callable[[bytes], None], cap: int) -> Generator[None, None, None]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while (size := int((yield from self._until(b"\r\n")).split(b";")[0], 16)) != 0:
                yield from self._exactly(size, take, cap)
                yield from self._until(b"\r\n")
            yield from self._until(b"\r\n")
        elif "content-length" in headers:
            yield from self._exactly(int(headers["content-length"]), take, cap)
        else:
            while True:
                take(self._taken(len(self._buffer)))
                if self._ended:
                    return
                yield

    def _until(self, mark: bytes) -> _Parts:
        while (at := self._buffer.find(mark)) < 0 or at > _HEADER_CAP:
            if len(self._buffer) > _HEADER_CAP:
                raise OverflowError
            yield from self._more()
        return self._taken(at + len(mark))[:at]

    def _exactly(self, size: int, take: Callable[[bytes], None], cap: int) -> Generator[None, None, None]:
        if not 0 <= size <= cap:
            raise ValueError(f"a body of {size} bytes")
        while size:
            while not self._buffer:
                yield from self._more()
            piece = self._taken(min(size, len(self._buffer)))
            size -= len(piece)
            take(piece)

    def _more(self) -> Generator[None, None, None]:
        """Wait for bytes. EOFError: there will be none."""
        if self._ended:
            raise EOFError(len(self._buffer))
        yield

    def _taken(self, size: int) -> bytes:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece


def fields(lines: Iterable[str]) -> dict[str, str]:
    """The fields of a header; names in lower case, of two with the same one the last."""
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def link_local(host: str) -> bool:
    """Whether an address is one that is never asked: 169.254/16 and fe80::/10, mapped ones too."""
    try:
        address = _address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_link_local


def _probe_error(error: OSError, what: str) -> ProbeError:
    match error:
        case ConnectionRefusedError():
            failure = Failure.REFUSED
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            failure = Failure.RESET
        case _ if error.errno == errno.ETIMEDOUT:
            failure = Failure.SILENT
        case _ if error.errno in _WANTS:
            failure = Failure.WANT
        case _:
            failure = Failure.UNREACHABLE
    return ProbeError(failure, f"{what}: {error.strerror or error}")
