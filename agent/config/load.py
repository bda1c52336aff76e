"""Reads agent.toml and its drop-ins: the only reader of the configuration."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent import paths
from agent.config.model import Config
from agent.config.parse import TomlDocument, parse
from agent.errors import ConfigError, Problem

SIZE_CAP = 1 << 20  # bytes; a configuration is a few hundred
_MAX_LINKS = 40  # as the kernel


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The configuration and where it came from. `sources` in reading order; empty: all defaults."""

    config: Config
    sources: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    """Dotted key -> file; keys at their default are not in it."""


def load(
    config_file: str = paths.CONFIG_FILE,
    conf_d: str = paths.CONF_D,
    *,
    candidate: str = "",
    required: bool = False,
    trusted: bool = False,
) -> LoadedConfig:
    """The base file, then conf.d/*.toml by name, then `candidate` (a drop-in that is not in place yet).

    A base file (unless `required`) or conf.d that is not there is no error: the defaults fit a node with a
    local dfdaemon. With `trusted` it is refused where others than root may write it; else that is a warning.
    Raises ConfigError with every problem (NNA0101; NNA0102 where files could only not be read).
    """
    documents: list[TomlDocument] = []
    unreadable: list[Problem] = []
    warnings: list[str] = []
    for path, drop_in, optional in _files(config_file, conf_d, candidate, unreadable, warnings):
        text = _read(path, unreadable, optional=optional and not required)
        if text is not None:
            documents.append(TomlDocument(path, text, drop_in))
    parsed = parse(documents)
    files = (posixpath.dirname(config_file), conf_d, *(document.file for document in documents))
    others = tuple(map(_of_others, dict.fromkeys(filter(None, map(open_to_others, files)))))
    warnings += () if trusted else map(str, others)
    problems = (*unreadable, *parsed.problems, *(others if trusted else ()))
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        if parsed.problems or len(problems) > len(unreadable):
            raise ConfigError(
                "NNA0101", f"the configuration is wrong ({count}), nothing was touched", problems
            )
        raise ConfigError(
            "NNA0102", f"the configuration cannot be read ({count}), nothing was touched", problems
        )
    sources = tuple(document.file for document in documents)
    return LoadedConfig(parsed.config, sources, (*warnings, *parsed.warnings), parsed.origins)


def _files(
    config_file: str, conf_d: str, candidate: str, unreadable: list[Problem], warnings: list[str]
) -> Iterator[tuple[str, bool, bool]]:
    """(path, drop-in, may be missing) in reading order."""
    yield config_file, False, True
    try:
        names = sorted(entry.name for entry in os.scandir(conf_d))
    except FileNotFoundError:
        names = []
    except OSError as error:
        unreadable.append(
            Problem(conf_d, "", "", f"cannot be listed: {error.strerror}", "look at its rights")
        )
        names = []
    for name in names:
        if name.endswith(".toml") and not name.startswith("."):
            yield posixpath.join(conf_d, name), True, False
        elif name.endswith((".conf", ".tml", ".json", ".yaml", ".yml")):
            warnings.append(f"{posixpath.join(conf_d, name)} is not read: the names of drop-ins end in .toml")
    if candidate:
        yield candidate, True, False


def _of_others(place: str) -> Problem:
    reason = "can be written by others than root: they decide what root does"
    return Problem(place, "", "", reason, action_against_others(place))


def action_against_others(place: str) -> str:
    """What to do where others may change `place`. Nobody is told to take a directory of others from them."""
    ours = posixpath.dirname(paths.CONFIG_FILE)
    if not (Path(place).is_file() or f"{place}/".startswith(f"{ours}/")):
        return f"keep the file where only root may write, such as {ours}"
    quoted = shlex.quote(place)
    return f"chown -h root:root {quoted} && chmod go-w {quoted}"


def open_to_others(path: str) -> str:
    """The first name on the way to `path` that a user other than root and this process's own may change; ""
    for none. Whoever may write to a sticky directory on the way touches nothing there that is root's.
    """
    names = tuple(_names(path))
    for name in names:
        with contextlib.suppress(OSError):
            seen = os.lstat(name)
            group = seen.st_mode & stat.S_IWGRP and (
                # The mask of an ACL stands where the group's rights do (acl(5)).
                seen.st_gid not in (0, os.getegid()) or _may_have_acl(name)
            )
            kept = stat.S_ISLNK(seen.st_mode) or (seen.st_mode & stat.S_ISVTX and name != names[-1])
            shared = (group or seen.st_mode & stat.S_IWOTH) and not kept
            if shared or seen.st_uid not in (0, os.geteuid()):
                return name
    return ""


def _may_have_acl(name: str) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(name, follow_symlinks=False)
    except OSError:
        return True


def _names(path: str) -> Iterator[str]:
    """Each name that the kernel looks up, those that links lead through too (path_resolution(7))."""
    place, rest, links = "/", Path(path).absolute().parts, 0
    while rest:
        place, rest = posixpath.normpath(posixpath.join(place, rest[0])), rest[1:]
        yield place
        with contextlib.suppress(OSError):  # it is no link, or cannot be looked at
            target = Path(place).readlink().parts
            if (links := links + 1) <= _MAX_LINKS:
                place, rest = posixpath.dirname(place), (*target, *rest)


def _read(path: str, unreadable: list[Problem], *, optional: bool) -> str | None:
    """The text of a regular file of bounded size; None where it is not there or was noted in `unreadable`."""
    try:
        content, seen = _content(path)
    except OSError as error:
        if not (optional and isinstance(error, FileNotFoundError)):
            reason = f"cannot be read: {error.strerror}"
            unreadable.append(Problem(path, "", "", reason, "look at its name and its rights"))
        return None
    if not stat.S_ISREG(seen.st_mode):
        wrong = Problem(path, "", "", "is not a regular file", "put a file there, or remove it")
    elif len(content) > SIZE_CAP:
        wrong = Problem(path, "", "", f"is larger than {SIZE_CAP} bytes", "is it the right file?")
    else:
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            wrong = Problem(path, "", "", f"is not UTF-8 (byte {error.start})", "save it as UTF-8")
    unreadable.append(wrong)
    return None


def _content(path: str) -> tuple[bytes, os.stat_result]:
    """At most one byte more than may be, and what kind of file it is. Raises OSError."""
    # O_NONBLOCK: opening a FIFO that somebody put there must not hang.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        seen = os.fstat(descriptor)
        return os.read(descriptor, SIZE_CAP + 1) if stat.S_ISREG(seen.st_mode) else b"", seen
    finally:
        os.close(descriptor)
