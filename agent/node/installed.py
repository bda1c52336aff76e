"""nydusd, nydus-image and the snapshotter: those of an installed package, or those in PATH.

A package has its programs in a directory that is named by its version. What is rendered names a program by
that path, so another version is a change like any other. Asks the ports; nothing here raises unless it says
so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent import paths
from agent.config.forms import NEWEST, SYSTEM
from agent.config.model import Config, ProgramsConfig
from agent.errors import PortError
from agent.facts.node import Binary, ChosenPrograms, MissingPrograms, Unknown
from agent.node import programs
from agent.ports import Files, Processes
from agent.programs import versions
from agent.programs.release import ProgramName, Project, order


@dataclass(frozen=True, slots=True)
class ProgramPorts:
    """What is needed to look at programs."""

    files: Files
    processes: Processes
    machine: str
    """The kernel's name of what this node is, such as "x86_64" (uname(2))."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What was seen by name, the packages that they are of, and what is not installed."""

    binaries: Mapping[str, Binary | None | Unknown]
    chosen: tuple[ChosenPrograms, ...] = ()
    missing: tuple[MissingPrograms, ...] = ()


def read_installed(config: Config, ports: programs.FilesAndProcesses) -> Programs:
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


def in_path(ports: programs.FilesAndProcesses, program: str) -> Binary | None | Unknown:
    """A program of this node's own."""
    if program == ProgramName.SNAPSHOTTER:
        return programs.find(ports, program, versions.snapshotter)
    return programs.find(ports, program, versions.nydus, crate=True)


def wanted_of(config: Config, project: Project) -> str:
    """What the configuration says of a project's programs."""
    return config.programs.nydus if project is Project.NYDUS else config.programs.snapshotter


def _choices(config: Config, files: Files) -> dict[Project, str | MissingPrograms | Unknown]:
    return {project: choose(files, project, wanted_of(config, project)) for project in Project}


def _binary(
    ports: programs.FilesAndProcesses, project: Project, program: str, choice: str | MissingPrograms | Unknown
) -> Binary | None | Unknown:
    if isinstance(choice, Unknown):
        return choice
    if isinstance(choice, MissingPrograms):
        return None
    if not choice:
        return in_path(ports, program)
    return programs.of_release(ports, f"{project.directory(choice)}/{program}", choice)


def _has_program(files: Files, project: Project, version: str) -> bool:
    """dpkg makes the directory before the programs are in it."""
    return files.head(f"{project.directory(version)}/{project.programs[0]}", 1) is not None


def _with_programs(config: Config, versions_: Mapping[Project, str]) -> Config:
    settings = {project: versions_.get(project, wanted_of(config, project)) for project in Project}
    made = ProgramsConfig(nydus=settings[Project.NYDUS], snapshotter=settings[Project.SNAPSHOTTER])
    return replace(config, programs=made)
