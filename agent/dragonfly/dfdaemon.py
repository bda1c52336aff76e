"""dfdaemon.yaml for a node without Kubernetes, and dynconfig.yaml, which takes the manager's place."""

from __future__ import annotations

import ipaddress

from agent.dragonfly import peer
from agent.dragonfly.document import YamlDocument
from agent.dragonfly.site import STATS_PORT, Site


def config(site: Site, head: tuple[str, ...]) -> YamlDocument:
    """dfdaemon.yaml."""
    own = (
        "dfdaemon opens it on all addresses by default, for anybody; the agent asks it on this one ({} in "
        "agent.toml)."
    )
    loopback = site.proxy.address if site.proxy.is_loopback else "127.0.0.1"
    proxy_why = (
        "dfdaemon listens on all addresses by default, and then is an open proxy into this node's networks."
    )
    parts: dict[str, peer.Part] = {
        **_advertised(site),
        **_manager(site),
        "upload": peer.upload(site, site.wishes.advertise),
        "proxy": peer.proxy(site, site.proxy.address, site.wishes.ca, proxy_why),
        "storage": _storage(site),
        "download": peer.download(site),
        "gc": peer.gc(),
        "health": peer.server(site.health.address, site.health.port, own.format("mirror.ping_url")),
        "metrics": peer.server(site.metrics.address, site.metrics.port, own.format("mirror.metrics_url")),
        "stats": peer.server(loopback, STATS_PORT, "Profiles of the process: for this node alone."),
        "backend": ({"enableHickoryDNS": False}, {"enableHickoryDNS": _DNS}),
    }
    body, reasons = peer.below("", parts)
    return YamlDocument(body, head, reasons)


_DNS = (
    "dfdaemon's own resolver does not read /etc/hosts; with false it finds registries by the same names as "
    "containerd "
    "and nydusd."
)


def _storage(site: Site) -> peer.Part:
    table, reasons = peer.storage()
    listens = {"server": {"ip": site.wishes.advertise}} if site.wishes.advertise else {}
    where = (
        "Where pieces lie, as --storage says; it must outlive a reboot. The unit's drop-in must know it too."
    )
    why = {"dir": where}
    why |= {"server": "Other peers fetch here, at the address that --advertise names."} if listens else {}
    return {"dir": site.wishes.storage, **table, **listens}, {**reasons, **why}


def _advertised(site: Site) -> dict[str, peer.Part]:
    address = site.wishes.advertise
    if not address:
        return {}
    host: peer.Part = (
        {"ip": address},
        {"ip": "The address at which other peers find this one (--advertise)."},
    )
    return {"host": host}


def _manager(site: Site) -> dict[str, peer.Part]:
    if not site.wishes.manager:
        return {}
    why = "It tells of the schedulers (--manager). Without one dfdaemon reads them from dynconfig.yaml."
    return {"manager": ({"addr": site.wishes.manager}, {"addr": why})}


def dynconfig(site: Site, head: tuple[str, ...]) -> YamlDocument:
    """dynconfig.yaml: the schedulers, where there is no manager that tells of them."""
    given = list(site.wishes.schedulers)
    why = "dfdaemon does not start before one of them answers, and serves on when all of them are gone later."
    if given and is_named(given[0]):
        return YamlDocument({"scheduler": {"addr": given[0]}}, head, {"scheduler.addr": why})
    return YamlDocument({"scheduler": {"addrs": given}}, head, {"scheduler.addrs": why})


def is_named(scheduler: str) -> bool:
    """Whether a scheduler is given by a name. dfdaemon resolves `addr`, one name for all of them; `addrs` are
    addresses (client v1.5: "invalid socket address syntax", and it ends).
    """
    try:
        ipaddress.ip_address(scheduler.rpartition(":")[0].strip("[]"))
    except ValueError:
        return True
    return False
