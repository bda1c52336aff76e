"""The ports of the verbs of artifacts, which touch no unit, no runtime and no mirror, and of which some fetch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.ports_artifacts import ArtifactStore, Bundles
from agent.ports_change import Ledger
from agent.ports_clock import Clock
from agent.ports_fetch import ArtifactSource
from agent.ports_files import Files
from agent.ports_processes import Processes


@dataclass(frozen=True, slots=True)
class ArtifactPorts:
    """Everything that installing programs may touch."""

    files: Files
    processes: Processes
    clock: Clock
    ledger: Ledger
    machine: str
    """The kernel's name of what this node is, such as "x86_64" (uname(2))."""
    stores: Callable[[str], ArtifactStore]
    downloads: Callable[[], ArtifactSource]
    """Made on demand: only what fetches needs it."""
    bundles: Callable[[], Bundles]
