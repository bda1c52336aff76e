"""What an image on the node consists of: blobs that a registry sends, and snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.errors import AgentError
from agent.node.images import chain_ids, document, is_lazy
from agent.ports import Containerd

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
