"""A node of fakes with sets of upstream's programs in its store."""

from __future__ import annotations

from collections.abc import Mapping

from agent.artifacts import sets
from agent.artifacts.lock import Artifact, ArtifactName
from agent.artifacts.sets import InstalledSet
from agent.config.model import ArtifactsConfig, Config
from agent.node.facts import Arch
from tests.fakes.node import FakeNode
from tests.fakes.store import FakeStore
from tests.unit.artifacts import NOW, artifact, elf

STORE = ArtifactsConfig().directory


def config(nydus: str = "current", snapshotter: str = "current") -> Config:
    return Config(artifacts=ArtifactsConfig(nydus=nydus, snapshotter=snapshotter))


def store(node: FakeNode) -> FakeStore:
    return node.stores(STORE)


def contents(name: ArtifactName, version: str, arch: Arch = Arch.AMD64) -> dict[str, bytes]:
    """The programs that a release of this version has here."""
    names = ("nydusd", "nydus-image", "nydusctl") if name is ArtifactName.NYDUS else ("containerd-nydus-grpc",)
    return {program: elf(f"{program} {version}".encode(), arch) for program in names}


def release(name: ArtifactName, version: str, arch: Arch = Arch.AMD64) -> Artifact:
    return artifact(name, version, arch, contents(name, version, arch))


def install(
    node: FakeNode,
    nydus: str = "v2.4.4",
    snapshotter: str = "v0.16.1",
    *,
    arch: Arch = Arch.AMD64,
    changed: Mapping[str, bytes] | None = None,
) -> InstalledSet:
    """A set of these releases ("": without), which is made current; `changed` replaces programs in them."""
    wanted = [(ArtifactName.NYDUS, nydus), (ArtifactName.SNAPSHOTTER, snapshotter)]
    artifacts: list[Artifact] = []
    held: dict[str, bytes] = {}
    for name, version in wanted:
        if version:
            programs = {**contents(name, version, arch)}
            programs |= {key: content for key, content in (changed or {}).items() if key in programs}
            artifacts.append(artifact(name, version, arch, programs))
            held |= programs
    made = store(node).lay(sets.described(artifacts, STORE, "https://example.org", NOW), held)
    speak(node, made)
    store(node).switch(made.id)
    return made


def speak(node: FakeNode, made: InstalledSet, nydus: str = "", snapshotter: str = "") -> None:
    """What its programs say of themselves; else the versions of their releases."""
    for name, said in ((ArtifactName.NYDUS, nydus), (ArtifactName.SNAPSHOTTER, snapshotter)):
        version = said or made.version(name)
        for program in contents(name, version or ""):
            if version:
                text = f"{program} \rVersion: \t{version}\nGit Commit: \tabc\n"
                node.processes.on(f"{made.directory}/{program}", "--version", stdout=text)
