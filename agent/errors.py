"""The exception tree, by origin. Each error carries a code of the catalogue, a cause, evidence and one
command to try.

`agent.catalogue` declares every code once (what failed, exit code, what to do); it feeds the CLI, the man
page and the journal's catalogue. An error is printed as::

    error[NNA0201]: what failed
    cause: why
    seen:  evidence
    try:   one command
"""

from __future__ import annotations

import enum
import errno
import functools
import re
import traceback
from dataclasses import dataclass


class Exit(enum.IntEnum):
    """Exit codes of every verb, fixed from the first release (docs/design.md, "Command line contract")."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_AS_WANTED = 3
    UNKNOWN = 4
    LOCKED = 75

    @property
    def meaning(self) -> str:
        """What the code tells a caller."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "fine, or nothing to do",
    Exit.FAILED: "failed; the node is as it was before",
    Exit.USAGE: "usage or configuration; nothing was touched",
    Exit.NOT_AS_WANTED: "works, but not as wanted: degraded, drifted, pinned, not running, or changes "
    "pending",
    Exit.UNKNOWN: "could not tell; where a change was begun, the message says what of it stands",
    Exit.LOCKED: "not now: another run holds the lock, or too much was restarted; try later",
}


class AgentError(Exception):
    """Base of all errors that reach the operator. `problems` is everything that is wrong with a file, where
    that is what is wrong; each is told as seen, too.
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        cause: str = "",
        seen: tuple[str, ...] = (),
        try_: str = "",
        problems: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(f"{what}: {cause}" if cause else what)
        self.code = code
        self.what = what
        self.cause = cause
        self.seen = (*seen, *map(str, problems))
        self.try_ = try_
        self.problems = problems


WANTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""This process lacks a descriptor, memory, a buffer or a port, of which a local user may hold all: that says
nothing of whom it would ask."""


def hide(text: str) -> str:
    """The text of another program, or of a file, without its secrets: the values of keys that are called as
    secrets are, the users and queries of URLs, tokens that stand by themselves.
    """
    for pattern, shown in _secrets():
        text = pattern.sub(shown, text)
    return text


_HEADER = "(?:proxy-|www-)?authorization | (?:set-)?cookie"
_KEY = r"""passwords? | passwd | passphrase | (?<![a-z])pass | pwd(?!=/) | tokens? | secrets? | auth
    | credentials? | sig(?:nature)? | docker(?:cfg|configjson)
    | (?:api|access|secret|private|account|shared|encryption) [-_]?key (?:[-_]?(?:id|secret))?"""
_VALUE = r"""(?: (?P<escape>\\{1,8})(?P<quote>["']) (?: .*? (?<!\\)(?P=escape)(?P=quote) | [^\n]*)
    | "{3}(?:.|\n)*?"{3} | \'{3}(?:.|\n)*?\'{3} | "(?:\\.|[^"\\])*" | '[^']*' | ["'][^\n]*
    | \[[^\]]{0,4000}\] | [|>][-+]?[ ]*(?:\n[ \t]+[^\n]*)+ | (?:basic|bearer)\s+\S+ | [^\s,}\]]+ )"""
_TO_VALUE = r"[^\S\n]*+ (?: \n [ \t]++ (?![^\n]*[=:]) )?"
"""In YAML a value may stand alone in the next line; there may also be none."""
_REST = r"""(?: \[[^\]]{0,4000}\] | = \\{0,8} "[^"\n]*" | \\{1,8}["'] | [^\n"'\]}] )*"""
"""Of a line: a header has words, commas and parameters in it."""
_SENTENCE = r"""(?! (?: (?<=token:\ ) | (?<=auth:\ ) | (?<=authorization:\ ) | (?<=/password:\ ) )
    (?-i: \d{3}(?=[\s,;)]|:\s|$) | EOF\b
    | (?!basic|bearer|digest|token) [a-z]{2,20} [,:]?\ [a-z_-]++ (?![\w+/=.-]*[0-9=]) ) )"""
"""Registries say what is wrong after such a word: no secret is two words of small letters, or a status."""


