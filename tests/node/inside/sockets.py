"""Holds listening TCP sockets with the mirror's port, as any user of a node can, until it is ended.

`mirror`: 127.0.0.1, where the mirror itself would be; each connection gets an answer that is not the
mirror's. `ipv6`: all addresses of IPv6 and none of IPv4, which is free beside a mirror on IPv4. `many`: so
many other addresses of the loopback; by several processes, each within the limit of its descriptors.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
import time

_SPARE = 100
_RETRIES_S = 0.05


def listen(address: str, port: int) -> socket.socket:
    """Again and again while somebody else is there."""
    while True:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        if ":" in address:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address, port))
            made.listen()
            return made
        except OSError:
            made.close()
            time.sleep(_RETRIES_S)


def answer(server: socket.socket) -> None:
    """Serve nonsense, for ever."""
    while True:
        with server.accept()[0] as client:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot yours")


def hold_many(port: int, count: int) -> None:
    """So many, before this returns in the first of the processes that hold them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    share = hard - _SPARE
    read, write = os.pipe()
    firsts = range(0, count, share)
    for first in firsts:
        if not os.fork():
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            kept = [
                listen(f"127.{1 + number // 60000}.{number // 250 % 240}.{1 + number % 250}", port)
                for number in range(first, min(first + share, count))
            ]
            os.write(write, b"x")
            signal.pause()
            kept.clear()
    for _ in firsts:
        os.read(read, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("mirror", "ipv6", "many"))
    parser.add_argument("--port", type=int, default=4001)
    parser.add_argument("--count", type=int, default=20000)
    options = parser.parse_args()
    if options.what == "mirror":
        answer(listen("127.0.0.1", options.port))
    if options.what == "many":
        hold_many(options.port, options.count)
    kept = [listen("::", options.port)] if options.what == "ipv6" else []
    print("held", flush=True)
    signal.pause()
    kept.clear()


if __name__ == "__main__":
    main()
