"""nydusd, nydus-image and the snapshotter: those in PATH, or those of a set. Asks the ports, raises nothing.

A program of a set is named by a path with the set's id in it, so what is rendered changes exactly when the program
does: where another set holds the same bytes, the path that is on the node already stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from agent import paths
from agent.artifacts.names import ArtifactName
from agent.artifacts.pairs import tag
from agent.config.forms import CURRENT, SYSTEM, is_set_id
from agent.config.model import ArtifactsConfig, Config
from agent.errors import AgentError, PortError
from agent.node import programs, versions
from agent.node.facts import Arch, Binary, ChosenSet, Unfit, Unknown
from agent.ports_files import Files
from agent.ports_processes import Processes

if TYPE_CHECKING:  # where all programs are the system's, no store is asked, and none is loaded
    from agent.artifacts.sets import InstalledSet
    from agent.ports_artifacts import ArtifactStore

RENDERED = (paths.SNAPSHOTTER_CONFIG, paths.SNAPSHOTTER_UNIT_FILE)
"""Files of ours that name programs by their path."""
_PROGRAMS = {
    ArtifactName.NYDUS: ("nydusd", "nydus-image"),
    ArtifactName.SNAPSHOTTER: ("containerd-nydus-grpc",),
}
_CODE_MISSING, _CODE_ARCH, _CODE_DAMAGED, _CODE_OTHER = "NNA0207", "NNA0202", "NNA1135", "NNA0208"


class Ports(Protocol):
    """What is needed of agent.ports.Ports."""

    @property
    def files(self) -> Files:
        """Files."""

    @property
    def processes(self) -> Processes:
        """Processes."""

    @property
    def stores(self) -> Callable[[str], ArtifactStore]:
        """Stores."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What was found by name, the sets that they are of, and why some cannot be used."""

    found: Mapping[str, Binary | None | Unknown]
    sets: tuple[ChosenSet, ...] = ()
    unfit: tuple[Unfit, ...] = ()


def look(config: Config, ports: Ports, arch: Arch) -> Programs:
    """The three programs. Where all are the system's, no store is asked."""
    found: dict[str, Binary | None | Unknown] = {}
    sets: list[ChosenSet] = []
    unfit: list[Unfit] = []
    for name, chosen in _chosen(config, ports, arch):
        if chosen is None:
            found |= {program: in_path(ports, program) for program in _PROGRAMS[name]}
        elif isinstance(chosen, Unfit):
            found |= dict.fromkeys(_PROGRAMS[name])
            unfit.append(chosen)
        else:
            seen = {program: _of_set(ports, chosen, name, program) for program in _PROGRAMS[name]}
            wrong = [one for one in seen.values() if isinstance(one, Unfit)]
            found |= {program: None if isinstance(one, Unfit) else one for program, one in seen.items()}
            unfit += wrong[:1]
            sets.append(chosen.fact(name))
    return Programs(found, tuple(sets), tuple(unfit))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A set that can be used, in its store."""

    store: ArtifactStore
    set: InstalledSet
    rendered: str
    """What names programs on the node now."""

    def path(self, program: str) -> str | None:
        """Where it lies: the path on the node now, where that leads to the same bytes in another set."""
        digest = next((one.sha256 for one in self.set.programs if one.name == program), None)
        for set_id in named(self.rendered, self.store.directory, program):
            other = self.store.find(set_id) if set_id != self.set.id else None
            if other is not None and any(one.name == program and one.sha256 == digest for one in other.programs):
                return other.path(program)
        return self.set.path(program)

    def fact(self, name: ArtifactName) -> ChosenSet:
        return ChosenSet(name.value, self.set.id, self.set.version(name) or "")


def _chosen(config: Config, ports: Ports, arch: Arch | None) -> Iterator[tuple[ArtifactName, _Chosen | Unfit | None]]:
    """For each archive the set that its programs are taken from; None: they are the system's."""
    beside, rendered = "", None
    for name in ArtifactName:
        wanted = wanted_of(config.artifacts, name)
        if wanted == SYSTEM:
            yield name, None
            continue
        store = ports.stores(config.artifacts.directory)
        chosen = choose(store, name, wanted, arch, beside=beside)
        if isinstance(chosen, Unfit):
            yield name, chosen
            continue
        beside = chosen.id
        rendered = _texts(ports) if rendered is None else rendered
        yield name, _Chosen(store, chosen, rendered)


def wanted_of(artifacts: ArtifactsConfig, name: ArtifactName) -> str:
    """What the configuration says of an archive's programs."""
    return artifacts.nydus if name is ArtifactName.NYDUS else artifacts.snapshotter


def pinned(config: Config, sets: tuple[ChosenSet, ...]) -> Config:
    """The configuration with the sets that it came to: what a generation records, for "current" moves on."""
    ids = {one.artifact: one.id for one in sets}
    artifacts = config.artifacts
    return replace(
        config,
        artifacts=replace(
            artifacts,
            nydus=ids.get(ArtifactName.NYDUS.value, artifacts.nydus),
            snapshotter=ids.get(ArtifactName.SNAPSHOTTER.value, artifacts.snapshotter),
        ),
    )


