"""The page's files for this site: its values, and where they are wrong today ours, each with its reason."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from agent.config.forms import address_of
from agent.dragonfly import site as page
from agent.dragonfly.peer import dfdaemon, helm_values
from agent.dragonfly.site import CACHE, Peers, Site
from agent.dragonfly.yaml_files import Explained, YamlDocument


class FileForm(enum.StrEnum):
    """A file that can be rendered."""

    KIND = "kind"
    HELM_VALUES = "helm-values"
    PEER_SERVICE = "peer-service"
    DFDAEMON = "dfdaemon"
    DYNCONFIG = "dynconfig"
    UNIT = "dfdaemon-unit"

    @property
    def file(self) -> str:
        """Where the file belongs, or how the page calls it."""
        return _FILES[self]


_FILES = {
    FileForm.KIND: "kind-config.yaml",
    FileForm.HELM_VALUES: "charts-config.yaml",
    FileForm.PEER_SERVICE: "peer-service-config.yaml",
    FileForm.DFDAEMON: "/etc/dragonfly/dfdaemon.yaml",
    FileForm.DYNCONFIG: "/etc/dragonfly/dynconfig.yaml",
    FileForm.UNIT: "/etc/systemd/system/dfdaemon.service.d/50-restart.conf",
}

PAGE: Mapping[FileForm, Mapping[str, Any]] = {
    FileForm.KIND: page.KIND,
    FileForm.HELM_VALUES: page.HELM_VALUES,
    FileForm.PEER_SERVICE: page.PEER_SERVICE,
    FileForm.DFDAEMON: page.DFDAEMON,
}
"""The forms that the page has."""


def _kind(site: Site) -> YamlDocument:
    """A cluster of kind whose first worker's peer can be reached from the machine."""
    mappings = [
        {"containerPort": inner, "hostPort": listener.port, "listenAddress": listener.address}
        for inner, listener in ((page.PROXY_NODE_PORT, site.proxy), (page.HEALTH_NODE_PORT, site.health))
    ]
    why = (
        "The ports are those of mirror.url and mirror.ping_url in agent.toml. The page gives no "
        "listenAddress, and kind then opens them on all addresses: the proxy serves whoever reaches this "
        "machine."
    )
    first = {"role": "worker", "extraPortMappings": Explained(mappings, why)}
    nodes = [{"role": "control-plane"}, first, {"role": "worker"}]
    head = _head(FileForm.KIND, "kind create cluster --config FILE")
    return YamlDocument.of({**page.KIND, "nodes": nodes}, head)


def _peer_service(site: Site) -> YamlDocument:
    """A NodePort before the peers."""
    wishes = site.wishes
    component: object = wishes.peers.value
    of_node = wishes.peers is Peers.CLIENT
    if not of_node:
        component = Explained(component, "Seed peers, as --peers says. They are on no node in particular.")
    ports = [
        {"name": f"http-{port}", "nodePort": outer, "port": port}
        for outer, port in (
            (page.PROXY_NODE_PORT, site.proxy.port),
            (page.HEALTH_NODE_PORT, site.health.port),
        )
    ]
    spec = {
        "type": "NodePort",
        "externalTrafficPolicy": Explained(
            "Local" if of_node else None,
            "The peer of the node that was asked. Without it a connection goes to the peer of any node, and "
            "what this node has in its cache is fetched from another."),
        "ports": Explained(ports, "The ports of mirror.url and mirror.ping_url in agent.toml; the node ports "
                                  "must be those of the kind configuration."),
        "selector": Explained({"app": "dragonfly", "component": component},
                              "Not `release: dragonfly`, which the page has: the chart's pods carry app and "
                              "component alone, so the page's Service has no endpoint."),
    }  # fmt: skip
    needs = "The peers must listen on more than the loopback: render helm-values with --exposed."
    head = (*_head(FileForm.PEER_SERVICE, "kubectl apply -f FILE"), needs)
    return YamlDocument.of({**page.PEER_SERVICE, "spec": spec}, head)


def _dynconfig(site: Site) -> YamlDocument:
    """The schedulers, where there is no manager that tells of them."""
    given = list(site.wishes.schedulers)
    why = "dfdaemon does not start before one of them answers, and serves on when all of them are gone later."
    named = bool(given) and is_named(given[0])
    table = {"addr": Explained(given[0], why)} if named else {"addrs": Explained(given, why)}
    head = f"{FileForm.DYNCONFIG.file}, read where dfdaemon.yaml names no manager."
    return YamlDocument.of({"scheduler": table}, (head,))


