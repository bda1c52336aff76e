"""Faults: errors at chosen calls, counted over all fakes that share one `Faults`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class Crash(BaseException):
    """The process is killed here: no handler of the program may run on it (finally blocks do, as in
    Python).
    """


@dataclass
class _Fault:
    nth: int
    error: BaseException
    method: str
    after: bool


@dataclass
class Faults:
    """Counts calls and raises where it was told to.

    `calls` is the log: (method, argument, …) of each counted call, in order, the failing one included.
    """

    calls: list[tuple[str, ...]] = field(default_factory=list)
    _planned: list[_Fault] = field(default_factory=list)

    def at(self, nth: int, error: BaseException, *, method: str = "", after: bool = False) -> None:
        """Raise `error` at the nth call from now (1 = the next), of `method` only where named.

        `after`: the call takes effect first (an answer that was lost, or a crash right after the act).
        """
        seen = sum(1 for call in self.calls if method in ("", call[0]))
        self._planned.append(_Fault(seen + nth, error, method, after))

    def clear(self) -> None:
        """Forget all planned faults."""
        self._planned.clear()

    @contextmanager
    def around(self, method: str, *arguments: str) -> Iterator[None]:
        """Used by the fakes around each call that counts."""
        self.calls.append((method, *arguments))
        due = self._due(method)
        if due is not None and not due.after:
            raise due.error
        try:
            yield
        finally:
            if due is not None:  # also where the call itself has failed
                raise due.error

    def _due(self, method: str) -> _Fault | None:
        for fault in self._planned:
            if fault.method in ("", method):
                seen = sum(1 for call in self.calls if fault.method in ("", call[0]))
                if seen == fault.nth:
                    self._planned.remove(fault)
                    return fault
        return None
