"""Parts of a file that threads bring, and one thread takes in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from agent.artifacts.child.refused import RefusedError
from agent.artifacts.child.web import Web
from agent.artifacts.fetching import Limits
from agent.artifacts.refusals import Refusal

_GLANCE_S = 0.1
"""How often the one who takes looks whether the others hang."""


@dataclass(slots=True)
class Piece:
    """Bytes `first` to `last` of the file."""

    first: int
    last: int | None
    """None: to the file's end, wherever that is."""
    whole: bool = False
    """One connection brings it alone, up to the file's end."""
    final: bool = False
    """Nothing of the file follows it."""
    chunks: deque[bytes] = field(default_factory=deque)
    waiting: int = 0
    """Bytes in `chunks`."""
    finished: bool = False


class Course:
    """One way to go through a file, until it is over: done, given up for another way, or failed."""

    def __init__(self, limits: Limits) -> None:
        self.changed = threading.Condition()
        self.pieces: deque[Piece] = deque()
        self.webs: list[Web] = []
        self.received = 0
        """Bytes that arrived, wanted or not."""
        self.given_up = ""
        """Why another way must be gone."""
        self._limits = limits
        self._failure: RefusedError | None = None
        self._unclaimed, self._total = 0, 0
        self._over = False
        self._patience = _Patience(limits)

    # For those who bring.

    def divide(self, begun: Piece, total: int) -> None:
        """From now on `claim` gives what follows `begun`."""
        with self.changed:
            self._unclaimed, self._total = (begun.last or 0) + 1, total

    def claim(self) -> Piece | None:
        """The next part that nobody has begun; waits while enough is begun. None: there is none."""
        with self.changed:
            while len(self.pieces) >= 2 * self._limits.ranges and not self._over:
                self.changed.wait()
            if self._over or self._unclaimed >= self._total:
                return None
            last = min(self._unclaimed + self._limits.piece, self._total) - 1
            piece = Piece(self._unclaimed, last, final=last == self._total - 1)
            self._unclaimed += self._limits.piece
            self.pieces.append(piece)
            self.changed.notify_all()
            return piece

    def count(self, amount: int) -> None:
        """So many bytes arrived."""
        with self.changed:
            self.received += amount

    def put(self, piece: Piece, chunk: bytes) -> None:
        """Bytes of a piece; waits while too many of them are not taken yet."""
        with self.changed:
            piece.chunks.append(chunk)
            piece.waiting += len(chunk)
            self.changed.notify_all()
            while piece.waiting > self._limits.piece and not self._over:
                self.changed.wait()

    def finish(self, piece: Piece) -> None:
        """All bytes of the piece were put."""
        with self.changed:
            piece.finished = True
            self.changed.notify_all()

    def fail(self, error: RefusedError) -> None:
        """The file is not to be had."""
        with self.changed:
            if not self._over:
                self._failure, self._over = error, True
            self.changed.notify_all()

    def give_up(self, why: str) -> None:
        """The file is not to be had this way."""
        with self.changed:
            if not self._over:
                self.given_up, self._over = why, True
            self.changed.notify_all()

    # For the one who takes.

    def head(self) -> Piece | None:
        """The piece whose turn it is; None: given up. Raises RefusedError."""
        with self.changed:
            while not self.pieces and not self.given_up:
                self._wait()
            return None if self.given_up else self.pieces[0]

    def next(self, piece: Piece) -> bytes | None:
        """The next bytes of the piece whose turn it is; None: it is finished, or given up. Raises RefusedError."""
        with self.changed:
            while not piece.chunks and not piece.finished and not self.given_up:
                self._wait()
            if piece.chunks:
                chunk = piece.chunks.popleft()
                piece.waiting -= len(chunk)
            else:
                chunk = None
                if piece.finished:
                    self.pieces.popleft()
            self.changed.notify_all()
            return chunk

    def _wait(self) -> None:
        began = time.monotonic()
        if self._failure is None:
            self.changed.wait(_GLANCE_S)
        if self._failure is not None:
            raise self._failure
        self._patience.spend(time.monotonic() - began, self.received, self.webs)


class _Patience:
    """What the one who takes has waited so far. Time in which it was busy itself accuses no server."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waited, self._since = 0.0, 0

    def spend(self, seconds: float, received: int, webs: list[Web]) -> None:
        """Raises RefusedError."""
        limits, now = self._limits, time.monotonic()
        asking = [(web, since) for web in list(webs) if (since := web.asking_since)]
        for web, since in asking:
            if now - since > limits.connect_s + limits.silence_s + _GLANCE_S:
                told = f"no whole answer within {now - since:.1f} s"
                raise RefusedError(Refusal.HEADERS if web.connected else Refusal.UNREACHABLE, told)
        if len(asking) == len(webs):
            return
        self._waited += seconds
        if self._waited < limits.slow_window_s:
            return
        came, self._since = received - self._since, received
        waited, self._waited = self._waited, 0.0
        if came < limits.slow_bytes_s * waited:
            raise RefusedError(Refusal.SLOW, f"{came} bytes came in {waited:.0f} s")