def resolved(config: Config, ports: Ports, arch: Arch) -> Config:
    """The configuration with the sets that it comes to now; no program is run for that."""
    chosen = [one.fact(name) for name, one in _chosen(config, ports, arch) if isinstance(one, _Chosen)]
    return pinned(config, tuple(chosen))


def in_path(ports: programs.Ports, program: str) -> Binary | None | Unknown:
    """A program of this node's own."""
    if program == "containerd-nydus-grpc":
        return programs.find(ports, program, versions.snapshotter)
    return programs.find(ports, program, versions.nydus, crate=True)


def choose(
    store: ArtifactStore, name: ArtifactName, wanted: str, arch: Arch | None, *, beside: str = ""
) -> InstalledSet | Unfit:
    """The installed set that a setting other than "system" means, or why there is none that can be used on this node
    (`arch` None: on any). Of several: the one that the other archive's programs are taken from (`beside`), the current
    one, the latest.
    """
    try:
        chosen = _choose(store, name, wanted, beside)
        whole = not isinstance(chosen, str) and store.find(chosen.id) is not None
    except (AgentError, PortError) as error:
        return Unfit(name.value, error.code, f"{error.what}: {error.cause}", error.try_)
    if isinstance(chosen, str):
        return Unfit(name.value, _CODE_MISSING, chosen, _install(name, wanted))
    if arch is not None and chosen.arch is not arch:
        reason = f"{chosen.directory} is built for {chosen.arch.value}, this node is {arch.value}"
        return Unfit(name.value, _CODE_ARCH, reason, _install(name, wanted))
    if not whole:
        reason = f"a program in {chosen.directory} is not the one that was installed"
        return Unfit(name.value, _CODE_DAMAGED, reason, f"nydus-agent artifacts verify {chosen.id[:12]}")
    return chosen


def _choose(store: ArtifactStore, name: ArtifactName, wanted: str, beside: str) -> InstalledSet | str:
    """The set, or why there is none in words. Raises ArtifactError."""
    current = store.current()
    if wanted == CURRENT:
        if current is None:
            return f"nothing is installed below {store.directory}"
        return current if current.version(name) else f"the current set has no {name}"
    here = store.sets()
    if is_set_id(wanted):
        fitting = [one for one in here if one.id == wanted]
        return fitting[0] if fitting else f"set {wanted[:12]} is not installed below {store.directory}"
    fitting = [one for one in here if one.version(name) == tag(wanted)]
    if fitting:
        order = (beside, current.id if current is not None else "")
        return min(fitting, key=lambda one: order.index(one.id) if one.id in order else len(order))
    others = ", ".join(dict.fromkeys(text for one in here if (text := one.version(name)))) or "none is"
    return f"{name} {tag(wanted)} is not installed (installed: {others})"


def _install(name: ArtifactName, wanted: str) -> str:
    option = "--nydus" if name is ArtifactName.NYDUS else "--snapshotter"
    is_version = wanted != CURRENT and not is_set_id(wanted)
    return f"nydus-agent artifacts install{f' {option} {wanted}' if is_version else ''}"


def paths_of(config: Config, ports: Ports) -> Mapping[str, str]:
    """Where the programs of a set lie, by name; those of the system, and of sets that are not usable, are left out."""
    chosen = [(name, one) for name, one in _chosen(config, ports, None) if isinstance(one, _Chosen)]
    paths_ = {program: one.path(program) for name, one in chosen for program in _PROGRAMS[name]}
    return {program: path for program, path in paths_.items() if path is not None}


def _of_set(ports: Ports, chosen: _Chosen, name: ArtifactName, program: str) -> Binary | None | Unfit | Unknown:
    path = chosen.path(program)
    if path is None:
        return None
    release = chosen.fact(name).release
    seen = programs.of_release(ports, path, release)
    if isinstance(seen, Binary) and isinstance(seen.version, tuple) and seen.version != versions.parsed(release):
        reason = f"{path} says that it is {seen.version_text}, and was installed as {release}"
        return Unfit(name.value, _CODE_OTHER, reason, f"nydus-agent artifacts verify {chosen.set.id[:12]}")
    return seen


def _texts(ports: Ports) -> str:
    found = []
    for path in RENDERED:
        try:
            fact = ports.files.read(path)
        except PortError:
            continue  # what cannot be read is refused elsewhere
        found.append(fact.content.decode(errors="replace") if fact is not None else "")
    return "\n".join(found)


def named(text: str, directory: str, program: str = "") -> tuple[str, ...]:
    """Ids of the sets below a directory that a text names, for one program or for any."""
    pattern = rf"{re.escape(directory)}/([0-9a-f]{{64}})/{re.escape(program)}" + (r"(?![\w.-])" if program else "")
    return tuple(dict.fromkeys(re.findall(pattern, text)))


def set_of(path: str) -> str:
    """The id of the set that a program's path names; "" where it names none."""
    parts = path.split("/")
    return parts[-2] if len(parts) > 2 and is_set_id(parts[-2]) else ""


def ids_in(text: str) -> tuple[str, ...]:
    """Every id of a set that a text holds."""
    return tuple(dict.fromkeys(re.findall(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", text)))
