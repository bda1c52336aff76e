"""What a change of the snapshotter does to images that are on the node already. Pure."""

from __future__ import annotations

from agent import paths
from agent.config.model import Config, ContainerdMode
from agent.console import counted
from agent.node.facts import Facts, StoredImage
from agent.plan.steps import UnpackImage

_NAMED = 3


def steps(config: Config, facts: Facts) -> tuple[UnpackImage, ...]:
    """Sandbox images that our snapshotter must unpack, once containerd knows it."""
    mode = config.containerd.mode
    runtime = paths.RUNTIME if mode is ContainerdMode.RUNTIME_CLASS else ""
    return tuple(
        UnpackImage(image.name, image.digest, config.containerd.address, runtime, complete=image.complete)
        for image in _matter(config, facts)
        if image.sandbox and not image.unpacked
    )


def warnings(config: Config, facts: Facts) -> tuple[str, ...]:
    """How many images cannot start under our snapshotter because their layers are no more."""
    broken = [image.name for image in _matter(config, facts) if not (image.sandbox or image.complete or image.unpacked)]
    if not broken:
        return ()
    named = ", ".join(broken[:_NAMED]) + (", …" if len(broken) > _NAMED else "")
    whose = "new containers" if config.containerd.mode is ContainerdMode.DEFAULT else "containers of the runtime class"
    return (
        f"{counted(len(broken), 'image')} ({named}) lack layers, which were discarded after unpacking "
        f"(discard_unpacked_layers): {whose} of theirs cannot start until they are pulled again (crictl pull)",
    )


def _matter(config: Config, facts: Facts) -> tuple[StoredImage, ...]:
    if config.containerd.mode is ContainerdMode.PLUGIN_ONLY or not isinstance(facts.images, tuple):
        return ()
    return facts.images
