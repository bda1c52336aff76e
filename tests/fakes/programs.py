"""Small programs that look like ELF, releases of them, and packages of them on a node of fakes."""

from __future__ import annotations

from collections.abc import Mapping

from agent.config.model import Config, ProgramsConfig
from agent.facts.node import Arch
from agent.programs.versions import Project
from tests.fakes.node import FakeNode

_MACHINES = {Arch.AMD64: b"\x3e\0", Arch.ARM64: b"\xb7\0"}
NYDUS, SNAPSHOTTER = Project.NYDUS, Project.SNAPSHOTTER


def elf(text: bytes, arch: Arch = Arch.AMD64) -> bytes:
    """A program by its first bytes; `text` tells one from another."""
    return b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\0" + _MACHINES[arch] + b"\x01\0\0\0" + text


def contents(project: Project, version: str, arch: Arch = Arch.AMD64) -> dict[str, bytes]:
    """The programs that a release of this version has here."""
    return {name: elf(f"{name} {version}".encode(), arch) for name in project.programs}


def config(nydus: str = "newest", snapshotter: str = "newest") -> Config:
    return Config(programs=ProgramsConfig(nydus=nydus, snapshotter=snapshotter))


def install(
    node: FakeNode,
    project: Project,
    version: str,
    *,
    arch: Arch = Arch.AMD64,
    changed: Mapping[str, bytes] | None = None,
    says: str = "",
) -> str:
    """As dpkg does with a package of this version; the directory of its programs. `says` is what they tell to
    --version where that is another version.
    """
    directory = project.directory(version)
    for name, content in {**contents(project, version, arch), **(changed or {})}.items():
        node.files.put(f"{directory}/{name}", content, mode=0o755)
        text = f"{name} \rVersion: \t{says or f'v{version}'}\nGit Commit: \tabc\n"
        node.processes.on(f"{directory}/{name}", "--version", stdout=text)
    return directory


def purge(node: FakeNode, project: Project, version: str) -> None:
    """As dpkg does with the package of this version."""
    directory = project.directory(version)
    for path in [path for path in node.files.files if path.startswith(f"{directory}/")]:
        node.files.drop(path)
    node.files.directories.discard(directory)
