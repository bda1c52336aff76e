"""The composition root of a conversion: what `wire` is to everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.adapters.image_archive import local_source
from agent.adapters.image_mount import LayerReader
from agent.adapters.nydus_image import NydusImage
from agent.adapters.nydusify import Nydusify
from agent.adapters.registry import RegistrySource, RegistryTarget
from agent.adapters.registry_http import RegistryHttp
from agent.adapters.rooms import DiskRooms
from agent.config.model import Config, Scheme
from agent.convert.job import Ports
from agent.oci.local import Local
from agent.oci.reference import Reference
from agent.ports_convert import Room, WholeBuilder
from agent.registry.names import api_host_of
from agent.wire import credentials, registry_tokens, way_to

_HELPER_S = 10.0


@dataclass(frozen=True, slots=True)
class ConvertSettings:
    """Where a conversion reads, writes and works."""

    source: Reference | Local
    target: Reference
    work_dir: str
    nydus_image: str
    nydusd: str
    nydusify: str
    """Empty where it is not to be used."""
    uid: int
    home: str
    """Of the user who asks: docker's configuration may be there."""


def convert_ports(config: Config, settings: ConvertSettings, environment: Mapping[str, str]) -> Ports:
    """The ports of a conversion. Raises CredentialError."""

    def registry(reference: Reference) -> RegistryHttp:
        return _registry(config, reference.host, environment, settings.uid, settings.home)

    def nydusify(room: Room) -> WholeBuilder:
        return Nydusify(settings.nydusify, settings.nydus_image, room.path)

    source, to = settings.source, registry(settings.target)
    return Ports(
        source=local_source(source) if isinstance(source, Local) else RegistrySource(registry(source), source),
        target=lambda room: RegistryTarget(to, settings.target, room.note),
        builder=lambda room: NydusImage(settings.nydus_image, room.path),
        reader=lambda room: LayerReader(settings.nydusd, room.path),
        rooms=DiskRooms(settings.work_dir),
        nydusify=nydusify if settings.nydusify else None,
    )


def _registry(config: Config, host: str, environment: Mapping[str, str], uid: int, home: str) -> RegistryHttp:
    """A registry with its scheme and CA from the configuration; one on this machine's loopback is http otherwise."""
    scheme, ca = way_to(config, host)
    looked = credentials(config, environment, uid=uid, home=home).find(host, deadline_s=_HELPER_S)
    tokens = registry_tokens(config, looked)
    return RegistryHttp(api_host_of(host), secure=scheme is Scheme.HTTPS, ca=ca, tokens=tokens)
