"""Odd answers of HTTP servers, and a registry that gives nothing else: what a server that means harm, or is
broken, may send to whoever asks it.

An answer is written to the client until it is complete, the client has gone, or LONGEST_S is over.
"""

from __future__ import annotations

import argparse
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.node.inside.relay import Door

LONGEST_S = 20.0
DEEP = 2000
_COUNTER = "dragonfly_client_proxy_request_failure_total"
_TRAFFIC = "dragonfly_client_download_traffic"

Pieces = Iterator[bytes]
Answer = Callable[[], Pieces]


def _whole(body: bytes, *headers: str, status: str = "200 OK") -> Pieces:
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "", ""]
    yield "\r\n".join(lines).encode() + body


def _endless(head: bytes, piece: bytes, pause_s: float = 0.0) -> Pieces:
    yield head
    while True:
        yield piece
        time.sleep(pause_s)


_OK, _CHUNKED = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_JSON = "content-type: application/vnd.oci.image.manifest.v1+json"

OF_A_REGISTRY: tuple[Answer, ...] = (
    lambda: _endless(_OK + b"\r\n", b"a" * 65536),
    lambda: _endless(_OK, b"x-odd: %s\r\n" % (b"a" * 1000)),
    lambda: _endless(_OK + b"x-long: ", b"a" * 65536),
    lambda: _endless(_CHUNKED, b"1\r\na\r\n", 0.01),
    lambda: _endless(_OK + b"content-length: 1000000\r\n\r\n", b"a", 0.1),
    lambda: _endless(b"H", b"T", 0.2),
    lambda: _endless(b"", b"", 0.2),
    lambda: iter((_OK + b"content-length: " + b"9" * 5000 + b"\r\n\r\n",)),
    lambda: iter((_OK + b"content-length: -1\r\n\r\n",)),
    lambda: iter((_CHUNKED + b"-5\r\n",)),
    lambda: iter((os.urandom(4096),)),
    lambda: _whole(b'{"a":' * DEEP + b"0" + b"}" * DEEP, _JSON),
    lambda: _whole(b"[" * DEEP + b"]" * DEEP, _JSON),
    lambda: _whole(b'{"schemaVersion": ' + b"9" * 5000 + b"}", _JSON),
    lambda: _whole(b"", "location: http://169.254.169.254/latest", status="302 Found"),
    lambda: _whole(b"", 'www-authenticate: Bearer realm="http://169.254.169.254/a"', status="401 No"),
    lambda: _whole(b"", "www-authenticate: Bearer " + 'a="b",' * 1000, status="401 No"),
    lambda: _whole(b"\xff\xfe" * 1000, "a:" + "b" * 3000, status="999 \x1b[31m"),
    lambda: _whole(b"", status="429 Later"),
    lambda: _whole(b"", status="500 Oh"),
)  # fmt: skip

OF_A_PING: tuple[Answer, ...] = (
    # What nydusd takes for healthy: it looks at the status alone (storage/src/backend/connection.rs).
    lambda: _whole(b""),
    lambda: iter((b"HTTP/1.0 200 OK\r\n\r\nok",)),
    lambda: iter((b"HTTP/1.1 200\r\nCONTENT-LENGTH:0\r\n\r\n",)),
    lambda: iter((_CHUNKED + b"2;name=value\r\nok\r\n0\r\nx: y\r\n\r\n",)),
    lambda: _whole(b"", "location: http://169.254.169.254/latest", status="302 Found"),
    lambda: _whole(b"", "x: " + "a" * 8000, status="204 Nothing"),
    lambda: _whole(b"a" * 60_000),
    lambda: _whole(b"a" * 600_000),
    lambda: _endless(_OK + b"\r\n", b"a" * 65536, 0.01),
    lambda: _endless(_CHUNKED, b"1\r\na\r\n", 0.05),
    lambda: iter((_OK + b"content-length: 10\r\n\r\nhalf",)),
    lambda: iter((_OK + b"content-length: none\r\n\r\n",)),
)


def _page(*lines: str) -> Pieces:
    return _whole("\n".join((*lines, "")).encode(), "content-type: text/plain")


OF_METRICS: tuple[Answer, ...] = (
    lambda: _page(f"{_COUNTER} nan", f'{_TRAFFIC}{{a="b"}} nan'),
    lambda: _page(f"{_COUNTER} 1e999", f"{_TRAFFIC} 1e999"),
    lambda: _page(f"{_COUNTER} -inf", f"{_TRAFFIC} -1e999", f"{_COUNTER} {'9' * 5000}"),
    lambda: _page("x{" * 20_000),
    lambda: _page(f"{_COUNTER}{{" * 20_000, "dragonfly_client_x{" * 20_000),
    lambda: _page(f"{_TRAFFIC}{{a=\"{'b' * 500_000}\"}} 1"),
    lambda: _page(f"{_COUNTER} 1.2.3", f"{_TRAFFIC} 1.2.3", f"{_COUNTER} \u0663"),
    lambda: _endless(_OK + b"\r\n", b"dragonfly_client_" * 4000),
    lambda: _endless(_OK + b"\r\n", f"{_COUNTER} 0\n".encode() * 1000),
    lambda: _endless(_OK + b"content-length: 8000000\r\n\r\n", b"{" * 65536),
    lambda: iter((os.urandom(100_000),)),
)  # fmt: skip

turns: Counter[tuple[Answer, ...]] = Counter()
"""How many answers of each kind were begun."""


def answer(client: socket.socket, answers: tuple[Answer, ...]) -> None:
    """Give the answer whose turn it is, and close. Raises OSError where the client goes."""
    client.settimeout(LONGEST_S)
    end = time.monotonic() + LONGEST_S
    turn = turns[answers]
    turns[answers] += 1
    for piece in answers[turn % len(answers)]():
        if time.monotonic() > end:
            break
        client.sendall(piece)
    client.shutdown(socket.SHUT_RDWR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5002)
    options = parser.parse_args()

    def serve(client: socket.socket) -> None:
        client.recv(65536)
        answer(client, OF_A_REGISTRY)

    Door(("127.0.0.1", options.port), serve).open()
    threading.Event().wait()


if __name__ == "__main__":
    main()