@functools.cache
def _secrets() -> tuple[tuple[re.Pattern[str], str], ...]:
    """With what each is replaced by; compiled where something is shown, because that takes milliseconds."""

    def named(key: str, value: str) -> tuple[re.Pattern[str], str]:
        before = (
            r"""(["']? (?<![\w.-]) [\w.-]{0,64}? (?:"""
            + key
            + r""")\b \\{0,8}["']? [^\S\n]*+ [=:] """
            + _TO_VALUE
            + ")"
        )
        return re.compile(before + _SENTENCE + value, re.IGNORECASE | re.VERBOSE), r"\1<hidden>"

    option = r"(\s --? [\w-]{0,64}? (?:" + _KEY + r") \s+ (?!-))" + _VALUE
    sent = r"\b((?:basic|bearer)\s+)(?=\S*(?:[0-9=]|(?-i:[a-z][A-Z])))[\w+/=.~-]{8,}"
    return (
        named(_HEADER, r"(?: (?=[\\\"'\[|>])" + _VALUE + "|" + _REST + ")"),
        named(_KEY, _VALUE),
        (re.compile(option, re.IGNORECASE | re.VERBOSE), r"\1<hidden>"),
        (re.compile(sent, re.IGNORECASE), r"\1<hidden>"),
        (re.compile(r"((?:^|\s)(?:-u|--user)[ =]+[^\s:]{1,256}:)\S+"), r"\1<hidden>"),
        (re.compile(r"(://)[^/?#\s\"']+@"), r"\1<hidden>@"),
        (re.compile(r"(proxy[\"']?\s?[=:]\s?[\"']?)[^/?#\s\"'@]{1,256}@", re.IGNORECASE), r"\1<hidden>@"),
        (re.compile(r"\b(?:eyJ|gh[a-z]_|github_pat_|glpat-)[\w.-]{16,}"), "<hidden>"),
        (re.compile(r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)[^-]+"), r"\1<hidden>"),
        (re.compile(r"(?<=[\w/.-])\?(?!:)[^\s\"'<>)]{4,}"), "?<hidden>"),
    )


def of_a_bug(error: BaseException, try_: str = "report it with the output of this command") -> AgentError:
    """An exception that nobody expected, as an error that names its type, its words and the line that raised
    it.
    """
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = tuple(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in last)
    cause = f"{type(error).__name__}: {error}"
    return AgentError("NNA1099", "this is a bug in nydus-agent", cause=cause, seen=place, try_=try_)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in the configuration: where, what was written, why it cannot be, what to do."""

    file: str
    key: str  # dotted path; "" where the file as a whole is meant
    value: str  # as written, shortened; "" where there is none
    reason: str
    action: str

    def __str__(self) -> str:
        setting = f"{self.key} = {self.value}" if self.value else self.key
        place = f"{self.file}: {setting}" if setting else self.file
        return f"{place}: {self.reason}; {self.action}" if self.action else f"{place}: {self.reason}"


class ConfigError(AgentError):
    """agent.toml or a drop-in is wrong; `problems` holds every one that was found."""

    def __init__(
        self, code: str, what: str, problems: tuple[Problem, ...], *, try_: str = "nydus-agent check"
    ) -> None:
        super().__init__(code, what, try_=try_, problems=problems)


class UsageError(AgentError):
    """The command line is wrong, or the verb needs rights that the caller has not."""


class PlanError(AgentError):
    """The wanted state cannot be reached safely from what is there."""


class ApplyError(AgentError):
    """A step or the proof failed; the node was put back (or the message says what was not)."""


class LockedError(AgentError):
    """Another run of apply, remove or recover holds the lock."""


class ProgramsError(AgentError):
    """A lock, a download or an archive of programs is not as it must be; nothing was made of it."""


class ConvertError(AgentError):
    """An image cannot be converted, or what was made of it is not what it was; nothing was put into its
    place.
    """


class PortError(AgentError):
    """An outside thing did not do what was asked. Base of the errors that the edges raise."""


class SystemdError(PortError):
    """A unit or job of systemd failed, or D-Bus did not answer in time."""


class ContainerdError(PortError):
    """containerd, its CRI plugin or the snapshotter's socket gave an error or no answer."""


class ContainerdNotFoundError(ContainerdError):
    """containerd answered NOT_FOUND."""


class ContainerdUnavailableError(ContainerdError):
    """Nobody answers on the socket (UNAVAILABLE, DEADLINE_EXCEEDED)."""


class ContainerdInvalidError(ContainerdError):
    """containerd answered INVALID_ARGUMENT ("snapshotter not loaded")."""


class NydusdError(PortError):
    """A nydusd's API socket gave an error or no answer."""


class CredentialError(PortError):
    """A registry's credential cannot be had or is refused. No secret is in it, not even a wrong one."""


class FileError(PortError):
    """A file could not be read or written; nothing is half written."""


class FileChangedError(FileError):
    """The file is not what it was when the facts were taken; it was left alone."""


class HttpError(PortError):
    """A bounded HTTP request failed (no answer, too long, not HTTP)."""


class FenceError(PortError):
    """nft or the destruction of sockets failed."""


class ProcessError(PortError):
    """A child process failed or did not end in time."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of error."""

    code: str
    title: str
    exit: Exit
    meaning: str
    action: str
