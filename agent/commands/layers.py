"""What an image on the node consists of: blobs that a registry sends, and snapshots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from agent.dataclass import dataclass
from agent.errors import AgentError, ContainerdNotFoundError
from agent.ports import Containerd

_CALL_S = 10.0
_NYDUS_BLOB = "containerd.io/snapshot/nydus-blob"  # a layer that is never downloaded: it is read lazily


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
    """Keys of its snapshots (image-spec, config.md, "Layer ChainID")."""


def layers_of(containerd: Containerd, namespace: str, name: str) -> Layers:
    """Raises ContainerdError, AgentError NNA1702 where the image is not there as a whole."""
    record = next((one for one in containerd.images(namespace, deadline_s=_CALL_S) if one.name == name), None)
    manifest = _manifest(containerd, namespace, record.digest) if record is not None else None
    if manifest is None:
        raise AgentError("NNA1702", f"{name} cannot be read", cause="its manifest is not in containerd's store")
    entries = [manifest["config"], *manifest["layers"]]
    lazy = [entry for entry in entries if _NYDUS_BLOB in (entry.get("annotations") or {})]
    return Layers(
        frozenset(str(entry["digest"]) for entry in entries),
        sum(int(entry["size"]) for entry in entries if entry not in lazy),
        tuple(str(entry["digest"]).removeprefix("sha256:") for entry in lazy),
        _chains(_document(containerd, namespace, str(manifest["config"]["digest"]))),
    )


def _manifest(containerd: Containerd, namespace: str, digest: str) -> Mapping[str, Any] | None:
    """The manifest behind a name; of an index, the one of the platform that was pulled."""
    document = _document(containerd, namespace, digest)
    if "layers" in document:
        return document
    for entry in document.get("manifests") or ():
        child = _document(containerd, namespace, str(entry.get("digest")))
        if "layers" in child and _document(containerd, namespace, str(child["config"]["digest"])):
            return child
    return None


def _document(containerd: Containerd, namespace: str, digest: str) -> Mapping[str, Any]:
    """A manifest, an index or a configuration; empty where it is not there or no JSON object."""
    try:
        parsed = json.loads(containerd.content(namespace, digest, deadline_s=_CALL_S))
    except (ContainerdNotFoundError, ValueError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _chains(config: Mapping[str, Any]) -> frozenset[str]:
    chain, found = "", set()
    for diff_id in (config.get("rootfs") or {}).get("diff_ids") or ():
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else str(diff_id)
        found.add(chain)
    return frozenset(found)
