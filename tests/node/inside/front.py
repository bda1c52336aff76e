"""A fault front: stands before any HTTP server (the real dfdaemon, a registry) and puts faults into what
passes.

Requests go on word for word, so a proxy behind it sees what it would see without it. `--raw` copies bytes
without looking at them, for TLS: then only refuse, hang, cut and trickle have a meaning (`share` of the first
megabyte).
"""

from __future__ import annotations

import argparse
import socket
import threading

from tests.node.inside.faults import Switchboard
from tests.node.inside.relay import (
    CHUNK,
    Connection,
    Door,
    GoneError,
    Log,
    Request,
    Upstream,
    UpstreamError,
    pump,
    reset,
)

_RAW_MEASURE = 1 << 20


class Front:
    def __init__(self, target: tuple[str, int], log: Log, board: Switchboard) -> None:
        self.target = target
        self.log = log
        self.board = board

    def serve(self, client: socket.socket) -> None:
        try:
            Connection(client, self.board, self.log).serve(self.route, self._tunnel)
        except (UpstreamError, ValueError):
            raise GoneError from None

    def route(self, request: Request) -> Upstream | None:
        if request.method == "CONNECT":
            return None
        return Upstream(*self.target, False, request.target, request.target, request.headers, via="front")

    def _tunnel(self, connection: Connection, request: Request) -> None:
        head = f"CONNECT {request.target} HTTP/1.1\r\nHost: {request.target}\r\n\r\n".encode()
        sent = connection.tunnel(*self.target, head)
        self.log.write(f"https://{request.target}", sent, method="CONNECT", via="tunnel", fault="none")
        raise GoneError

    def serve_raw(self, client: socket.socket) -> None:
        with socket.create_connection(self.target, 10) as server:
            server.settimeout(None)
            threading.Thread(target=pump, args=(client, server), daemon=True).start()
            sent = 0
            try:
                while data := server.recv(CHUNK):
                    sent += self._pass(client, data, sent)
                client.shutdown(socket.SHUT_WR)
            finally:
                self.log.write("raw", sent, method="RAW", via="front", fault=self.board.fault.kind)

    def _pass(self, client: socket.socket, data: bytes, sent: int) -> int:
        fault = self.board.take("raw")
        if fault.kind in ("refuse", "cut") and sent >= _RAW_MEASURE * fault.share:
            reset(client)
            raise GoneError
        if fault.kind in ("hang", "hang_body") and not self.board.wait_for_change(fault, client):
            raise GoneError
        if fault.kind == "trickle":
            self.board.wait_for_change(fault, client, len(data) / fault.rate)
        client.sendall(data)
        return len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="ADDRESS:PORT")
    parser.add_argument("--target", required=True, help="ADDRESS:PORT")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--log")
    parser.add_argument("--control", required=True)
    options = parser.parse_args()
    log = Log(options.log)
    board = Switchboard(lambda: dict(log.totals))
    front = Front(_address(options.target), log, board)
    door = Door(_address(options.listen), front.serve_raw if options.raw else front.serve)
    board.on_change.append(door.on_fault)
    board.serve(options.control)
    door.open()  # last: a test begins when it is open
    print("ready", flush=True)
    threading.Event().wait()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    main()
