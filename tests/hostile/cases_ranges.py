"""Servers that contradict themselves about parts of a file, and do not have the right bytes either."""

from __future__ import annotations

from collections.abc import Callable

from agent.artifacts.refusals import Refusal
from tests.hostile.case import Case
from tests.hostile.server import Exchange, Handler, answer, head, parts
from tests.hostile.stage import GOOD, NYDUSD

WRONG = bytearray(GOOD)
WRONG[150_000:150_064] = bytes(64)
"""Within nydusd, whose random bytes are not compressed."""
assert NYDUSD[150_000:150_010] in GOOD


def lies(where: Callable[[int, int], str], body: bytes = GOOD, **headers: str) -> Handler:
    """Right parts, but `where` says which they are."""

    def handle(exchange: Exchange) -> bool:
        asked = exchange.asked_of(body)
        if asked is None:
            return answer(body, ETag='"one"')(exchange)
        first, last = asked
        given = {"Content_Range": where(first, last), "ETag": '"one"', **headers}
        return answer(body[first : last + 1], "206 Partial Content", **given)(exchange)

    return handle


def after_first(first: Handler, later: Handler) -> Handler:
    """The beginning of the file from one, all else from another."""

    def handle(exchange: Exchange) -> bool:
        asked = exchange.asked()
        return (first if asked is not None and asked[0] == 0 else later)(exchange)

    return handle


def cut_parts(body: bytes, count: int) -> Handler:
    """Gives `count` bytes of each part, then hangs up."""
    return ended_parts(body, lambda first: first + count)


def ended_parts(body: bytes, end: Callable[[int], int]) -> Handler:
    """Hangs up where `end`, by a part's first byte, says that it ends, if the part goes on behind that."""

    def handle(exchange: Exchange) -> bool:
        first, last = exchange.asked_of(body) or (0, len(body) - 1)
        until = end(first)
        where = f"bytes {first}-{last}/{len(body)}"
        exchange.send(
            head("206 Partial Content", Content_Range=where, ETag='"one"', Content_Length=str(last - first + 1))
        )
        exchange.send(body[first : min(until, last + 1)])
        return last < until

    return handle


def no_parts(body: bytes) -> Handler:
    """Knows no parts, and says so by 416."""
    return lambda exchange: (NO_SUCH_PART if exchange.asked() else answer(body))(exchange)


def true_range(first: int, last: int) -> str:
    return f"bytes {first}-{last}/{len(GOOD)}"


def shifted(first: int, last: int) -> str:
    return f"bytes {max(0, first - 100)}-{last}/{len(GOOD)}"


NO_SUCH_PART = answer(b"", "416 Range Not Satisfiable")
_BAD = bytes(WRONG)
_CHECK = "checksum or length within gzip"

CASES = (
    Case("parts with right names and wrong bytes", Refusal.DIGEST,
         lambda scene: scene.serve(lies(true_range, _BAD), GOOD), _CHECK),
    Case("parts that overlap, of another file", Refusal.DIGEST,
         lambda scene: scene.serve(lies(shifted, _BAD), GOOD), "another part than asked for"),
    Case("another file from the second part on", Refusal.DIGEST,
         lambda scene: scene.serve(after_first(parts(GOOD), parts(_BAD, '"two"')), GOOD), _CHECK),
    Case("the whole of another file instead of later parts", Refusal.DIGEST,
         lambda scene: scene.serve(after_first(parts(GOOD), answer(_BAD)), GOOD), "whole file instead of a part"),
    Case("416 for later parts, then another file", Refusal.DIGEST,
         lambda scene: scene.serve(after_first(parts(GOOD), no_parts(_BAD)), GOOD), "no such part (416)"),
    Case("416 whatever is asked", Refusal.RANGE, lambda scene: scene.serve(NO_SUCH_PART, GOOD), "416"),
    Case("a part of a longer file", Refusal.LENGTH_SAID,
         lambda scene: scene.serve(lies(lambda first, last: f"bytes {first}-{last}/{len(GOOD) * 2}"), GOOD)),
    Case("hangs up within each part at once", Refusal.CUT, lambda scene: scene.serve(cut_parts(GOOD, 1), GOOD)),
    Case("a part where the whole was asked for", Refusal.RANGE,
         lambda scene: scene.serve(lambda exchange: lies(shifted)(exchange) if exchange.asked() else
                                   answer(b"x", "206 Partial Content")(exchange), GOOD), "Content-Range"),
)  # fmt: skip
