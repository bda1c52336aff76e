"""What the command line of a conversion names: images, as skopeo names them, and platforms."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from agent.errors import ConvertError
from agent.registry import names

SHAPES = "oci:DIRECTORY[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME]"
"""skopeo's names of places on this machine (containers-transports(5))."""
_LOCAL = ("oci", "oci-archive", "docker-archive")
_WITH_VARIANTS = ("amd64", "arm", "arm64")


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image in a registry or on this machine."""

    text: str
    """As it was given, or as a whole reference."""
    skopeo: str
    """As skopeo takes it. A path is absolute, because skopeo is started in /."""
    host: str = ""
    """The registry; empty where the image is on this machine."""


def parse_source(text: str) -> ImageName:
    """HOST/REPOSITORY:TAG, with or without docker://, or a place on this machine.

    Raises ConvertError (NNA1401).
    """
    transport, colon, rest = text.partition(":")
    if colon and transport in _LOCAL:
        path, _, name = rest.partition(":")
        if not path:
            raise ConvertError(
                "NNA1401", f"{text!r} names no {'directory' if transport == 'oci' else 'file'}"
            )
        place = os.path.abspath(path)  # noqa: PTH100 - Path.resolve would follow links
        return ImageName(text, f"{transport}:{place}{':' + name if name else ''}")
    found = names.parse(text.removeprefix("docker://"))
    # skopeo refuses a name with both tag and digest; the digest says more.
    named = f"@{found.digest}" if found.digest else f":{found.tag}"
    return ImageName(str(found), f"docker://{found.host}/{found.repository}{named}", found.host)


def parse_target(text: str) -> ImageName:
    """As `parse_source`, for what can be written. Raises ConvertError (NNA1401)."""
    found = parse_source(text)
    if found.host and "@" in found.skopeo:
        raise ConvertError(
            "NNA1401", "DST cannot have a digest", cause="the digest follows from what is made"
        )
    if found.skopeo.startswith("docker-archive:"):
        raise ConvertError("NNA1401", "DST cannot be a docker-archive", cause="it cannot hold a nydus image")
    return found


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def body(self) -> dict[str, str]:
        """As an index has it."""
        named = {"os": self.os, "architecture": self.architecture, "variant": self.variant}
        return {name: value for name, value in named.items() if value}

    def serves(self, wanted: Platform) -> bool:
        """Whether an image of this platform is what was asked for. Many images do not say their variant."""
        same = (self.os, self.architecture) == (wanted.os, wanted.architecture)
        return same and (not wanted.variant or self.variant in ("", wanted.variant))


def platform_of(config: Mapping[str, object]) -> Platform:
    """What the configuration of an image says that it is for."""
    found = (str(config.get(key) or "")[:64] for key in ("os", "architecture", "variant"))
    return Platform(next(found) or "linux", *found)


def parse_platforms(text: str) -> tuple[Platform, ...]:
    """ "amd64,linux/arm64": each once, in this order. Raises ConvertError (NNA1401)."""
    found = []
    for name in text.split(","):
        parts = name.strip().split("/")
        if len(parts) == 1 or (parts[0] in _WITH_VARIANTS and len(parts) == 2):
            parts = ["linux", *parts]  # as containerd reads it: arm/v7 names no system called arm
        if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isalnum() for part in parts):
            cause = "such as amd64, arm64, arm/v7, linux/arm/v7"
            raise ConvertError("NNA1401", f"{name!r} is no platform", cause=cause)
        found.append(Platform(*parts))
    return tuple(dict.fromkeys(found))
