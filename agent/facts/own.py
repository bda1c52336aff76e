"""Whose a file is: what carries our mark in its first line is ours, everything else belongs to somebody."""

from __future__ import annotations

from agent import paths
from agent.facts.daemon import FileFact
from agent.facts.node import Facts

SNAPSHOTTER_FILES = (
    paths.NYDUSD_TEMPLATE,
    paths.SNAPSHOTTER_CONFIG,
    paths.SNAPSHOTTER_UNIT_FILE,
    paths.CA_BUNDLE,
)
"""What the snapshotter starts with, beside what is below `paths.REGISTRIES_D`."""


def read_by_snapshotter(path: str) -> bool:
    """Whether the snapshotter reads the file when it starts (and containerd does not)."""
    return path in SNAPSHOTTER_FILES or path.startswith(f"{paths.REGISTRIES_D}/")


def marked(content: bytes) -> bool:
    """The first line carries our mark."""
    return paths.MARK.encode() in content.partition(b"\n")[0]


def ours(facts: Facts, path: str) -> bool:
    """Whether the file is ours from the first byte, or not there yet (then it will be).

    The template is JSON and carries no mark: it is ours where the snapshotter's configuration is.
    """
    fact = facts.file(path)
    if not isinstance(fact, FileFact):
        return True
    if path == paths.NYDUSD_TEMPLATE:
        config = facts.file(paths.SNAPSHOTTER_CONFIG)
        return isinstance(config, FileFact) and marked(config.content)
    return marked(fact.content)
