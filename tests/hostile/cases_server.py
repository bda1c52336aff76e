"""Servers that do not answer as servers do."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from agent.artifacts.lock import Artifact
from agent.artifacts.refusals import Refusal
from tests.hostile.case import PATH, Case, Scene
from tests.hostile.server import Exchange, Handler, answer, chunked, head
from tests.hostile.stage import GOOD, SMALL, pinned

_LONG = str(len(GOOD))


def _raw(*pieces: bytes, then: Callable[[Exchange], object] = lambda _: None) -> Handler:
    """Writes bytes as they are, then does something, then closes."""

    def handle(exchange: Exchange) -> bool:
        for piece in pieces:
            exchange.send(piece)
        then(exchange)
        return False

    return handle


def _silence(exchange: Exchange) -> None:
    exchange.wait(600)


def _for_ever(piece: bytes, pause: float = 0.0) -> Callable[[Exchange], None]:
    def write(exchange: Exchange) -> None:
        for _ in itertools.count():
            exchange.send(piece)
            exchange.wait(pause)

    return write


def _status(status: str, refusal: Refusal, **headers: str) -> Case:
    seen = headers.get("Retry_After", f"status {status.partition(' ')[0]}")
    return Case(f"answers {status}", refusal, lambda scene: scene.serve(answer(b"no", status, **headers), GOOD), seen)


def _serve(handler: Handler) -> Callable[[Scene], Artifact]:
    return lambda scene: scene.serve(handler, GOOD)


def _nobody(scene: Scene) -> Artifact:
    del scene
    return pinned(GOOD, "http://127.0.0.1:1/x/nydus.tgz")


def _unpinned(scene: Scene, handler: Handler) -> Artifact:
    artifact = scene.publish(GOOD, f"{'0' * 64}  {PATH.rpartition('/')[2]}\n".encode())
    scene.web.routes[PATH] = handler
    return artifact


CASES = (
    Case("nobody listens", Refusal.UNREACHABLE, _nobody, "Connection refused"),
    Case("a name without an address", Refusal.UNREACHABLE, lambda _: pinned(GOOD, "http://nowhere.invalid/x/n.tgz")),
    Case("does not speak HTTP", Refusal.NOT_HTTP, _serve(_raw(b"220 mail ready\r\n\r\n"))),
    Case("says nothing HTTP, for ever", Refusal.NOT_HTTP, _serve(_raw(then=_for_ever(b"\0" * 65536)))),
    Case("hangs up on each request", Refusal.CUT, _serve(_raw())),
    Case("headers without number", Refusal.HEADERS, _serve(_raw(head()[:-2], then=_for_ever(b"X: y\r\n" * 100)))),
    Case("a header without end", Refusal.HEADERS, _serve(_raw(head()[:-2] + b"X: ", then=_for_ever(b"y" * 65536)))),
    Case("headers that trickle", Refusal.HEADERS, _serve(_raw(head()[:-2], then=_for_ever(b"X", 0.2))), "no whole"),
    Case("continues for ever", Refusal.HEADERS, _serve(_raw(then=_for_ever(head("100 Continue"), 0.05))), "no whole"),
    Case("accepts and says nothing", Refusal.SILENT, _serve(_raw(then=_silence)), "no answer"),
    Case("goes silent within the file", Refusal.SILENT,
         _serve(_raw(head(Content_Length=_LONG), GOOD[:50_000], then=_silence))),
    Case("trickles", Refusal.SLOW,
         _serve(_raw(head(Content_Length=_LONG), GOOD[:20_000], then=_for_ever(b"x", 0.3))), "bytes came in"),
    Case("hangs up within the file, each time", Refusal.CUT,
         _serve(_raw(head(Content_Length=_LONG), GOOD[:20_000])), f"of {_LONG} bytes"),
    Case("hangs up within a chunk, each time", Refusal.CUT,
         _serve(_raw(head(Transfer_Encoding="chunked"), chunked(GOOD[:20_000])[:-2_000]))),
    Case("chunks with a nonsense length", Refusal.CUT,
         _serve(_raw(head(Transfer_Encoding="chunked"), chunked(GOOD[:9_000]), b"zz\r\nhello\r\n"))),
    Case("a file that is too short and ends with the connection", Refusal.CUT,
         _serve(_raw(head(), GOOD[:-100])), f"{len(GOOD) - 100} of {_LONG} bytes"),
    Case("data without end", Refusal.TOO_LONG, _serve(_raw(head(), GOOD, then=_for_ever(b"\0" * 65536))), "more than"),
    Case("chunks without end", Refusal.TOO_LONG,
         _serve(_raw(head(Transfer_Encoding="chunked"), chunked(GOOD), then=_for_ever(chunked(b"\0" * 9_000)))),
         f"more than {_LONG}"),
    Case("announces too much", Refusal.LENGTH_SAID, _serve(answer(GOOD + b"!")), f"{len(GOOD) + 1} bytes"),
    Case("announces too little", Refusal.LENGTH_SAID, _serve(answer(GOOD[:-1])), f"{len(GOOD) - 1} bytes"),
    Case("announces a terabyte of what is still to be pinned", Refusal.TOO_LARGE,
         lambda scene: _unpinned(scene, _raw(head(Content_Length=str(1 << 40)), then=_silence)), str(1 << 40)),
    Case("data without end for what is still to be pinned", Refusal.GZIP_TRAILING,
         lambda scene: _unpinned(scene, _raw(head(), GOOD, then=_for_ever(b"\0" * 65536)))),
    Case("a length that is no number", Refusal.NOT_HTTP, _serve(_raw(head(Content_Length="0x100"), GOOD)), "0x100"),
    Case("a negative length", Refusal.NOT_HTTP, _serve(_raw(head(Content_Length="-1"), GOOD)), "-1"),
    Case("a part that nobody asked for", Refusal.RANGE,
         lambda scene: scene.serve(_raw(head("206 Partial Content", Content_Range="bytes 0-9/10"), b"x" * 10), SMALL)),
    _status("404 Not Found", Refusal.NOT_FOUND),
    _status("410 Gone", Refusal.NOT_FOUND),
    _status("401 Unauthorized", Refusal.NOT_ALLOWED),
    _status("403 Forbidden", Refusal.NOT_ALLOWED),
    _status("429 Too Many Requests", Refusal.TOO_MANY_REQUESTS, Retry_After="3600"),
    _status("418 I am a teapot", Refusal.STATUS),
    _status("204 No Content", Refusal.STATUS),
    _status("500 Internal Server Error", Refusal.SERVER_ERROR),
    _status("503 Service Unavailable", Refusal.SERVER_ERROR),
)  # fmt: skip
