"""Which images of an index are converted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.errors import ConvertError
from agent.oci.formats import Descriptor, Index, Json, Platform, platform_of

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
# containerd's platforms.Normalize: these variants say nothing.
_PLAIN = {("arm64", "v8"), ("amd64", "v1")}
_WITH_VARIANTS = ("amd64", "arm", "arm64")


def of_machine(machine: str) -> Platform:
    """The platform of this machine (uname -m)."""
    return Platform("linux", _MACHINES.get(machine, machine))


def parse(text: str) -> tuple[Platform, ...]:
    """ "amd64,linux/arm64". Raises ConvertError (NNA1402)."""
    found = []
    for name in text.split(","):
        parts = name.strip().split("/")
        if len(parts) == 1 or (parts[0] in _WITH_VARIANTS and len(parts) == 2):
            parts = ["linux", *parts]  # as containerd reads it: arm/v7 names no system called arm
        if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isalnum() for part in parts):
            raise ConvertError(
                "NNA1402", f"{name!r} is no platform", cause="such as amd64, arm64, arm/v7, linux/arm/v7"
            )
        found.append(Platform(*parts))
    return tuple(dict.fromkeys(map(_normal, found)))


def chosen(index: Index, wanted: Sequence[Platform], what: str) -> tuple[Descriptor, ...]:
    """The manifests of an index for these platforms, in their order. Raises ConvertError (NNA1405)."""
    there = [one for one in index.manifests if one.platform is not None and one.platform.os != "unknown"]
    found = []
    for platform in wanted:
        match = next((one for one in there if one.platform is not None and _normal(one.platform) == platform), None)
        if match is None:
            has = ", ".join(dict.fromkeys(str(one.platform) for one in there)) or "none"
            raise ConvertError("NNA1405", f"{what} has no image for {platform}", cause=f"it has: {has}")
        found.append(match)
    return tuple(found)


def of_config(config: Json) -> Platform:
    """What an image's configuration says that it runs on."""
    said = platform_of(config)
    return _normal(replace(said, os=said.os or "linux"))


def _normal(platform: Platform) -> Platform:
    if (platform.architecture, platform.variant) in _PLAIN:
        return Platform(platform.os, platform.architecture)
    return platform
