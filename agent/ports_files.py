"""The port of the node's files. Part of `agent.ports`."""

from __future__ import annotations

from typing import Protocol

from agent.node.facts import FileFact


class Files(Protocol):
    """Files under a root directory (the node's "/", or a directory in tests)."""

    def read(self, path: str) -> FileFact | None:
        """The file, following symlinks only where every directory on the way belongs to root; None: not
        there.

        Raises FileError (too large, not a regular file, no permission).
        """

    def head(self, path: str, count: int) -> bytes | None:
        """The first `count` bytes of a file of any size, found as `read` does; None: not there.

        Raises FileError.
        """

    def stamp(self, path: str) -> str | None:
        """Inode, size and time of a file, found as `read` does: other after each replacement; None: not
        there.

        Raises FileError, so nobody takes a look that failed for a file that is gone.
        """

    def sha256(self, path: str) -> str | None:
        """The digest of a file as large as a program may be, found as `read` does; None: not there.

        Raises FileError.
        """

    def listdir(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted; empty where it is not there."""

    def replace(
        self, path: str, content: bytes, *, mode: int, uid: int, gid: int, expect_sha256: str
    ) -> tuple[str, ...]:
        """Write atomically: temp in the same directory, fsync, owner and mode, rename, fsync of the
        directory.

        A symlink at `path` stays one: its target is replaced. `expect_sha256` "" means must not exist.
        Returns the directories that had to be made, outermost first. Raises FileChangedError, FileError.
        """

    def remove(self, path: str, *, expect_sha256: str) -> None:
        """Remove a file that is still what was seen. Raises FileChangedError, FileError."""

    def sync(self, directory: str) -> None:
        """Wait until the names in a directory are on the disk, whoever made or removed them; it may be
        missing.

        Raises FileError.
        """

    def sweep(self, path: str) -> None:
        """Remove what a killed writer of this file left beside it; of a directory ("…/"), of any file in it.

        Raises FileError.
        """

    def remove_empty_directory(self, path: str) -> bool:
        """Remove a directory if it is empty; says whether it was removed."""

    def remove_link(self, path: str) -> bool:
        """Remove a symbolic link (never what it points to); says whether there was one. Raises FileError."""

    def empty(self, path: str) -> int:
        """Remove the entries of a directory that another user writes to, without following a link; how many.

        A directory inside is left alone. 0 where there is no such directory. Raises FileError.
        """
