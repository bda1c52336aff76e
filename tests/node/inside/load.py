"""Load through a mirror: parallel clients that read pieces of a blob through its proxy port for a while.

Each client keeps its connection and asks for a random range at a time; one that is refused or cut off waits a
moment and comes back. Prints one JSON object at the end: requests by status ("refused" for no answer at all),
bytes, and the latency of answers in milliseconds (p50, p99, max).
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

_REST_S = 0.02
_CHUNK = 1 << 16


class Client(threading.Thread):
    """One reader of `url` through the proxy, until `until` (monotonic seconds)."""

    def __init__(self, proxy: tuple[str, int], url: str, size: int, piece: int, until: float) -> None:
        super().__init__(daemon=True)
        self.statuses: Counter[str] = Counter()
        self.bytes = 0
        self.times_ms: list[float] = []
        self._proxy, self._url, self._until = proxy, url, until
        self._size, self._piece = size, piece

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while time.monotonic() < self._until:
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(*self._proxy, timeout=30)
                self._ask(connection)
            except (OSError, http.client.HTTPException):
                self.statuses["refused"] += 1
                connection = None
                time.sleep(_REST_S)

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        start = random.randrange(max(1, self._size - self._piece))
        began = time.monotonic()
        headers = {"Host": urlsplit(self._url).netloc, "Range": f"bytes={start}-{start + self._piece - 1}"}
        connection.request("GET", self._url, headers=headers)
        with connection.getresponse() as answer:
            while data := answer.read(_CHUNK):
                self.bytes += len(data)
            self.statuses[str(answer.status)] += 1
        self.times_ms.append((time.monotonic() - began) * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proxy", default="127.0.0.1:4001")
    parser.add_argument("--url", required=True)
    parser.add_argument("--size", type=int, required=True, help="of the whole blob, in bytes")
    parser.add_argument("--piece", type=int, default=1 << 20, help="bytes of one request")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    host, _, port = options.proxy.rpartition(":")
    until = time.monotonic() + options.seconds
    clients = [
        Client((host, int(port)), options.url, options.size, options.piece, until)
        for _ in range(options.clients)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    times = sorted(took for client in clients for took in client.times_ms) or [0.0]
    print(
        json.dumps(
            {
                "statuses": dict(sum((client.statuses for client in clients), Counter())),
                "bytes": sum(client.bytes for client in clients),
                "p50_ms": times[len(times) // 2],
                "p99_ms": times[int(len(times) * 0.99)],
                "max_ms": times[-1],
            }
        )
    )


if __name__ == "__main__":
    main()
