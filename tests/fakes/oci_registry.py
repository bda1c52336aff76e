"""A registry on the loopback with the part of the distribution-spec that images need, and with faults on demand."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from agent.registry.secret import Secret

_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/([0-9]*)")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/(.+)")


@dataclass
class Faults:
    """What goes wrong. A number counts down, so that a fault can happen once."""

    cut_patch_at: list[int] = field(default_factory=list)
    """For each PATCH in turn: after so many of its bytes the connection breaks (-1: not this time)."""
    cut_blob_at: list[int] = field(default_factory=list)
    """For each GET of a blob in turn, likewise."""
    no_ranges: bool = False
    wrong_bytes: bool = False
    status: dict[str, list[int]] = field(default_factory=dict)
    """By method: what requests are answered with, one after the other, before it works."""
    most_piece: int = 0
    """As GitHub's registry: longer pieces are refused (416)."""
    first_piece_only: bool = False
    """As Amazon's: what comes after the first piece is dropped, and nothing is said of it."""
    no_pieces: int = 0
    """The status that pieces get."""
    least_piece: int = 0
    hang_up: dict[str, list[bool]] = field(default_factory=dict)
    """By method: requests that get no answer, one after the other; True: what they ask for is done."""
    retry_after: str = ""
    """What those answers have as Retry-After."""
    redirect: str = ""
    """Where GET of a blob leads to."""
    swallow_manifest: bool = False
    """Say 201 and keep something else."""
    password: str = ""
    forgets: bool = False
    """As docker-registry: an upload is found by a URL that says how much of it came, and by no other."""
    range_says: str = ""
    """What Range says whatever has come."""


