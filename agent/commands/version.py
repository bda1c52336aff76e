"""`nydus-agent version`: the agent's version, and those of the programs that the last inspection saw."""

from __future__ import annotations

import argparse

from agent import __version__, paths
from agent.commands.context import Context
from agent.commands.state.picture import read_document
from agent.documents.status import ProofDocument
from agent.errors import Exit

HELP = "print the versions of the agent and of what it manages"
NEEDS_ROOT = False
UNKNOWN = "unknown"
_COMPONENTS = ("nydusd", "nydus-image", "snapshotter", "containerd")


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(_args: argparse.Namespace, context: Context) -> Exit:
    """Always OK: a version that no inspection has seen is printed as unknown."""
    found = read_document(ProofDocument, context.path(paths.PROOF))
    proof = found if isinstance(found, ProofDocument) else None
    seen = proof.versions if proof else {}
    versions = {name: seen.get(name) or UNKNOWN for name in _COMPONENTS}
    context.console.table([("nydus-agent", __version__), *versions.items()])
    if UNKNOWN in versions.values():
        context.console.line("(what no inspection has seen is unknown: sudo nydus-agent doctor)")
    context.console.emit(
        "Version", {"agent": __version__, "components": versions, "seenAt": proof and proof.at}
    )
    return Exit.OK
