"""The settings of a peer that we render: as dfdaemon.yaml, and as values of the chart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.dragonfly import site as page
from agent.dragonfly.checks import DISK_HIGH, DISK_LOW, REQUESTS
from agent.dragonfly.site import STATS_PORT, UPLOAD_PORT, Peers, Site
from agent.dragonfly.yaml_files import Explained, YamlDocument

_YES, _NO = True, False
_LOOPBACK = "127.0.0.1"
_CA_IN_POD = "/etc/dragonfly-ca/ca-certificates.crt"
_NO_BUFFERS = (
    "The page's 64 KiB were set against the 4 MiB that dfdaemon had for its buffers then. Its default is 512 "
    "KiB since v1.4.1 and 2 MiB in v1.5.10: it is left to it."
)
_BANDWIDTH = "The node's network, as --bandwidth says; 50GB a second by default, which is no limit."
_LOG = (
    "The chart has info: dfdaemon then writes each request with its Authorization header, and so the "
    "credentials of private registries, into its log."
)


def dfdaemon(site: Site, head: tuple[str, ...]) -> YamlDocument:
    """dfdaemon.yaml, for a node without Kubernetes."""
    wishes = site.wishes
    advertised = wishes.advertise or None
    own = (
        "dfdaemon opens it on all addresses by default, for anybody; the agent asks it on this one ({} "
        "in agent.toml)."
    )
    where = (
        "Where pieces lie, as --storage says; it must outlive a reboot. The unit's drop-in must know it too."
    )
    why = "dfdaemon listens on all addresses by default, and then is an open proxy into this node's networks."
    tree = {
        "host": {"ip": Explained(advertised,
                                 "The address at which other peers find this one (--advertise).")},
        "manager": {"addr": Explained(wishes.manager or None,
                                      "It tells of the schedulers (--manager). Without one dfdaemon reads "
                                      "them from dynconfig.yaml.")},
        "upload": {
            "server": Explained({"ip": advertised, "port": advertised and UPLOAD_PORT},
                                "Other peers ask here which pieces there are."),
            **_upload(site),
        },
        "proxy": _proxy(site, site.proxy.address, wishes.ca, why),
        "storage": Explained({
            "dir": Explained(wishes.storage, where),
            **_STORAGE,
            "server": Explained({"ip": advertised},
                                "Other peers fetch here, at the address that --advertise names."),
        }, _NO_BUFFERS),
        "download": _download(site),
        "gc": {"policy": _disk("disk", "")},
        "health": _server(site.health.address, site.health.port, own.format("mirror.ping_url")),
        "metrics": _server(site.metrics.address, site.metrics.port, own.format("mirror.metrics_url")),
        "stats": _server(site.proxy.address if site.proxy.is_loopback else _LOOPBACK, STATS_PORT,
                         "Profiles of the process: for this node alone."),
        "backend": {"enableHickoryDNS": Explained(_NO, "dfdaemon's own resolver does not read /etc/hosts; "
                                                       "with false it finds registries by the same names as "
                                                       "containerd and nydusd.")},
    }  # fmt: skip
    return YamlDocument.of(tree, head)


def helm_values(site: Site, head: tuple[str, ...]) -> YamlDocument:
    """charts-config.yaml."""
    wishes = site.wishes
    seed = {
        **page.HELM_VALUES["seedClient"],
        "config": _config("seedClient", site, serves=wishes.peers is Peers.SEED),
    }
    return YamlDocument.of({**page.HELM_VALUES, "seedClient": seed, "client": _client(site)}, head)


def _client(site: Site) -> Mapping[str, object]:
    if site.wishes.peers is Peers.SEED:
        return {
            "enable": Explained(_NO, "As on the page: no peer on the nodes. Nodes ask the seed peers "
                                "(--peers seed-client)."),
            "config": Explained({"log": {"level": "warn"}}, f"The chart takes the seed peers' level from "
                                                            f"here. {_LOG}"),
        }  # fmt: skip
    ca = site.wishes.ca
    volumes = [{"name": "storage", "hostPath": {"path": site.wishes.storage, "type": "DirectoryOrCreate"}},
               {"name": "logs", "emptyDir": {}},
               *([{"name": "ca", "hostPath": {"path": ca, "type": "File"}}] if ca else [])]  # fmt: skip
    mounts = [{"name": "storage", "mountPath": "/var/lib/dragonfly/"},
              {"name": "logs", "mountPath": "/var/log/dragonfly/dfdaemon/"},
              *([{"name": "ca", "mountPath": _CA_IN_POD, "readOnly": True}] if ca else [])]  # fmt: skip
    seed = page.HELM_VALUES["seedClient"]
    return {
        "enable": Explained(_YES, "The page has false here, and then asks for client pods in its Service and "
                                  "in its check: neither finds any. nydus-agent wants a peer on each node."),
        "image": Explained(seed["image"], "As the seed peers'."),
        "metrics": Explained(seed["metrics"], "As the seed peers'."),
        "config": Explained(_config("client", site, serves=True), "What the page gives to its seed peers, "
                                                                  "for the nodes' own."),
        "extraVolumes": Explained(volumes, "The chart's storage is an emptyDir: it goes with the pod, "
                                           "whatever storage.keep says."),
        "extraVolumeMounts": Explained(mounts, "The chart's two, and what registryMirror.cert names."),
    }  # fmt: skip


def _config(name: str, site: Site, *, serves: bool) -> Mapping[str, object]:
    """`config` of a kind of peer; `serves`: nodes use its proxy."""
    exposed = site.wishes.exposed or site.wishes.peers is Peers.SEED or not site.proxy.is_loopback
    address = "" if serves and exposed else _LOOPBACK
    why = (
        "The chart listens on all addresses: an open proxy for whoever reaches the node or the pod."
        if address
        else "All addresses, for the Service (--exposed, or peers that are no node's own): whoever reaches "
        "them has an open proxy. Let a NetworkPolicy or a firewall keep others out."
    )
    answers = (
        "Up to client v1.4.0, which chart 1.7.4 starts where no tag is given, the proxy asks for each read "
        "here, and the chart has 50 a second for clients: what is beyond is answered with 429."
    )
    spelled = ' Spelled "dist" as in the chart, because dfdaemon refuses both spellings beside each other.'
    # Clients mount the node's, seed peers have none.
    ca = _CA_IN_POD if site.wishes.ca and name == "client" else ""
    return {
        "proxy": _proxy(site, address, ca, why),
        "storage": Explained(_STORAGE, _NO_BUFFERS),
        "download": {"server": Explained({"requestRateLimit": REQUESTS}, answers), **_download(site)},
        "upload": _upload(site),
        "gc": {"policy": _disk("dist", spelled)},
        "health": _server(address, site.health.port, "The port of mirror.ping_url in agent.toml; for the "
                                                     "node alone, unless a Service leads there."),
        "metrics": _server("", site.metrics.port, "The port of mirror.metrics_url in agent.toml. On all "
                                                  "addresses: Prometheus reads it from outside."),
        "log": {"level": Explained("warn", _LOG)},
        "stats": _server(_LOOPBACK, STATS_PORT, "Profiles of the process: for the node alone."),
    }  # fmt: skip


_STORAGE = {
    "writePieceTimeout": "30s",
    "keep": Explained(_YES, "dfdaemon's default is to forget all that it has at each restart."),
}


def _proxy(site: Site, address: str, ca: str, why: str) -> Explained:
    """`proxy`; with the address "" it listens on all, with the CA file "" it verifies nobody."""
    table = {
        "server": Explained({"ip": address or None, "port": site.proxy.port, "requestRateLimit": Explained(
            REQUESTS, "The chart's 50 a second are 50 MiB/s for all containers of a node together: nydusd "
                      "reads some 1 MiB at a time, and what is beyond is answered with 429.",
        )}, f"{why} The port is that of mirror.url in agent.toml."),
        "rules": Explained(_rules(site), "The first rule that matches counts. nydusd asks an https registry "
                                         "through its proxy in plain http, and only useTLS makes dfdaemon "
                                         "speak TLS to it; the page has none, so such reads fail or go "
                                         "around the peers. Registries that speak http stand before, by "
                                         "name: list them in agent.toml."),
        "registryMirror": {
            "enableTaskIDBasedBlobDigest": Explained(_YES, "One blob is one task, from "
                                                     "whatever registry and scheme."),
            "cert": Explained(ca or None, "Without it dfdaemon verifies no certificate at all. With it "
                                          "manifests and tokens are asked for over verified TLS; blobs never "
                                          "are (client v1.5), they are known by their digest."),
        },
        "prefetch": Explained(_YES, "nydusd reads in pieces, and since client v1.4.2 what has at most 4 MiB "
                                    "goes straight to the registry: without prefetch there is no "
                                    "peer-to-peer at all."),
        "prefetchBandwidthLimit": Explained(_megabytes(site.wishes.bandwidth // 2), "Half of --bandwidth, "
                                                                                    "so that "
                                            "whole images that are fetched ahead leave room for the reads "
                                            "that "
                                            "somebody waits for; 10GB by default, which is no limit."),
    }  # fmt: skip
    return Explained(table, _NO_BUFFERS)


def _rules(site: Site) -> list[dict[str, Any]]:
    """Which requests go through the peers, and how each registry is spoken to; the first that matches counts.
    dfdaemon compares without the port that goes without saying.
    """
    hosts = (re.escape(host.removesuffix(":80")).replace("\\-", "-") for host in site.plain)
    return [
        *({"regex": f"^http://{host}/.*{page.BLOBS}"} for host in hosts),
        {"regex": page.BLOBS, "useTLS": True},
    ]


def _download(site: Site) -> Mapping[str, object]:
    back = "Half of --bandwidth: what all nodes ask of the registry at once is the registry's to bear."
    return {
        **page.DOWNLOAD,
        "bandwidthLimit": Explained(_megabytes(site.wishes.bandwidth), _BANDWIDTH),
        "backToSourceBandwidthLimit": Explained(_megabytes(site.wishes.bandwidth // 2), back),
    }


def _upload(site: Site) -> Mapping[str, object]:
    return {"bandwidthLimit": Explained(_megabytes(site.wishes.bandwidth), _BANDWIDTH)}


def _megabytes(count: int) -> str | None:
    """A bandwidth; None for none."""
    return f"{max(count // 10**6, 1)}MB" if count else None


def _disk(spelling: str, why: str) -> Explained:
    policy = {f"{spelling}HighThresholdPercent": DISK_HIGH, f"{spelling}LowThresholdPercent": DISK_LOW}
    return Explained(policy, "The kubelet removes images at 85 % of the disk by default: dfdaemon must give "
                             f"its cache up before. The chart has 90 and 70.{why}")  # fmt: skip


def _server(address: str, port: int, why: str) -> Mapping[str, object]:
    """A table with one `server` in it; with the address "" it listens on all."""
    return {"server": Explained({"ip": address or None, "port": port}, why)}