class FakeRegistry:
    """What it holds, and what was asked."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.faults = Faults()
        self.asked = Counter[str]()
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.host = ""
        self._numbers = itertools.count(1)

    def begin(self) -> str:
        """A new upload."""
        number = str(next(self._numbers))
        self.uploads[number] = bytearray()
        return number

    def add(self, repository: str, content: bytes) -> str:
        """A blob; its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[repository, digest] = content
        return digest


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[FakeRegistry]:
    """A registry for as long as the block; with `tls` it speaks that alone."""
    registry = FakeRegistry()

    class Handler(_Handler):
        held = registry

    server = _Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away is what tests are about."""


class Tokens:
    """A `RegistryTokens` that answers any challenge with one header."""

    def __init__(self, header: str = "") -> None:
        self.header, self.challenges = header, list[str]()

    def known(self, _scopes: object) -> Secret:
        return Secret(self.header if self.challenges else "")

    def answer(self, www_authenticate: str, _scopes: object, *, deadline_s: float) -> Secret:
        assert deadline_s > 0
        self.challenges.append(www_authenticate)
        return Secret(self.header)


class _Handler(BaseHTTPRequestHandler):
    held: FakeRegistry
    mute = False
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Tests look at `seen`."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _answer(self) -> None:
        held, faults = self.held, self.held.faults
        held.asked[self.command] += 1
        held.seen.append((self.command, self.path, dict(self.headers)))
        if faults.password and self.headers.get("Authorization") != faults.password:
            self._drain()
            return self._send(401, {"WWW-Authenticate": 'Basic realm="test"'})
        if faults.status.get(self.command):
            self._drain()
            wait = {"Retry-After": faults.retry_after} if faults.retry_after else {}
            return self._send(faults.status[self.command].pop(0), wait, _error("UNKNOWN", "as the test wants it"))
        if faults.hang_up.get(self.command):
            self.mute = True
            if not faults.hang_up[self.command].pop(0):
                self._drain()
                return self._send(500, {})
        path = unquote(urlsplit(self.path).path)
        for pattern, act in ((_UPLOAD, self._upload), (_BLOB, self._blob), (_MANIFEST, self._manifest)):
            if found := pattern.fullmatch(path):
                with contextlib.suppress(ConnectionError):
                    act(found[1], found[2])
                return None
        return self._send(404, {})

    def _drain(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _blob(self, repository: str, digest: str) -> None:
        held, faults = self.held, self.held.faults
        content = held.blobs.get((repository, digest))
        if faults.redirect and self.command == "GET":
            return self._send(307, {"Location": faults.redirect})
        if content is None:
            return self._send(404, {}, _error("BLOB_UNKNOWN", "no such blob"))
        if faults.wrong_bytes:
            content = bytes(len(content))
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        status, headers = 200, dict[str, str]()
        if asked and not faults.no_ranges:
            first = int(asked[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            status, content = 206, content[first:]
        cut = faults.cut_blob_at.pop(0) if self.command == "GET" and faults.cut_blob_at else -1
        return self._send(status, headers, content, cut=cut)

    def _manifest(self, repository: str, named: str) -> None:
        held = self.held
        if self.command == "PUT":
            content = self._drain()
            kept = b"{}" if held.faults.swallow_manifest else content
            held.manifests[repository, named] = (self.headers["Content-Type"], kept)
            held.manifests[repository, f"sha256:{hashlib.sha256(kept).hexdigest()}"] = held.manifests[repository, named]
            return self._send(201, {})
        kind, content = held.manifests.get((repository, named), ("", b""))
        return self._send(200 if kind else 404, {"Content-Type": kind}, content)

    def _upload(self, repository: str, number: str) -> None:
        held = self.held
        asked = parse_qs(urlsplit(self.path).query)
        if self.command == "POST":
            other = (asked.get("from", [""])[0], asked.get("mount", [""])[0])
            if other in held.blobs:
                held.blobs[repository, other[1]] = held.blobs[other]
                return self._send(201, {})
            number = held.begin()
            least = {"OCI-Chunk-Min-Length": str(held.faults.least_piece)} if held.faults.least_piece else {}
            return self._send(202, self._place(repository, number) | least)
        if number not in held.uploads:
            return self._send(404, {}, _error("BLOB_UPLOAD_UNKNOWN", "no such upload"))
        if held.faults.forgets and asked["_state"] != [_state(held.uploads[number])]:
            self._drain()
            return self._send(404, {}, _error("BLOB_UPLOAD_INVALID", "blob upload invalid"))
        return self._go_on(repository, number, asked)

    def _go_on(self, repository: str, number: str, asked: dict[str, list[str]]) -> None:
        held, upload = self.held, self.held.uploads[number]
        if self.command == "DELETE":
            del held.uploads[number]
            return self._send(204, {})
        if self.command == "GET":
            return self._send(204, self._place(repository, number))
        if self.command == "PATCH":
            return self._patch(repository, number, upload)
        upload += self._drain()
        digest = f"sha256:{hashlib.sha256(upload).hexdigest()}"
        if asked["digest"] != [digest]:
            return self._send(400, {}, _error("DIGEST_INVALID", digest))
        held.blobs[repository, digest] = bytes(upload)
        del held.uploads[number]
        return self._send(201, {})

    def _patch(self, repository: str, number: str, upload: bytearray) -> None:
        faults, place = self.held.faults, self._place(repository, number)
        cut = faults.cut_patch_at.pop(0) if faults.cut_patch_at else -1
        piece, length = self.headers["Content-Range"], int(self.headers["Content-Length"])
        if piece and (status := self._refusal(int(piece.partition("-")[0]), length, upload)):
            self._drain()
            return self._send(status, place, _error("UNSUPPORTED", "not this piece"))
        if cut >= 0:
            upload += self.rfile.read(cut)
            self.close_connection = True
            self.connection.close()
            raise ConnectionAbortedError
        came = self._drain()
        if not (faults.first_piece_only and upload):
            upload += came
        return self._send(201 if faults.first_piece_only else 202, self._place(repository, number))

    def _refusal(self, first: int, length: int, upload: bytearray) -> int:
        """The status for a piece that is not taken; 0: it is."""
        faults = self.held.faults
        if faults.no_pieces:
            return faults.no_pieces
        return 416 if first != len(upload) or 0 < faults.most_piece < length else 0

    def _place(self, repository: str, number: str) -> dict[str, str]:
        upload = self.held.uploads[number]
        reached = max(0, len(upload) - 1)
        return {
            "Location": f"/v2/{repository}/blobs/uploads/{number}?_state={_state(upload)}",
            "Range": self.held.faults.range_says or f"0-{reached}",
        }

    def _send(self, status: int, headers: dict[str, str], content: bytes = b"", *, cut: int = -1) -> None:
        if self.mute:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if cut < 0 else content[:cut])
        if cut >= 0:
            self.close_connection = True
            self.connection.close()


def _state(upload: bytearray) -> str:
    return f"s{len(upload)}"


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()
