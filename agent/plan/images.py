"""What a change of the snapshotter does to images that are on the node already. Pure."""

from __future__ import annotations

import shlex

from agent import paths
from agent.config.model import Config, ContainerdMode
from agent.console import counted
from agent.facts.node import Facts, StoredImage
from agent.steps import UnpackImage

_NAMED = 3


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
