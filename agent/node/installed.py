"""Programs: where, for which architecture, which version; nydus' own are those of a package, or in PATH.

A package has its programs in a directory that is named by its version. What is rendered names a program by
that path, so another version is a change like any other. Asks the ports; nothing here raises unless it says
so.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from agent import paths
from agent.config.forms import NEWEST, SYSTEM
from agent.config.model import Config, ProgramsConfig
from agent.errors import PortError
from agent.facts.node import Binary, ChosenPrograms, MissingPrograms, Unknown, Version
from agent.ports import Files, Ports, Processes
from agent.programs import versions
from agent.programs.versions import Project, order


@dataclass(frozen=True, slots=True)
class ProgramPorts:
    """What is needed to look at programs."""

    files: Files
    processes: Processes
    machine: str
    """The kernel's name of what this node is, such as "x86_64" (uname(2))."""


FilesAndProcesses: TypeAlias = ProgramPorts | Ports
"""What is needed to look at a program."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What was seen by name, the packages that they are of, and what is not installed."""

    binaries: Mapping[str, Binary | None | Unknown]
    chosen: tuple[ChosenPrograms, ...] = ()
    missing: tuple[MissingPrograms, ...] = ()


def read_installed(config: Config, ports: FilesAndProcesses) -> Programs:
    """The three programs that the configuration comes to."""
    binaries: dict[str, Binary | None | Unknown] = {}
    chosen: list[ChosenPrograms] = []
    missing: list[MissingPrograms] = []
    for project, choice in _choices(config, ports.files).items():
        for program in project.programs:
            binaries[program] = _binary(ports, project, program, choice)
        if isinstance(choice, MissingPrograms):
            missing.append(choice)
        elif isinstance(choice, str) and choice:
            chosen.append(ChosenPrograms(project.value, choice))
    return Programs(binaries, tuple(chosen), tuple(missing))


def versions_here(files: Files, project: Project) -> tuple[str, ...]:
    """The versions whose packages are installed, the newest first. Raises FileError."""
    named = (project.version_in(name) for name in files.listdir(paths.PROGRAMS))
    here = [version for version in named if version and _has_program(files, project, version)]
    return tuple(sorted(here, key=order, reverse=True))


def choose(files: Files, project: Project, wanted: str) -> str | MissingPrograms | Unknown:
    """The version of the package that a setting means; "": the programs in PATH are meant."""
    if wanted == SYSTEM:
        return ""
    try:
        here = versions_here(files, project)
    except PortError as error:
        return Unknown(str(error))
    if wanted == NEWEST:
        return here[0] if here else ""
    if wanted in here:
        return wanted
    package = project.package(wanted)
    reason = f"{package} is not installed (installed versions: {', '.join(here) or 'none'})"
    return MissingPrograms(project.value, reason, f"sudo apt install {package}")


def pinned(config: Config, chosen: Sequence[ChosenPrograms]) -> Config:
    """The configuration with the versions that it came to.

    A generation records it, because "newest" moves on.
    """
    known = {one.project: one.version for one in chosen}
    return _with_programs(config, {project: known.get(project.value, SYSTEM) for project in Project})


def resolved(config: Config, files: Files) -> Config:
    """The configuration with the versions that it comes to now; no program is run for that."""
    choices = _choices(config, files)
    told = {project: choice or SYSTEM for project, choice in choices.items() if isinstance(choice, str)}
    return _with_programs(config, told)


def paths_of(config: Config, files: Files) -> Mapping[str, str]:
    """Where the programs of installed packages lie, by name; those in PATH are left out."""
    return {
        program: f"{project.directory(choice)}/{program}"
        for project, choice in _choices(config, files).items()
        if isinstance(choice, str) and choice
        for program in project.programs
    }


def wanted_of(config: Config, project: Project) -> str:
    """What the configuration says of a project's programs."""
    return config.programs.nydus if project is Project.NYDUS else config.programs.snapshotter


def _choices(config: Config, files: Files) -> dict[Project, str | MissingPrograms | Unknown]:
    return {project: choose(files, project, wanted_of(config, project)) for project in Project}


def _binary(
    ports: FilesAndProcesses, project: Project, program: str, choice: str | MissingPrograms | Unknown
) -> Binary | None | Unknown:
    if isinstance(choice, Unknown):
        return choice
    if isinstance(choice, MissingPrograms):
        return None
    if not choice:
        return find(ports, program)
    # What a package has is known to be of its release: where the program tells no version, that counts.
    found = _read(ports, f"{project.directory(choice)}/{program}", versions.nydus)
    if isinstance(found, Binary) and isinstance(found.version, Unknown) and found.commit is not None:
        return replace(found, version=versions.parsed(choice), version_text=choice)
    return found


def _has_program(files: Files, project: Project, version: str) -> bool:
    """dpkg makes the directory before the programs are in it."""
    return files.head(f"{project.directory(version)}/{project.programs[0]}", 1) is not None


def _with_programs(config: Config, versions_: Mapping[Project, str]) -> Config:
    settings = {project: versions_.get(project, wanted_of(config, project)) for project in Project}
    made = ProgramsConfig(nydus=settings[Project.NYDUS], snapshotter=settings[Project.SNAPSHOTTER])
    return replace(config, programs=made)


DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
"""Searched in this order: what an operator put into /usr/local comes before what the distribution ships."""

_RUN_S = 5.0


def find(ports: FilesAndProcesses, program: str, place: str = "") -> Binary | None | Unknown:
    """The first program of this name, or the one at `place`, a path; None where there is none, Unknown where
    a directory could not be read.
    """
    parse = versions.containerd if program == "containerd" else versions.nydus
    name = place or program
    for directory in DIRECTORIES if "/" not in name else ("",):
        path = posixpath.join(directory, name)
        found = _read(ports, path, parse)
        if found is None:
            continue
        if isinstance(found, Binary) and isinstance(found.version, Unknown) and found.commit is not None:
            # Debian's snapshotter tells none, nor does a nydusd that was built from crates.
            known = _package_version(ports, path)
            if known is None and program in Project.NYDUS.programs:
                known = _crate_version(ports, path)
            if known is not None:
                return replace(found, version=known[0], version_text=known[1])
        return found
    return None


def _read(
    ports: FilesAndProcesses, path: str, parse: Callable[[str], tuple[Version | Unknown, str]]
) -> Binary | None | Unknown:
    """A program by its head, and by what it says to --version; no commit where it does not run."""
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
    version, text = parse(finished.stdout or finished.stderr)
    commit = versions.commit(finished.stdout)
    return Binary(path, versions.elf_architecture(head), version, text, commit)


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
