"""A TCP or unix server on this machine that does with each connection what a test says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Script = Callable[[socket.socket, bytes], None]
"""(connection, request head as received) -> None; the connection is closed afterwards."""


class Server:
    """Listens while the with block of `serving` lasts; `heads` are the request heads that came."""

    def __init__(self, listener: socket.socket, script: Script, tls: ssl.SSLContext | None) -> None:
        self._listener = listener
        self._tls = tls
        self._script = script
        self._accepter = threading.Thread(target=self._accept)
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.heads: list[bytes] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http{'' if self._tls is None else 's'}://{self._listener.getsockname()[0]}:{self.port}"

    def start(self) -> None:
        self._accepter.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.closing(connection), contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if self._tls is not None:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            self.heads.append(head)
            self._script(connection, head)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepter.join(5)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


@contextlib.contextmanager
def serving(
    script: Script, unix_socket: str = "", tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[Server]:
    """A server on a free port of loopback, or on a unix socket."""
    family = socket.AF_UNIX if unix_socket else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(unix_socket or (host, 0))
    listener.listen(16)
    server = Server(listener, script, tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def answering(status: str, body: bytes, *headers: str) -> Script:
    """One sound answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    answer = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    return lambda connection, _head: connection.sendall(answer)
