"""nydusd's configuration template, as JSON of the first schema (the only one that the snapshotter reads).

The snapshotter parses it into its own struct and writes one copy per image: host, repo, credentials and cache
directory are filled in there, and keys that the struct does not know are dropped
(containerd/nydus-snapshotter, config/daemonconfig). So only keys that survive are rendered, and `fallback`
always: its absence would become false.

What the switch means here:

- fence: no `ping_url` for the proxy. nydusd's own ping thread calls a proxy dead after one lost answer, and
  while it says so a clock that steps back aborts nydusd, and with it every root that it serves
  (storage/src/backend/connection.rs). The fence turns every fault into a refusal, and the per-request
  fallback does the rest.
- native: nothing of ours switches, so nydusd's own means are all there is. In the mirrors dialect that is the
  JSON of Dragonfly's page on Nydus, field for field; one value differs: `skip_verify` stays false, because a
  plain node verifies the origin's certificate and we are never worse than a plain node. The page has no proxy
  form; there the `proxy` block stands in the place of `mirrors`, with the operator's `ping_url`.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from agent.config.model import Config, Dialect, Switch
from agent.facts.node import Effective

Json: TypeAlias = dict[str, Any]

_TIMEOUT_S = 10
_CHECK_S = 5
_RETRIES = 3
"""At 0, nydusd's default, a read fails 10 ms after a body was cut; 3 gives the fence 1.4 s and costs 7 s at
most.
"""
_PAGE_RETRIES = 2
_RECOVERY_CHECK_S = 1
"""`mirrors`: a mirror that was given up is asked again this often; it is never given up by a ping."""
_DRAGONFLY_REGISTRY = "X-Dragonfly-Registry"


def template(config: Config, effective: Effective) -> bytes:
    """The template's text, ending in a newline."""
    return (json.dumps(document(config, effective), indent=2) + "\n").encode()


def document(config: Config, effective: Effective) -> Json:
    """The template as a value."""
    native = effective.switch is Switch.NATIVE
    page = native and effective.dialect is Dialect.MIRRORS
    backend: Json = {**_mirror(config, effective, native=native), "scheme": effective.scheme.value}
    backend["skip_verify"] = False
    backend["timeout"] = _TIMEOUT_S
    backend["connect_timeout"] = _TIMEOUT_S
    backend["retry_limit"] = _PAGE_RETRIES if page else _RETRIES
    # The snapshotter replaces the directory by its own cache; what stands here is for readers of the file.
    cache = "/var/lib/nydus/cache/" if page else f"{config.snapshotter.root}/cache"
    return {
        "device": {
            "backend": {"type": "registry", "config": backend},
            "cache": {"type": "blobcache", "config": {"work_dir": cache}},
        },
        "mode": "direct",
        "digest_validate": False,  # true refuses every RAFS v6 image
        "iostats_files": False,
        "enable_xattr": True,
        "fs_prefetch": _prefetch(page=page),
    }


def _mirror(config: Config, effective: Effective, *, native: bool) -> Json:
    if effective.dialect is Dialect.MIRRORS:
        mirror: Json = {"host": config.mirror.url}
        if native:
            # Known to nydusd up to v2.2.2, false by default; the snapshotter drops it.
            mirror["auth_through"] = False
        mirror["headers"] = {_DRAGONFLY_REGISTRY: config.mirror.registry}
        mirror["ping_url"] = config.mirror.ping_url
        if not native:
            mirror["health_check_interval"] = _RECOVERY_CHECK_S
            # 5, the default, lets five reads in a row run into a mirror that is gone.
            mirror["failure_limit"] = 1
        return {"mirrors": [mirror]}
    proxy: Json = {"url": config.mirror.url, "fallback": True}
    if native:
        proxy["ping_url"] = config.mirror.ping_url
    proxy["check_interval"] = _CHECK_S
    proxy["use_http"] = effective.use_http
    return {"proxy": proxy}


def _prefetch(*, page: bool) -> Json:
    """The page's figures: files that the image's builder named, at 1 MiB a second, so that reads on demand go
    first.
    """
    prefetch: Json = {
        "enable": True,
        "threads_count": 10,
        "merging_size": 128 << 10,
        "bandwidth_rate": 1 << 20,
    }
    if not page:
        prefetch["prefetch_all"] = False  # true would load whole images; absent is true for nydusd
    return prefetch
