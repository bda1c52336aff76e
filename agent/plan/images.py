"""Images that are on the node already: what a change does to them, and the root that they lie below. Pure.

What containerd unpacked lies below the root of the snapshotter that unpacked it. Where the operator names no
other root (it is the default), the one that is there is kept; where he does, it is refused until no image is
left there.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from agent import paths
from agent.config.model import Config, ContainerdMode, SnapshotterConfig
from agent.console import counted
from agent.facts.node import Facts, StoredImage, Unknown
from agent.steps import Refusal, UnpackImage

_NAMED = 3
_DEFAULT_ROOT = SnapshotterConfig().root


def steps(config: Config, facts: Facts) -> tuple[UnpackImage, ...]:
    """Sandbox images that our snapshotter must unpack, once containerd knows it."""
    mode = config.containerd.mode
    runtime = paths.RUNTIME if mode is ContainerdMode.RUNTIME_CLASS else ""
    return tuple(
        UnpackImage(image.name, image.digest, config.containerd.address, runtime, complete=image.complete)
        for image in _matter(config, facts)
        if image.sandbox and not image.unpacked and not image.problem
    )


def warnings(config: Config, facts: Facts) -> tuple[str, ...]:
    """Which images cannot be read, and how many cannot start under our snapshotter because their layers are
    no more.
    """
    matter = _matter(config, facts)
    return (*unsound(matter), *_without_layers(config, matter))


def unsound(images: tuple[StoredImage, ...]) -> tuple[str, ...]:
    """The images that cannot be read, each with the reason and what to do."""
    told = [
        f"the image {image.name} cannot be read and is passed over: {image.problem}; "
        f"to remove it: crictl rmi {shlex.quote(image.name)}"
        for image in images
        if image.problem
    ]
    more = (f"{counted(len(told) - _NAMED, 'image')} more cannot be read",) if len(told) > _NAMED else ()
    return (*told[:_NAMED], *more)


def _without_layers(config: Config, matter: tuple[StoredImage, ...]) -> tuple[str, ...]:
    known = [image for image in matter if not (image.sandbox or image.problem)]
    broken = [image.name for image in known if not (image.complete or image.unpacked)]
    if not broken:
        return ()
    named = ", ".join(broken[:_NAMED]) + (", …" if len(broken) > _NAMED else "")
    whose = (
        "new containers"
        if config.containerd.mode is ContainerdMode.DEFAULT
        else "containers of the runtime class"
    )
    return (
        f"{counted(len(broken), 'image')} ({named}) lack layers, which were discarded after unpacking "
        f"(discard_unpacked_layers): {whose} of theirs cannot start until they are pulled again (crictl "
        f"pull)",
    )


def _matter(config: Config, facts: Facts) -> tuple[StoredImage, ...]:
    if config.containerd.mode is ContainerdMode.PLUGIN_ONLY or not isinstance(facts.images, tuple):
        return ()
    return facts.images


def kept_root(config: Config, facts: Facts) -> Config:
    """The configuration with the root that is there, where containerd may refer to it and no other one is
    named.
    """
    there = facts.snapshotter_root
    if config.snapshotter.root != _DEFAULT_ROOT or not there.path or there.images == 0:
        return config
    return replace(config, snapshotter=replace(config.snapshotter, root=there.path))


def root_notes(config: Config, facts: Facts) -> tuple[str, ...]:
    """That the root is not the default one, and why. `config` is what `kept_root` made."""
    there = facts.snapshotter_root
    if not there.path or config.snapshotter.root != there.path:
        return ()
    why = f"what containerd has unpacked is there ({there.evidence})"
    return (f"snapshotter.root {there.path} is kept instead of {_DEFAULT_ROOT}: {why}",)


def root_refusals(config: Config, facts: Facts) -> tuple[Refusal, ...]:
    """Why another root cannot be taken. `config` is what `kept_root` made."""
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
