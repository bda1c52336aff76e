"""Acts on files in a directory that is open: each name is found there, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from agent.adapters.walk import NEW

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def opened(name: str, flags: int, within: int | None = None, mode: int = 0o600) -> Iterator[int]:
    """A descriptor for as long as the block lasts."""
    descriptor = os.open(name, flags, mode, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def directory(name: str, within: int | None = None) -> Iterator[int]:
    """The directory of that name, to be listed and synced."""
    with opened(name, _DIRECTORY, within) as descriptor:
        yield descriptor


def make_directory(name: str, within: int, mode: int = 0o755) -> None:
    """A new directory with these rights, whatever the umask."""
    os.mkdir(name, mode, dir_fd=within)
    with directory(name, within) as made:
        os.fchmod(made, mode)


def write_new(name: str, within: int, content: bytes, mode: int) -> None:
    """A new file that is on the disk when this returns."""
    with opened(name, NEW, within) as descriptor:
        rest = memoryview(content)
        while rest:  # write(2) may take less at a time
            rest = rest[os.write(descriptor, rest) :]
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def remove_tree(name: str, within: int) -> None:
    """Remove whatever has that name, with all that is in it; links are removed, never followed."""
    try:
        with directory(name, within) as inner:
            for entry in os.listdir(inner):
                remove_tree(entry, inner)
        os.rmdir(name, dir_fd=within)
    except NotADirectoryError:
        _remove_if_there(name, within)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ELOOP:  # O_NOFOLLOW met a link
            raise
        _remove_if_there(name, within)


def _remove_if_there(name: str, within: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)
