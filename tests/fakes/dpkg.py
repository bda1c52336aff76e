"""A package manager in memory: busy for a number of looks, or for ever."""

from __future__ import annotations


class FakePackageManager:
    """Held by `pid` for the first `looks` looks (None: for ever)."""

    def __init__(self, pid: int | None = None, looks: int | None = None) -> None:
        self._pid = pid
        self._looks = looks

    def holder(self) -> int | None:
        """See ports.PackageManager."""
        if self._pid is None or self._looks == 0:
            return None
        if self._looks is not None:
            self._looks -= 1
        return self._pid
