"""The few acts on files that the store is made of. Each name is found in an open directory, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator

from agent.adapters.walk import NEW, READ
from agent.errors import ArtifactError, FileError

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_CODES = {
    errno.ENOSPC: "NNA1132", errno.EDQUOT: "NNA1132", errno.ELOOP: "NNA1131", errno.ENOTDIR: "NNA1131",
    errno.EISDIR: "NNA1131", errno.EEXIST: "NNA1131", errno.ENAMETOOLONG: "NNA1131", errno.EACCES: "NNA1131",
    errno.EPERM: "NNA1131",
}  # fmt: skip


@contextlib.contextmanager
def told(doing: str, path: str, code: str = "") -> Iterator[None]:
    """What the system or the walk to a place refuses, as an ArtifactError: `code`, else NNA1131, NNA1132 or NNA1133."""
    try:
        yield
    except FileError as error:
        cause = f"{error.what}: {error.cause}" if error.cause else error.what
        raise ArtifactError(code or "NNA1131", f"cannot {doing} {path}", cause=cause, seen=error.seen) from error
    except OSError as error:
        code = code or _CODES.get(error.errno or 0, "NNA1133")
        raise ArtifactError(code, f"cannot {doing} {path}", cause=error.strerror or str(error)) from error


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
    with opened(name, DIRECTORY, within) as descriptor:
        yield descriptor


def make_directory(name: str, within: int, mode: int = 0o755) -> None:
    """A new directory with these rights, whatever the umask."""
    os.mkdir(name, mode, dir_fd=within)
    with directory(name, within) as made:
        os.fchmod(made, mode)


def read_small(name: str, within: int, cap: int) -> bytes | None:
    """The content of a regular file of at most `cap` bytes; None: not there. Raises OSError (EFBIG too)."""
    try:
        with opened(name, READ, within) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EISDIR, "it is not a regular file")
            content = b""
            while len(content) <= cap and (piece := os.read(descriptor, cap + 1 - len(content))):
                content += piece
    except FileNotFoundError:
        return None
    if len(content) > cap:
        raise OSError(errno.EFBIG, f"it is longer than {cap} bytes")
    return content


def write_new(name: str, within: int, content: bytes, mode: int) -> None:
    """A new file that is on the disk when this returns."""
    with opened(name, NEW, within) as descriptor:
        write_all(descriptor, memoryview(content))
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def write_all(descriptor: int, content: memoryview) -> None:
    """All of it: write(2) may take less at a time."""
    while content:
        content = content[os.write(descriptor, content) :]


def put(name: str, within: int, temporary: str, beside: int) -> None:
    """Give what is ready as `temporary` in the directory `beside` its name: what has it goes, at once unless it is a
    directory.
    """
    try:
        os.rename(temporary, name, src_dir_fd=beside, dst_dir_fd=within)
    except IsADirectoryError:
        remove_tree(name, within)
        os.rename(temporary, name, src_dir_fd=beside, dst_dir_fd=within)


def remove_others(ours: Collection[str], within: int) -> None:
    """Remove everything from a directory whose name is not among `ours`."""
    for name in os.listdir(within):
        if name not in ours:
            remove_tree(name, within)


def remove_if_there(name: str, within: int) -> None:
    """Remove a file or a link; no error where nothing is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)


def link_target(name: str, within: int) -> str:
    """Where a symbolic link leads; "" where there is none of that name."""
    try:
        return os.readlink(name, dir_fd=within)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
            return ""
        raise


def need_directory(name: str, within: int) -> None:
    """See to it that a directory of ours has that name; what else has it goes."""
    try:
        with directory(name, within) as found:
            os.fchown(found, os.geteuid(), os.getegid())
            os.fchmod(found, 0o755)
            return
    except OSError:
        remove_tree(name, within)
    make_directory(name, within)


def remove_tree(name: str, within: int) -> None:
    """Remove whatever has that name, with all that is in it; links are removed, never followed."""
    try:
        with directory(name, within) as inner:
            for entry in os.listdir(inner):
                remove_tree(entry, inner)
        os.rmdir(name, dir_fd=within)
    except NotADirectoryError:
        remove_if_there(name, within)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ELOOP:  # O_NOFOLLOW met a link
            raise
        remove_if_there(name, within)
