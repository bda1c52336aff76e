"""Programs in PATH: where, for which architecture, which version. Asks the ports; nothing raises."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Protocol, TypeAlias

from agent.errors import PortError
from agent.facts.node import Binary, Unknown, Version
from agent.ports import Files, Processes
from agent.programs import versions

DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
"""Searched in this order: what an operator put into /usr/local comes before what the distribution ships."""

_RUN_S = 5.0

Parse: TypeAlias = Callable[[str], tuple[Version | Unknown, str]]


class FilesAndProcesses(Protocol):
    """What is needed to look at a program."""

    @property
    def files(self) -> Files:
        """Files."""

    @property
    def processes(self) -> Processes:
        """Processes."""


def find(
    ports: FilesAndProcesses, name: str, parse: Parse, *, crate: bool = False
) -> Binary | None | Unknown:
    """The first program of this name, or the one at this path; None where there is none, Unknown where a
    directory could not be read.

    `crate`: it may be a build from crates, which knows no version of its own.
    """

    def told(path: str, said: str) -> tuple[Version | Unknown, str]:
        return _version(ports, path, parse(said), crate=crate)

    for directory in DIRECTORIES if "/" not in name else ("",):
        found = _look(ports, posixpath.join(directory, name), told)
        if found is not None:
            return found
    return None


def of_release(ports: FilesAndProcesses, path: str, release: str) -> Binary | None | Unknown:
    """The program at this path, which is known to be of an upstream release: where it tells no version, that
    counts.

    None where it is not there, Unknown where that could not be seen.
    """

    def told(_path: str, said: str) -> tuple[Version | Unknown, str]:
        version, text = versions.nydus(said)
        return (versions.parsed(release), release) if isinstance(version, Unknown) else (version, text)

    return _look(ports, path, told)


def _look(
    ports: FilesAndProcesses, path: str, told: Callable[[str, str], tuple[Version | Unknown, str]]
) -> Binary | None | Unknown:
    """A program by its head, and by what is `told` of its path and of what it says to --version."""
    try:
        head = ports.files.head(path, versions.ELF_HEADER)
    except PortError as error:
        return Unknown(str(error))
    if head is None:
        return None
    try:
        finished = ports.processes.run([path, "--version"], deadline_s=_RUN_S)
    except PortError as error:
        return Binary(path, versions.elf_architecture(head), Unknown(str(error)))
    version, text = told(path, finished.stdout or finished.stderr)
    return Binary(path, versions.elf_architecture(head), version, text, versions.commit(finished.stdout))


def _version(
    ports: FilesAndProcesses, path: str, said: tuple[Version | Unknown, str], *, crate: bool
) -> tuple[Version | Unknown, str]:
    version, text = said
    if not isinstance(version, Unknown):
        return version, text
    packaged = _package_version(ports, path)
    if packaged is not None:
        return packaged
    return _crate_version(ports, path) if crate else (version, text)


def _package_version(ports: FilesAndProcesses, path: str) -> tuple[Version | Unknown, str] | None:
    """By the package that ships the file; None where no package does."""
    try:
        owner = (
            ports.processes.run(["dpkg-query", "-S", path], deadline_s=_RUN_S)
            .stdout.partition(":")[0]
            .strip()
        )
        shown = ports.processes.run(["dpkg-query", "-W", "-f", "${Version}", owner], deadline_s=_RUN_S).stdout
    except PortError:
        return None
    return versions.package(shown)


def _crate_version(ports: FilesAndProcesses, path: str) -> tuple[Version | Unknown, str]:
    argv = ["grep", "-a", "-o", "-E", "-m", "1", versions.CRATE_PATTERN, path]
    try:
        return versions.crate(ports.processes.run(argv, deadline_s=_RUN_S, ok=(0, 1)).stdout)
    except PortError as error:
        return Unknown(str(error)), ""


def reads_mirrors(ports: FilesAndProcesses, nydusd: Binary | None | Unknown) -> bool | Unknown:
    """Whether nydusd knows the settings of the `mirrors` block: their names lie in the program as text."""
    if not isinstance(nydusd, Binary):
        return Unknown("no nydusd")
    try:
        if _holds(ports, nydusd.path, "failure_limit"):
            return True
        # A setting that every version has: without it this is a wrapper around the real program.
        return (
            False if _holds(ports, nydusd.path, "connect_timeout") else Unknown(f"{nydusd.path} is a wrapper")
        )
    except PortError as error:
        return Unknown(str(error))


def _holds(ports: FilesAndProcesses, path: str, text: str) -> bool:
    return ports.processes.run(["grep", "-q", "-a", "-F", text, path], deadline_s=_RUN_S, ok=(0, 1)).code == 0