def is_named(scheduler: str) -> bool:
    """Whether a scheduler is given by a name. dfdaemon resolves `addr`, one name for all of them; `addrs` are
    addresses (client v1.5: "invalid socket address syntax", and it ends).
    """
    return address_of(scheduler.rpartition(":")[0].strip("[]")) is None


def _unit(site: Site) -> str:
    """The drop-in for dfdaemon.service."""
    wishes = site.wishes
    own = (wishes.storage, wishes.socket, wishes.logs, CACHE)
    # Within quotation marks (systemd.syntax(7)); in a command a dollar sign begins a variable.
    quoted = [path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") for path in own]
    made = " ".join(f'"{path}"' for path in quoted).replace("$", "$$")
    # Those that are not there yet when mkdir is started must not keep it from that: systemd lays them out for
    # it too.
    written = " ".join(f'"-{path}"' for path in quoted)
    owned = f"\nExecStartPre=+/usr/bin/chown --no-dereference {wishes.user} {made}" if wishes.user else ""
    return _UNIT.replace("@MADE@", made + owned).replace("@WRITTEN@", written)


def render(form: FileForm, site: Site) -> YamlDocument | str:
    """The file: a document, or a unit's text."""
    return _RENDERERS[form](site)


def _head(form: FileForm, command: str) -> tuple[str, ...]:
    checked = f"{form.file} of Dragonfly's page on Nydus, checked with {page.CHECKED}"
    return (f"{checked}; `--page` prints the page's own. Use: {command}",)


_DFDAEMON_HEAD = (
    f"{FileForm.DFDAEMON.file}, checked with {page.CHECKED}. In force after: systemctl restart dfdaemon"
)
_RENDERERS: Mapping[FileForm, Callable[[Site], YamlDocument | str]] = {
    FileForm.KIND: _kind,
    FileForm.HELM_VALUES: lambda site: helm_values(
        site, _head(FileForm.HELM_VALUES, "helm install … dragonfly/dragonfly -f FILE")
    ),
    FileForm.PEER_SERVICE: _peer_service,
    FileForm.DFDAEMON: lambda site: dfdaemon(site, (_DFDAEMON_HEAD,)),
    FileForm.DYNCONFIG: _dynconfig,
    FileForm.UNIT: _unit,
}

_UNIT = f"""\
# {FileForm.UNIT.file}
# For upstream's dfdaemon.service. In force after: systemctl daemon-reload && systemctl restart dfdaemon

[Unit]
# The unit is ordered after network-online.target, but nothing asks for that target.
Wants=network-online.target
# dfdaemon ends where no scheduler answers. It must be tried until one does, not five times.
StartLimitIntervalSec=0

[Service]
# The unit has on-success: a crash, a kill for want of memory, or no scheduler at boot is the end of it.
Restart=always
RestartSec=2
# dfdaemon (1.5.10) was seen not to end within a minute of SIGTERM, it seems while somebody, such as the
# agent, holds a connection to it: a restart or a reboot would wait for 90 s.
TimeoutStopSec=10
# At info, its default, dfdaemon writes each request with all its headers into its log: the journal then has
# every password and token of private registries. A --log-level in ExecStart counts before this; upstream's
# unit has none.
Environment=DFDAEMON_LOG_LEVEL=warn
# Whoever reaches the proxy or dfdaemon.sock, each user of the node too, may name a file that dfdaemon then
# makes (X-Dragonfly-Output-Path, seen with 1.5.10), over the socket also one that it overwrites: as root,
# unless the unit has a User=. So it may write to its own directories alone. Where dfdaemon.yaml or --log-dir
# names others, render this with --dfdaemon and --log-dir, or dfdaemon does not start; what dfget is to write
# to, add here.
ExecStartPre=+/usr/bin/mkdir --parents @MADE@
ProtectSystem=strict
ReadWritePaths=@WRITTEN@
# ProtectSystem leaves these writable: root's home, the kernel's settings, disks.
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectControlGroups=yes
PrivateDevices=yes
# The unit has one core (100%); Dragonfly's chart gives a peer four. MemoryMax=8G stays.
CPUQuota=400%
"""
