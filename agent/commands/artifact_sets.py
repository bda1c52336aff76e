"""Sets of programs as the verbs of artifacts show and name them."""

from __future__ import annotations

from collections.abc import Sequence

from agent.artifacts.lock import ArtifactName
from agent.artifacts.sets import InstalledSet
from agent.config.forms import SYSTEM
from agent.config.model import Config
from agent.errors import ArtifactError
from agent.node import sets
from agent.ports_artifacts import ArtifactStore

SHORT = 12
"""Digits of a set's id that people see."""


def releases(one: InstalledSet) -> str:
    """ "nydus v2.4.4, nydus-snapshotter v0.16.1"."""
    return ", ".join(f"{source.name} {source.version}" for source in one.sources)


def named(store: ArtifactStore, text: str) -> InstalledSet:
    """The set whose id begins so; "current" and "previous" too. Raises ArtifactError NNA1136."""
    if text in ("current", "previous"):
        found = store.current() if text == "current" else store.previous()
        fitting: Sequence[InstalledSet] = [found] if found is not None else []
    else:
        fitting = [one for one in store.sets() if text and one.id.startswith(text)]
    if len(fitting) == 1:
        return fitting[0]
    cause = f"{len(fitting)} sets begin so" if fitting else f"none in {store.directory} is called so"
    raise ArtifactError("NNA1136", f"there is no set {text}", cause=cause, try_="nydus-agent artifacts list")


def reinstall(one: InstalledSet) -> str:
    """The command that puts a set's programs back."""
    options = {ArtifactName.NYDUS: "--nydus", ArtifactName.SNAPSHOTTER: "--snapshotter"}
    named_ = " ".join(f"{options[source.name]} {source.version}" for source in one.sources)
    return f"nydus-agent artifacts install {named_}"


def body(one: InstalledSet) -> dict[str, object]:
    """A set in JSON."""
    return {
        "id": one.id,
        "directory": one.directory,
        "arch": one.arch.value,
        "artifacts": one.sources,
        "programs": [
            {"name": program.name, "path": one.path(program.name), "bytes": program.size, "sha256": program.sha256}
            for program in one.programs
        ],
        "bytes": one.size,
        "origin": one.origin,
        "made": one.made.isoformat(),
    }


def next_step(config: Config) -> str:
    """What to do after another set was made current: apply it, or let the configuration follow `current` first."""
    wanted = [sets.wanted_of(config.artifacts, name) for name in ArtifactName]
    if all(one == SYSTEM for one in wanted):
        return 'the configuration uses the programs in PATH: set [artifacts] nydus and snapshotter to "current"'
    if "current" not in wanted:
        pins = ", ".join(f"{name} {one}" for name, one in zip(ArtifactName, wanted, strict=True) if one != SYSTEM)
        return f"the configuration pins {pins}: what is current changes nothing for it"
    return "nothing runs on it yet: nydus-agent plan, then nydus-agent apply"
