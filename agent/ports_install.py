"""The ports of the verbs of artifacts, which touch no unit, no runtime and no mirror, and of which some fetch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.ports import Clock, Files, Ledger, Processes
from agent.ports_artifacts import ArtifactStore, Bundles
from agent.ports_fetch import ArtifactSource


@dataclass(frozen=True, slots=True)
class ArtifactPorts:
    """Everything that installing programs may touch."""

    files: Files
    processes: Processes
    clock: Clock
    ledger: Ledger
    stores: Callable[[str], ArtifactStore]
    downloads: Callable[[], ArtifactSource]
    """Made on demand: only what fetches needs it."""
    bundles: Callable[[], Bundles]
