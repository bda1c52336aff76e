"""A server of files that sends at the rate of a network, in a process of its own, and tells when its last byte went."""

from __future__ import annotations

import http.server
import multiprocessing
import re
import threading
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import TracebackType

_PIECE = 1 << 16


class Paced:
    """Serves the files of a directory on loopback, ranges too; all connections together send `rate` bytes a second."""

    def __init__(self, directory: Path, rate: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._last: Synchronized[float] = context.Value("d", 0.0)
        port: Synchronized[int] = context.Value("i", 0)
        self._process = context.Process(target=_serve, args=(str(directory), rate, port, self._last), daemon=True)
        self._port = port
        self.url = ""

    def __enter__(self) -> Paced:
        self._process.start()
        end = time.monotonic() + 20
        while not self._port.value:
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.005)
        self.url = f"http://127.0.0.1:{self._port.value}/"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()

    def last_byte(self) -> float:
        """When the last byte was handed to the kernel, by the monotonic clock."""
        return float(self._last.value)


def _serve(directory: str, rate: int, port: Synchronized[int], last: Synchronized[float]) -> None:
    pace = _Pace(rate)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content = (Path(directory) / self.path.rpartition("/")[2]).read_bytes()
            wanted = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", self.headers.get("Range", ""))
            start = int(wanted[1]) if wanted else 0
            end = int(wanted[2]) + 1 if wanted and wanted[2] else len(content)
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
            self.send_header("Content-Length", str(end - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", '"one"')
            self.end_headers()
            for at in range(start, end, _PIECE):
                piece = content[at : min(at + _PIECE, end)]
                pace.wait(len(piece))
                self.wfile.write(piece)
            last.value = time.monotonic()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.value = server.server_address[1]
    server.serve_forever()


class _Pace:
    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free = time.monotonic()
        self._lock = threading.Lock()

    def wait(self, count: int) -> None:
        with self._lock:
            now = time.monotonic()
            self._free = max(self._free, now - 0.01) + count / self._rate
            left = self._free - now
        if left > 0:
            time.sleep(left)
