"""The parts of a peer's configuration that dfdaemon.yaml and the chart's values have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.dragonfly import page
from agent.dragonfly.quantities import megabytes
from agent.dragonfly.site import UPLOAD_PORT, Site

Part = tuple[Mapping[str, Any], Mapping[str, str]]
"""A table, and the reasons of its keys by their path below it; "" is the table's own."""

REQUESTS = 4000
"""In a second; dfdaemon's own default. nydusd reads some 1 MiB at a time."""
GC = {"diskHighThresholdPercent": 80, "diskLowThresholdPercent": 60}

_NO_BUFFERS = (
    "The page's 64 KiB were set against the 4 MiB that dfdaemon had for its buffers then. Its default is "
    "512 KiB since "
    "v1.4.1 and 2 MiB in v1.5.10: it is left to it."
)


def rules(site: Site) -> list[dict[str, Any]]:
    """Which requests go through the peers, and how each registry is spoken to; the first that matches
    counts.
    """
    plain = [{"regex": f"^http://{_escaped(host)}/.*{page.BLOBS}"} for host in site.plain]
    return [*plain, {"regex": page.BLOBS, "useTLS": True}]


def _escaped(host: str) -> str:
    """A host for a regular expression of Rust; dfdaemon compares without the port that goes without
    saying.
    """
    return re.escape(host.removesuffix(":80")).replace("\\-", "-")


def proxy(site: Site, address: str, ca: str, why: str) -> Part:
    """`proxy`; with the address "" it listens on all, with the CA file "" it verifies nobody."""
    cert = {"cert": ca} if ca else {}
    half = {"prefetchBandwidthLimit": megabytes(site.wishes.bandwidth // 2)} if site.wishes.bandwidth else {}
    table = {
        "server": {**_ip(address), "port": site.proxy.port, "requestRateLimit": REQUESTS},
        "rules": rules(site),
        "registryMirror": {"enableTaskIDBasedBlobDigest": True, **cert},
        "prefetch": True,
        **half,
    }
    reasons = {
        "server": f"{why} The port is that of mirror.url in agent.toml.",
        "server.requestRateLimit": "The chart's 50 a second are 50 MiB/s for all containers of a node "
        "together: nydusd "
        "reads some 1 MiB at a time, and what is beyond is answered with 429.",
        "rules": "The first rule that matches counts. nydusd asks an https registry through its proxy in "
        "plain http, "
        "and only useTLS makes dfdaemon speak TLS to it; the page has none, so such reads fail or go around "
        "the "
        "peers. Registries that speak http stand before, by name: list them in agent.toml.",
        "registryMirror.enableTaskIDBasedBlobDigest": "One blob is one task, from "
        "whatever registry and scheme.",
        "registryMirror.cert": "Without it dfdaemon verifies no certificate at all. With it manifests and "
        "tokens are "
        "asked for over verified TLS; blobs never are (client v1.5), they are known by their digest.",
        "prefetch": "nydusd reads in pieces, and since client v1.4.2 what has at most 4 MiB goes straight "
        "to the "
        "registry: without prefetch there is no peer-to-peer at all.",
        "prefetchBandwidthLimit": "Half of --bandwidth, so that whole images that are fetched ahead leave "
        "room for the "
        "reads that somebody waits for; 10GB by default, which is no limit.",
    }
    return table, {"": _NO_BUFFERS, **_present(reasons, table)}


_BANDWIDTH = "The node's network, as --bandwidth says; 50GB a second by default, which is no limit."


def storage() -> Part:
    """`storage`."""
    table = {"writePieceTimeout": "30s", "keep": True}
    return table, {
        "": _NO_BUFFERS,
        "keep": "dfdaemon's default is to forget all that it has at each restart.",
    }


def download(site: Site) -> Part:
    """`download`."""
    bandwidth = site.wishes.bandwidth
    limits = {"bandwidthLimit": megabytes(bandwidth), "backToSourceBandwidthLimit": megabytes(bandwidth // 2)}
    table = {**page.DOWNLOAD, **(limits if bandwidth else {})}
    back = "Half of --bandwidth: what all nodes ask of the registry at once is the registry's to bear."
    return table, _present({"bandwidthLimit": _BANDWIDTH, "backToSourceBandwidthLimit": back}, table)


def answers(part: Part) -> Part:
    """`download` with the limit of dfdaemon's own server, which the chart sets."""
    table, reasons = part
    why = (
        "Up to client v1.4.0, which chart 1.7.4 starts where no tag is given, the proxy asks for each read "
        "here, and "
        "the chart has 50 a second for clients: what is beyond is answered with 429."
    )
    return {"server": {"requestRateLimit": REQUESTS}, **table}, {"server": why, **reasons}


def upload(site: Site, address: str) -> Part:
    """`upload`: what other peers ask; with the address "" it is where dfdaemon has it."""
    limit = {"bandwidthLimit": megabytes(site.wishes.bandwidth)} if site.wishes.bandwidth else {}
    why = "Other peers ask here which pieces there are."
    listens, whys = server(address, UPLOAD_PORT, why) if address else ({}, {})
    return {**listens, **limit}, {**whys, **({"bandwidthLimit": _BANDWIDTH} if limit else {})}


def gc() -> Part:
    """`gc`."""
    why = (
        "The kubelet removes images at 85 % of the disk by default: dfdaemon must give its cache up before. "
        "The chart "
        "has 90 and 70."
    )
    return {"policy": dict(GC)}, {"policy": why}


def server(address: str, port: int, why: str) -> Part:
    """A table with one `server` in it; with the address "" it listens on all."""
    return {"server": {**_ip(address), "port": port}}, {"server": why}


def _ip(address: str) -> dict[str, str]:
    return {"ip": address} if address else {}


def below(prefix: str, parts: Mapping[str, Part]) -> Part:
    """Parts by their names as one table, its reasons by their path below `prefix`; an empty part is none."""
    parts = {name: part for name, part in parts.items() if part[0]}
    tables = {name: table for name, (table, _) in parts.items()}
    start = f"{prefix}." if prefix else ""
    reasons = {
        f"{start}{name}.{key}".rstrip("."): why
        for name, (_, whys) in parts.items()
        for key, why in whys.items()
    }
    return tables, reasons


def _present(reasons: Mapping[str, str], table: Mapping[str, Any]) -> dict[str, str]:
    """Those whose key is there."""
    return {key: why for key, why in reasons.items() if _has(table, key)}


def _has(table: Mapping[str, Any], key: str) -> bool:
    head, _, rest = key.partition(".")
    return head in table and (not rest or _has(table[head], rest))
