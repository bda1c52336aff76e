"""The last of a removal, once it is accepted: what says that something was there, and directories that we had made."""

from __future__ import annotations

import posixpath

from agent import paths
from agent.apply import daemons, documents, generations
from agent.ports import Ports


def forget(ports: Ports, removal: generations.Generation) -> None:
    """May run twice, because a run may be killed in here. Raises ApplyError NNA0413, FileError."""
    for path in (paths.CLIMB, paths.DRIFT, paths.REPAIRS):
        documents.drop(ports.files, path)
    # Sockets of the snapshotter, which does not remove all of them; a file system in memory, but why leave them.
    for socket in (paths.SNAPSHOTTER_SOCKET, paths.SNAPSHOTTER_SYSTEM_SOCKET):
        daemons.run(ports, ["rm", "--force", "--", socket])
    ports.files.remove_empty_directory(posixpath.dirname(paths.SNAPSHOTTER_SOCKET))
    history = generations.history(ports.files, before=removal.number)
    made = {directory for one in generations.originals(history) for directory in one.missing}
    for directory in sorted(made, key=len, reverse=True):
        ports.files.remove_empty_directory(directory)
