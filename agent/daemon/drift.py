"""Notices that files which concern us were changed, and asks root to look: the daemon cannot read all of them, and
must not judge what it cannot read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from agent import paths
from agent.ports import Watch

_SETTLE_S = 2.0
"""Changes come in groups (a package's files, an editor's renames): one request for all of them."""
_TELL_S = 15.0
"""A change is told only when no climb has seen it for this long: `apply` writes these files too, and then climbs."""
_REWATCH_S = 60.0
"""Directories that were not there are looked for again."""
_REQUEST = "drift"


class Drift:
    """The watched files, and the request for an inspection."""

    def __init__(self, watch: Watch, containerd_config: str, request_dir: str) -> None:
        self._watch = watch
        self._request_dir = Path(request_dir)
        self._files = {
            paths.NYDUSD_TEMPLATE,
            paths.SNAPSHOTTER_CONFIG,
            paths.SNAPSHOTTER_UNIT_FILE,
            containerd_config,
        }
        self._due_at: float | None = None
        self._rewatch_at = float("-inf")
        self.changed: tuple[str, ...] = ()
        """What was changed since the last climb, once it is worth telling."""
        self._unproved: tuple[str, ...] = ()
        self._tell_at = float("inf")
        self.changed_at = 0.0
        """Seconds since the epoch."""

    def refresh(self, now: float) -> None:
        """Watch what has come to be there."""
        if now >= self._rewatch_at:
            self._rewatch_at = now + _REWATCH_S
            for directory in self._directories():
                self._watch.add(directory)

    def look(self, now: float, epoch: float) -> None:
        """Take notice of what changed. Called when the watch's descriptor is readable."""
        found = tuple(path for path in self._watch.changed() if self._concerns_us(path))
        if found:
            self._tell_at = min(self._tell_at, now + _TELL_S)
            self._unproved = tuple(dict.fromkeys([*self._unproved, *found]))[:20]
            self.changed_at = epoch
            self._due_at = now + _SETTLE_S
            self._rewatch_at = now

    def proved(self, climbed_at: float | None) -> None:
        """A climb that began after the last change has seen it."""
        if climbed_at is not None and climbed_at > self.changed_at:
            self.changed = self._unproved = ()
            self._tell_at = float("inf")

    def ask(self, now: float) -> bool:
        """Put the request for an inspection down once the changes have settled; whether that was done now."""
        if now >= self._tell_at:
            self.changed = self._unproved
        if self._due_at is None or now < self._due_at:
            return False
        self._due_at = None
        return self.request()

    def request(self) -> bool:
        """Put the request down: an empty file whose existence is all that anybody looks at. Raises OSError."""
        self._request_dir.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(
            self._request_dir / _REQUEST, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        os.close(descriptor)
        return True

    def _directories(self) -> Iterator[str]:
        yield from sorted({str(Path(path).parent) for path in self._files})
        yield paths.CERTS_D
        try:
            with os.scandir(paths.CERTS_D) as entries:
                yield from (entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            return

    def _concerns_us(self, path: str) -> bool:
        return path in self._files or path.startswith(paths.CERTS_D + "/")
