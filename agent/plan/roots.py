"""The snapshotter's root that a plan is made for, and why another one cannot be taken. Pure.

What containerd unpacked lies below the root of the snapshotter that unpacked it. Where the operator names no
other root (it is the default), the one that is there is kept; where he does, it is refused until no image is
left there.
"""

from __future__ import annotations

from dataclasses import replace

from agent.config.model import Config, SnapshotterConfig
from agent.facts.node import Facts, Unknown
from agent.steps import Refusal

_DEFAULT = SnapshotterConfig().root


def kept(config: Config, facts: Facts) -> Config:
    """The configuration with the root that is there, where containerd may refer to it and no other one is
    named.
    """
    there = facts.snapshotter_root
    if config.snapshotter.root != _DEFAULT or not there.path or there.images == 0:
        return config
    return replace(config, snapshotter=replace(config.snapshotter, root=there.path))


def notes(config: Config, facts: Facts) -> tuple[str, ...]:
    """That the root is not the default one, and why. `config` is what `kept` made."""
    there = facts.snapshotter_root
    if not there.path or config.snapshotter.root != there.path:
        return ()
    why = f"what containerd has unpacked is there ({there.evidence})"
    return (f"snapshotter.root {there.path} is kept instead of {_DEFAULT}: {why}",)


def refusals(config: Config, facts: Facts) -> tuple[Refusal, ...]:
    """Why another root cannot be taken. `config` is what `kept` made."""
    there, wanted = facts.snapshotter_root, config.snapshotter.root
    if not there.path or there.path == wanted or there.images == 0:
        return ()
    if isinstance(there.images, Unknown):
        why = f"whether containerd has images there could not be read: {there.images.reason}"
    else:
        why = f"containerd has {there.images} unpacked there, and none of them could start any more"
    reason = (
        f'snapshotter.root = "{wanted}", but the snapshotter\'s data is in {there.path} '
        f"({there.evidence}): {why}"
    )
    way = f'set snapshotter.root = "{there.path}", or drain the node and remove the images: crictl rmi --all'
    return (Refusal("NNA0305", reason, way),)
