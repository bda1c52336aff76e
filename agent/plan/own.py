"""Whose a file is: what carries our mark in its first line is ours, everything else belongs to somebody."""

from __future__ import annotations

from agent import paths
from agent.node.facts import Facts, FileFact


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
