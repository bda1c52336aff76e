"""One file by HTTP, as bytes in order: through several connections where the server knows ranges, else through one.

Threads do what can hang (names, connections, reads); the caller's thread only waits for them, with a limit, so it
always ends in time. The threads are daemons: a process that has refused a file ends without them.
Which bytes are right is not decided here. A server that contradicts itself about ranges is asked for the whole file
instead, because mirrors behind a load balancer do so without any harm; the digest decides in the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from agent.artifacts.child.pieces import Course, Piece
from agent.artifacts.child.refused import RefusedError
from agent.artifacts.child.web import Answer, CutError, Rules, Web, shown
from agent.artifacts.refusals import Refusal

_FRUITFUL = 64 << 10
"""Bytes that a connection must bring to be no failed try."""


class _OtherAnswerError(Exception):
    """The server did not send the part that it was asked for."""


class Download:
    """A file. `expected` is its length, 0 where it is not known (then `cap` is the most that is taken).

    `start` bytes of it are there already, and are not asked for.
    """

    def __init__(self, url: str, rules: Rules, *, expected: int = 0, cap: int = 0, start: int = 0) -> None:
        self.total = expected
        self.note = ""
        """Why it goes on through one connection."""
        self._url, self._rules, self._limits = url, rules, rules.limits
        self._pinned, self._cap, self._start = bool(expected), cap, start
        self._final, self._etag = url, ""
        self._ranges = True
        """Whether the server may still be asked for parts."""

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes in order, behind those that are there. Raises RefusedError."""
        at = self._start
        while not at or at != self.total:
            course = Course(self._limits)
            first = Piece(at, self._last() if at else None, whole=True, final=True)
            course.pieces.append(first)
            self._spawn(course, partial(self._bring, course, first))
            for chunk in _taken(course):
                at += len(chunk)
                yield chunk
            if not course.given_up:
                return
            self.note = self.note or f"one connection: {course.given_up}"
            self._ranges = False

    def _last(self) -> int | None:
        return self.total - 1 if self.total else None

    def _spawn(self, course: Course, work: Callable[[Web], None]) -> None:
        web = Web(self._rules)
        course.webs.append(web)
        threading.Thread(target=_guarded, args=(course, work, web), daemon=True).start()

    # In the other threads. All raise RefusedError, CutError and _OtherAnswerError.

    def _bring(self, course: Course, first: Piece, web: Web) -> None:
        """A course's first thread: what the first answer is decides whether others help."""
        size = self._limits.piece
        is_small = not first.first and 0 < self.total <= size
        if not self._ranges or self._limits.ranges < 2 or is_small:
            self._fill(course, web, first, None)
            return
        answer = self._opened(web, first.first)
        if answer.status == 206:
            first.last = min(first.first + size, self.total) - 1
            first.whole, first.final = False, first.last == self.total - 1
            course.divide(first, self.total)
            for _ in range(min(self._limits.ranges, -(-(self.total - first.first) // size)) - 1):
                self._spawn(course, partial(self._help, course))
        else:
            first.last = self._last()
        self._fill(course, web, first, answer)
        self._help(course, web)

    def _help(self, course: Course, web: Web) -> None:
        while (piece := course.claim()) is not None:
            self._fill(course, web, piece, None)

    def _opened(self, web: Web, at: int) -> Answer:
        """The first answer: a part of a file whose parts can be asked for (206), from `at`, or the whole file (200)."""
        size = self._limits.piece
        answer = self._asked(web, {"Range": f"bytes={at}-{at + size - 1}"})
        self._final = answer.url
        if answer.status == 200:
            self._learn(answer.length, answer.url)
            self._etag = answer.etag
            return answer
        if answer.part is None or not answer.etag:
            raise _OtherAnswerError("the server gave a part without saying which, or of which file")
        self._learn(answer.part.total, answer.url)
        self._etag = answer.etag
        if (answer.part.first, answer.part.last) != (at, min(at + size, self.total) - 1):
            raise _OtherAnswerError(f"the server gave another part than asked for (Content-Range: {answer.said_part})")
        return answer

    def _asked(self, web: Web, headers: dict[str, str]) -> Answer:
        """An answer, after as many tries as it takes."""
        for barren in range(self._limits.tries):
            try:
                return self._once(web, headers)
            except CutError:
                if barren + 1 >= self._limits.tries:
                    raise
            time.sleep(self._limits.pause_s * 2**barren)
        raise AssertionError

    def _learn(self, length: int | None, url: str) -> None:
        """The length that the server announces."""
        if length is None:
            return
        if self._pinned and length != self.total:
            told = f"{length} bytes, and {self.total} are expected"
            raise RefusedError(Refusal.LENGTH_SAID, shown(url), told)
        if not self._pinned and length > self._cap:
            raise RefusedError(Refusal.TOO_LARGE, shown(url), f"{length} bytes")
        self.total = self.total or length

    def _fill(self, course: Course, web: Web, piece: Piece, answer: Answer | None) -> None:
        """Bring all bytes of a piece, through as many connections as it takes."""
        at, barren = piece.first, 0
        while True:
            before = at
            try:
                answer = answer or self._part_of(web, piece, at)
                skip = at if answer.status == 200 else 0
                for chunk in answer.chunks(self._room(piece, at) + skip):
                    course.count(len(chunk))
                    rest = chunk[skip:]
                    skip -= len(chunk) - len(rest)
                    at += len(rest)
                    if rest:
                        course.put(piece, rest)
                if piece.last is not None and at <= piece.last:
                    raise CutError(Refusal.CUT, shown(answer.url))
                course.finish(piece)
                return
            except CutError as error:
                if piece.last is not None and at > piece.last:  # all is there, and only the end was not said
                    course.finish(piece)
                    return
                barren = 0 if at - before >= _FRUITFUL else barren + 1
                if barren >= self._limits.tries:
                    came = f"{at} of {self.total or 'unknown'} bytes had come"
                    raise CutError(error.refusal, *error.seen, came) from None
                time.sleep(self._limits.pause_s * 2 ** max(0, barren - 1))
                answer = None

    def _room(self, piece: Piece, at: int) -> int:
        """Bytes that are still taken; one more than expected where the answer may go on beyond the file's end."""
        if piece.last is not None:
            return piece.last - at + 1 + piece.whole
        return self._cap - at + 1

    def _part_of(self, web: Web, piece: Piece, at: int) -> Answer:
        """Ask for what is still missing of a piece: its rest, or where that makes no difference the whole file."""
        headers: dict[str, str] = {}
        if self._ranges and (at > 0 or not piece.whole):
            headers["Range"] = f"bytes={at}-{'' if piece.last is None else piece.last}"
            if self._etag and not self._etag.startswith("W/"):
                headers["If-Range"] = self._etag
        answer = self._once(web, headers)
        if answer.status == 200 and piece.whole:
            self._learn(answer.length, answer.url)
            if at == 0:
                self._final, self._etag, piece.last = answer.url, answer.etag, self._last()
            return answer
        if not headers:
            raise RefusedError(
                Refusal.RANGE, shown(answer.url), f"Content-Range: {answer.said_part}, nothing was asked"
            )
        problem = self._complaint(answer, at, piece)
        if problem:
            answer.close()
            raise _OtherAnswerError(problem)
        return answer

    def _complaint(self, answer: Answer, at: int, piece: Piece) -> str:
        if answer.status == 200:
            return "the server gave the whole file instead of a part"
        part = answer.part
        if part is None or part.first != at or (piece.last is not None and part.last != piece.last):
            return f"the server gave another part than asked for (Content-Range: {answer.said_part})"
        if answer.etag != self._etag:
            return "the server gave a part of another file (its ETag changed)"
        return "" if part.total == self.total or not self.total else "the file's length changed"

    def _once(self, web: Web, headers: dict[str, str]) -> Answer:
        """From where the first request was led to; anew from the start where that is over (signed URLs end)."""
        try:
            if self._final != self._url:
                try:
                    return web.get(self._final, headers)
                except RefusedError as error:
                    if error.refusal not in (Refusal.NOT_ALLOWED, Refusal.NOT_FOUND):
                        raise
            return web.get(self._url, headers)
        except RefusedError as error:
            if error.refusal is Refusal.RANGE and headers:
                raise _OtherAnswerError("the server knows no such part (416)") from None
            raise


def _guarded(course: Course, work: Callable[[Web], None], web: Web) -> None:
    """A thread's whole life: whatever ends it, the one who waits hears of it."""
    try:
        work(web)
    except RefusedError as error:
        course.fail(error)
    except CutError as error:
        course.fail(RefusedError(error.refusal, *error.seen))
    except _OtherAnswerError as error:
        course.give_up(str(error))
    except MemoryError:
        course.fail(RefusedError(Refusal.DIED, "no memory was left"))


def _taken(course: Course) -> Iterator[bytes]:
    """The bytes of a course's pieces in order, until its end or until it is given up."""
    while (piece := course.head()) is not None:
        while (chunk := course.next(piece)) is not None:
            yield chunk
        if not course.given_up and piece.final:
            return
