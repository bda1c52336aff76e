"""Changes in directories, by watchdog's inotify binding.

Its public Observer takes three threads for each watched directory; the daemon has one thread and an event
loop that can wait for the descriptor itself, so the layer below is used (watchdog.observers.inotify_c, the
same in watchdog 2 and 6; a contract test holds it).
"""

from __future__ import annotations

import os
import select

from watchdog.observers.inotify_c import Inotify, InotifyConstants

_MASK = (
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
)


class InotifyWatch:
    """One inotify instance. `first` must exist; the others are added later."""

    def __init__(self, first: str) -> None:
        self._inotify = Inotify(os.fsencode(first), event_mask=_MASK)
        self._watched = {first}

    def fileno(self) -> int:
        """See ports.Watch."""
        return int(self._inotify.fd)

    def add(self, directory: str) -> bool:
        """See ports.Watch."""
        if directory in self._watched:
            return True
        try:
            self._inotify.add_watch(os.fsencode(directory))
        except OSError:
            return False
        self._watched.add(directory)
        return True

    def changed(self) -> tuple[str, ...]:
        """See ports.Watch."""
        found: dict[str, None] = {}
        while select.select([self.fileno()], [], [], 0)[0]:
            for event in self._inotify.read_events():
                found[os.fsdecode(event.src_path)] = None
                if event.mask & InotifyConstants.IN_IGNORED:  # the directory itself went away
                    self._watched.discard(os.fsdecode(event.src_path))
        return tuple(found)

    def close(self) -> None:
        """End the watch; its descriptor is not valid afterwards."""
        self._inotify.close()
        self._inotify.read_events()  # the binding frees its descriptors on the next read
