"""The images that a bench measures: what one on the node consists of (blobs that a registry sends,
snapshots), and how its registry lets a bench pull, with who this node is there, found as the rest of the
agent finds it.

CRI is told as the kubelet tells it. A plain image is pulled by ctr(8), whose command line everybody can
read, so its registry is asked here what it wants, and the answer goes into a hosts.toml that only root can
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.config.model import Config
from agent.errors import AgentError
from agent.node.images import chain_ids, document, full_name, is_lazy
from agent.plan.render.hosts import as_somebody
from agent.ports import Containerd, Credential, HttpAnswer, Secret
from agent.proof.registry_access import RegistryPorts
from agent.registry.credential import pull_scope
from agent.registry.names import image_parts, registry_of

_CALL_S = 10.0


@dataclass(frozen=True, slots=True)
class Layers:
    """An image that is on the node."""

    digests: frozenset[str]
    """Its configuration and layers: all that a registry sends for it."""
    pulled: int
    """Bytes of what containerd downloads for it."""
    lazy: tuple[str, ...]
    """Digests (hex digits) of what is read lazily."""
    chains: frozenset[str]
    """Keys of its snapshots."""


def layers_of(containerd: Containerd, namespace: str, name: str) -> Layers:
    """Raises ContainerdError (NNA0608: unsound), AgentError NNA1701 where the image is not there as a
    whole.
    """
    record = next((one for one in containerd.images(namespace, deadline_s=_CALL_S) if one.name == name), None)
    manifest = _manifest(containerd, namespace, record.digest) if record is not None else None
    if manifest is None:
        raise AgentError(
            "NNA1701", f"{name} cannot be read", cause="its manifest is not in containerd's store"
        )
    entries = [manifest["config"], *manifest["layers"]]
    lazy = [entry for entry in entries if is_lazy(entry)]
    return Layers(
        frozenset(str(entry["digest"]) for entry in entries),
        sum(int(entry["size"]) for entry in entries if entry not in lazy),
        tuple(str(entry["digest"]).removeprefix("sha256:") for entry in lazy),
        frozenset(chain_ids(_document(containerd, namespace, str(manifest["config"]["digest"])))),
    )


def _manifest(containerd: Containerd, namespace: str, digest: str) -> Mapping[str, Any] | None:
    """The manifest behind a name; of an index, the one of the platform that was pulled."""
    found = _document(containerd, namespace, digest)
    if "layers" in found:
        return found
    for entry in found.get("manifests") or ():
        child = _document(containerd, namespace, str(entry.get("digest")))
        if "layers" in child and _document(containerd, namespace, str(child["config"]["digest"])):
            return child
    return None


def _document(containerd: Containerd, namespace: str, digest: str) -> Mapping[str, Any]:
    return document(containerd, namespace, digest, deadline_s=_CALL_S)


class Admission:
    """For one image. Its credential is looked for once, before anything begins."""

    def __init__(self, registries: RegistryPorts, config: Config, name: str) -> None:
        """Raises CredentialError where a source of credentials is there and cannot be used."""
        self.name = full_name(name)
        self._registries = registries
        self._registry, self._repository = image_parts(self.name)
        self._host = registry_of(config, self._registry)
        self._looked = registries.credentials.find(self._registry, deadline_s=_CALL_S)

    @property
    def credential(self) -> Credential | None:
        """What CRI is told; None: nothing, because the image is public or CRI cannot use it."""
        return self._looked.credential

    def hosts_file(self) -> bytes:
        """hosts.toml by which containerd asks this registry itself, as who we are there: the registry is
        asked anew, as containerd does it at each pull. Raises CredentialError NNA1203, NNA1205, HttpError,
        FileError.
        """
        _, header = self._let_in()
        return as_somebody(self._host, header.reveal())

    def digest(self) -> str:
        """What the image's name stands for at its registry now; "" where it does not say.

        Raises as `hosts_file`.
        """
        answer, header = self._let_in()
        if header:
            answer = self._ask(header)
        return answer.headers.get("docker-content-digest", "") if answer.status == 200 else ""

    def _let_in(self) -> tuple[HttpAnswer, Secret]:
        """What the registry answers to somebody unknown, and what it wants to hear instead; empty where
        nothing.
        """
        answer = self._ask(Secret())
        if answer.status != 401:
            return answer, Secret()
        challenge, scopes = answer.headers.get("www-authenticate", ""), [pull_scope(self._repository)]
        return answer, self._registries.tokens(self._looked).answer(challenge, scopes, deadline_s=_CALL_S)

    def _ask(self, header: Secret) -> HttpAnswer:
        path = f"/v2/{self._repository}/manifests/{_tag_of(self.name)}"
        return self._registries.ask(self._registry, path, header, _CALL_S)


def _tag_of(name: str) -> str:
    """Tag or digest of an image's whole name."""
    _, at, digest = name.partition("@")
    return digest if at else name.rpartition(":")[2]
