"""The chart's values (dragonfly/dragonfly) for this site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.dragonfly import page, peer
from agent.dragonfly.document import YamlDocument
from agent.dragonfly.site import STATS_PORT, Peers, Site

_LOOPBACK = "127.0.0.1"
_CA_IN_POD = "/etc/dragonfly-ca/ca-certificates.crt"


def values(site: Site, head: tuple[str, ...]) -> YamlDocument:
    """charts-config.yaml."""
    seed, seed_why = _peer("seedClient", site, serves=site.wishes.peers is Peers.SEED)
    client, client_why = _client(site)
    body = {
        "manager": page.HELM_VALUES["manager"],
        "scheduler": page.HELM_VALUES["scheduler"],
        "seedClient": {**page.HELM_VALUES["seedClient"], **seed},
        "client": client,
    }
    return YamlDocument(body, head, {**seed_why, **client_why})


def _client(site: Site) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    if site.wishes.peers is Peers.SEED:
        why = "As on the page: no peer on the nodes. Nodes ask the seed peers (--peers seed-client)."
        log_why = f"The chart takes the seed peers' level from here. {_LOG_WHY}"
        return {"enable": False, "config": {"log": {"level": "warn"}}}, {
            "client.enable": why,
            "client.config": log_why,
        }
    ours, reasons = _peer("client", site, serves=True)
    table = {
        "enable": True,
        "image": page.HELM_VALUES["seedClient"]["image"],
        "metrics": {"enable": True},
        **ours,
    }
    table["extraVolumes"], table["extraVolumeMounts"] = _volumes(site)
    whys = {
        "client.config": "What the page gives to its seed peers, for the nodes' own.",
        "client.enable": "The page has false here, and then asks for client pods in its Service and in its "
        "check: "
        "neither finds any. nydus-agent wants a peer on each node.",
        "client.image": "As the seed peers'.",
        "client.metrics": "As the seed peers'.",
        "client.extraVolumes": "The chart's storage is an emptyDir: it goes with the pod, whatever "
        "storage.keep says.",
        "client.extraVolumeMounts": "The chart's two, and what registryMirror.cert names.",
    }
    return table, {**reasons, **whys}


def _peer(name: str, site: Site, *, serves: bool) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """`config` of a kind of peer; `serves`: nodes use its proxy."""
    exposed = site.wishes.exposed or site.wishes.peers is Peers.SEED
    open_to_all = serves and (exposed or not site.proxy.is_loopback)
    why = (
        "All addresses, for the Service (--exposed, or peers that are no node's own): whoever reaches them "
        "has an open "
        "proxy. Let a NetworkPolicy or a firewall keep others out."
        if open_to_all
        else "The chart listens on all addresses: an open proxy for whoever reaches the node or the pod."
    )
    ca = (
        _CA_IN_POD if site.wishes.ca and name == "client" else ""
    )  # clients mount the node's, seed peers have none
    address = "" if open_to_all else _LOOPBACK
    health_why = (
        "The port of mirror.ping_url in agent.toml; for the node alone, unless a Service leads there."
    )
    parts: dict[str, peer.Part] = {
        "proxy": peer.proxy(site, address, ca, why),
        "storage": peer.storage(),
        "download": peer.answers(peer.download(site)),
        "upload": peer.upload(site, ""),
        "gc": _old_names(peer.gc()),
        "health": peer.server(address, site.health.port, health_why),
        "metrics": peer.server("", site.metrics.port, "The port of mirror.metrics_url in agent.toml. On all "
                               "addresses: Prometheus reads it from outside."),
        "log": ({"level": "warn"}, {"level": _LOG_WHY}),
        "stats": peer.server(_LOOPBACK, STATS_PORT, "Profiles of the process: for the node alone."),
    }  # fmt: skip
    table, reasons = peer.below(f"{name}.config", parts)
    return {"config": table}, reasons


_LOG_WHY = (
    "The chart has info: dfdaemon then writes each request with its Authorization header, and so the "
    "credentials of "
    "private registries, into its log."
)


def _old_names(part: peer.Part) -> peer.Part:
    """The chart spells these keys with "dist", and dfdaemon refuses a file that has both spellings."""
    table, reasons = part
    policy = {key.replace("disk", "dist"): value for key, value in table["policy"].items()}
    why = 'Spelled "dist" as in the chart, because dfdaemon refuses both spellings beside each other.'
    return {"policy": policy}, {"policy": f"{reasons['policy']} {why}"}


def _volumes(site: Site) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    volumes: list[Mapping[str, Any]] = [
        {"name": "storage", "hostPath": {"path": site.wishes.storage, "type": "DirectoryOrCreate"}},
        {"name": "logs", "emptyDir": {}},
    ]
    mounts: list[Mapping[str, Any]] = [
        {"name": "storage", "mountPath": "/var/lib/dragonfly/"},
        {"name": "logs", "mountPath": "/var/log/dragonfly/dfdaemon/"},
    ]
    if site.wishes.ca:
        volumes.append({"name": "ca", "hostPath": {"path": site.wishes.ca, "type": "File"}})
        mounts.append({"name": "ca", "mountPath": _CA_IN_POD, "readOnly": True})
    return volumes, mounts
