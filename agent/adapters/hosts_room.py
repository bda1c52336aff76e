"""A hosts.toml for one pull, below /run: it may hold a secret, and no disk gets it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from agent.adapters import directories
from agent.errors import FileError

# the directory that containerd takes for a registry without one of its own (docs/hosts.md there)
_ANY = "_default"
_FILE = "hosts.toml"


class RunHosts:
    """The directory of this path. What it lies in must be root's."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextmanager
    def holding(self, content: bytes) -> Iterator[str]:
        """See ports_bench.HostsRoom."""
        self.clear()
        try:
            with self._told("make"):
                self._make(content)
            yield self._path
        finally:
            self.clear()

    def clear(self) -> None:
        """See ports_bench.HostsRoom."""
        with self._told("remove"), directories.directory(os.path.dirname(self._path)) as top:
            directories.remove_tree(os.path.basename(self._path), top)

    def _make(self, content: bytes) -> None:
        name = os.path.basename(self._path)
        with directories.directory(os.path.dirname(self._path)) as top:
            directories.make_directory(name, top, 0o700)
            with directories.directory(name, top) as room:
                directories.make_directory(_ANY, room, 0o700)
                with directories.directory(_ANY, room) as inner:
                    directories.write_new(_FILE, inner, content, 0o600)

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            cause = error.strerror or str(error)
            raise FileError("NNA1701", f"cannot {doing} {self._path}", cause=cause) from None
