"""What can be wrong with a peer's settings: the page's best practices, and traps that it does not tell of.

Each check takes a peer and yields findings. The reasons were read in client v1.5 and chart 1.7.4, or seen on
a node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent.dragonfly import peer as ours
from agent.dragonfly.findings import AuditFinding, Peer, Severity

_TRAP, _ADVICE = Severity.TRAP, Severity.ADVICE
_LEAST_REQUESTS = 1000
_LEAST_BANDWIDTH = 10**7
_MOST_BUFFER = 2 << 20


@dataclass(frozen=True, slots=True)
class Rule:
    """A key whose value is wrong where `wrong` says so."""

    item: str
    key: str
    severity: Severity
    wrong: Callable[[Peer, str], bool]
    recommended: str
    why: str
    of_proxy: bool = False
    """Only for peers whose proxy nodes use."""
    not_in_chart: bool = False


def _over(seconds: float) -> Callable[[Peer, str], bool]:
    return lambda peer, key: peer.seconds(key) > seconds


def _under(count: int) -> Callable[[Peer, str], bool]:
    return lambda peer, key: peer.count(key) < count


def _above(count: int) -> Callable[[Peer, str], bool]:
    return lambda peer, key: peer.count(key) > count


def _is(value: bool) -> Callable[[Peer, str], bool]:  # noqa: FBT001 - the value that is wrong
    return lambda peer, key: peer.value(key) is value


def _no_prefetch(peer: Peer, key: str) -> bool:
    """Unless a rule asks the scheduler for small pieces too (v1.5.10)."""
    rules = peer.value("proxy.rules")
    each = rules if isinstance(rules, Sequence) else ()
    return peer.value(key) is False and not any(rule.get("schedulingPolicy") == "always" for rule in each)


def _no_limit(count: int) -> Callable[[Peer, str], bool]:
    return lambda peer, key: peer.count(key) >= count


_SLOW = "The page's best practice: a peer or disk that hangs is given up sooner, and the read goes elsewhere."
_BUFFERS = (
    "Larger buffers make the first byte of a piece wait; the default was 4 MiB once, and is 2 MiB in v1.5.10."
)
_STARVED = (
    "All reads of the node share it: nydusd's, of some 1 MiB each, wait for their turn, and end with "
    "its timeout."
)
_NO_LIMIT = "That is no limit: "

RULES: tuple[Rule, ...] = (
    Rule("request-rate", "proxy.server.requestRateLimit", _TRAP, _under(_LEAST_REQUESTS), str(ours.REQUESTS),
         "nydusd reads some 1 MiB at a time; what is beyond the limit is answered with 429, and up to "
         "nydusd 2.4.2 the "
         "container gets EIO.", of_proxy=True),
    Rule("prefetch", "proxy.prefetch", _TRAP, _no_prefetch, "true",
         "Since client v1.4.2 what has at most 4 MiB goes straight to the registry. nydusd reads less at a "
         "time, so "
         "without prefetch of whole blobs there is no peer-to-peer at all.", of_proxy=True),
    Rule("keep", "storage.keep", _TRAP, _is(False), "true",  # noqa: FBT003
         "All that is in the cache is forgotten at each restart of dfdaemon."),
    Rule("back-to-source", "proxy.disableBackToSource", _TRAP, _is(True), "false",  # noqa: FBT003
         "Where no peer or scheduler answers, dfdaemon answers 500 instead of asking the registry.",
         of_proxy=True),
    Rule("piece-timeout", "download.pieceTimeout", _ADVICE, _over(40), "40s", _SLOW),
    Rule("collected-piece-timeout", "download.collectedPieceTimeout", _ADVICE, _over(5), "5s", _SLOW),
    Rule("write-piece-timeout", "storage.writePieceTimeout", _ADVICE, _over(30), "30s", _SLOW),
    Rule("concurrency", "download.concurrentPieceCount", _ADVICE, _under(8), "8",
         "Fewer pieces at a time than dfdaemon's own default leave a fast network idle."),
    Rule("back-to-source-concurrency", "download.backToSourceConcurrentPieceCount", _ADVICE, _under(8), "8",
         "Fewer pieces at a time than dfdaemon's own default make what comes from the registry wait."),
    Rule("proxy-buffer", "proxy.readBufferSize", _ADVICE, _above(_MOST_BUFFER), str(_MOST_BUFFER), _BUFFERS),
    Rule("write-buffer", "storage.writeBufferSize", _ADVICE, _above(_MOST_BUFFER), str(_MOST_BUFFER),
         _BUFFERS),
    Rule("read-buffer", "storage.readBufferSize", _ADVICE, _above(_MOST_BUFFER), str(_MOST_BUFFER), _BUFFERS),
    Rule("bandwidth", "download.bandwidthLimit", _ADVICE, _no_limit(50 * 10**9), "the node's network",
         _NO_LIMIT + "pulls of images take the network from the containers."),
    Rule("starved", "download.bandwidthLimit", _TRAP, _under(_LEAST_BANDWIDTH), "the node's network",
         _STARVED),
    Rule("back-to-source-starved", "download.backToSourceBandwidthLimit", _TRAP, _under(_LEAST_BANDWIDTH),
         "half of the node's network", _STARVED),
    Rule("upload-bandwidth", "upload.bandwidthLimit", _ADVICE, _no_limit(50 * 10**9), "the node's network",
         _NO_LIMIT + "other nodes' pulls take the network from this node's containers."),
    Rule("back-to-source-bandwidth", "download.backToSourceBandwidthLimit", _ADVICE, _no_limit(50 * 10**9),
         "half of the node's network",
         _NO_LIMIT + "when peer-to-peer fails, all nodes ask the registry as fast as they can."),
    Rule("prefetch-bandwidth", "proxy.prefetchBandwidthLimit", _ADVICE, _no_limit(10 * 10**9),
         "half of the node's network",
         _NO_LIMIT + "whole images that are fetched ahead take the network from reads that somebody waits "
                     "for."),
    Rule("task-ttl", "gc.policy.taskTTL", _ADVICE, lambda peer, key: peer.seconds(key) < 86_400, "30d",
         "What nobody asked for within a day is fetched from the registry again."),
    Rule("gc-interval", "gc.interval", _ADVICE, _over(900), "15m", "The disk may fill up between two looks."),
    Rule("disk-high", "gc.policy.diskHighThresholdPercent", _ADVICE, _above(85),
         str(ours.GC["diskHighThresholdPercent"]),
         "The kubelet removes images at 85 % of the disk: dfdaemon must give its cache up before."),
    Rule("task-id", "proxy.registryMirror.enableTaskIDBasedBlobDigest", _ADVICE,
         _is(False),  # noqa: FBT003
         "true",
         "One blob by http and by https, or in two registries, is fetched and kept twice.", of_proxy=True),
    Rule("names", "backend.enableHickoryDNS", _ADVICE, _is(True), "false",  # noqa: FBT003
         "dfdaemon's own resolver does not read /etc/hosts, so it may miss registries that containerd finds.",
         not_in_chart=True),
)  # fmt: skip


def table(peer: Peer) -> Iterator[AuditFinding]:
    """All of RULES."""
    for rule in RULES:
        if (rule.of_proxy and not peer.serves) or (rule.not_in_chart and peer.helm):
            continue
        if rule.wrong(peer, rule.key):
            value = rule.recommended
            plain = value.startswith(("the ", "half "))
            change = f"render it with --bandwidth, or {peer.change(rule.key, 'SIZE')}" if plain else ""
            yield peer.finding(rule.item, rule.severity, rule.key, value, rule.why, change=change)


_LAST_BY_SERVER = (1, 4, 0)
_RELEASE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def own_server(peer: Peer, tag: str) -> Iterator[AuditFinding]:
    """The limit of dfdaemon's own server, which counts for the proxy's requests in clients up to v1.4.0."""
    key = "download.server.requestRateLimit"
    release = _RELEASE.match(tag)
    old = release is not None and tuple(int(part) for part in release.groups()) <= _LAST_BY_SERVER
    if old and peer.serves and peer.count(key) < _LEAST_REQUESTS:
        why = (
            f"Client {tag} asks for each read through its proxy here, and knows no limit of the proxy "
            f"itself; nydusd "
            "reads some 1 MiB at a time, and what is beyond is answered with 429."
        )
        change = f"{peer.change(key, str(ours.REQUESTS))}; or an image of v1.4.1 or later"
        yield peer.finding("download-request-rate", _TRAP, key, str(ours.REQUESTS), why, change=change)


def in_memory(directory: str) -> bool:
    """Whether a directory is in memory, or emptied at each boot, on any node."""
    return directory.startswith(("/tmp/", "/run/", "/var/run/", "/dev/shm/"))  # noqa: S108 - looked for


IN_MEMORY = "That is memory, or is emptied at each boot: a cache belongs on a disk."


def disk(peer: Peer) -> Iterator[AuditFinding]:
    """Thresholds in the wrong order, and a cache in memory."""
    low, high = "gc.policy.diskLowThresholdPercent", "gc.policy.diskHighThresholdPercent"
    if peer.count(low) >= peer.count(high):
        why = f"Not below the high one ({peer.text(high)}): garbage collection never ends, or never begins."
        yield peer.finding("disk-low", _TRAP, low, str(ours.GC["diskLowThresholdPercent"]), why)
    if in_memory(str(peer.value("storage.dir"))) and not peer.helm:
        yield peer.finding("storage", _TRAP, "storage.dir", "/var/lib/dragonfly/", IN_MEMORY)


def certificate(peer: Peer) -> Iterator[AuditFinding]:
    """dfdaemon verifies nobody unless it is told against what."""
    key = "proxy.registryMirror.cert"
    if peer.serves and not peer.value(key):
        why = (
            "dfdaemon takes any certificate of a registry: who sits between chooses what a tag means. "
            "With it "
            "manifests and tokens come over verified TLS; blobs never do (client v1.5), but a digest tells "
            "them."
        )
        change = (
            f"mount a file with CAs, as `nydus-agent dragonfly render helm-values` does, then {peer.after}"
        )
        file = "its path in the pod" if peer.helm else "/etc/ssl/certs/ca-certificates.crt"
        yield peer.finding("certificate", _TRAP, key, file, why, change=change if peer.helm else "")


_LISTENERS = {
    "proxy": (
        _TRAP,
        "open-proxy",
        "Whoever reaches the port has a proxy into this node's networks, "
        "loopback too, and may name files that dfdaemon makes as root.",
    ),
    "health": (_ADVICE, "health-address", "It tells others that dfdaemon runs; only this node asks."),
    "metrics": (
        _ADVICE,
        "metrics-address",
        "It tells others what this node fetches; open it only for Prometheus.",
    ),
    "stats": (
        _TRAP,
        "stats-address",
        "Anybody may take profiles of the process, each of which costs it time.",
    ),
}


_AWAY = (
    "let a NetworkPolicy keep others out; or set client.enable: true, and nodes need no port of a seed peer"
)


TELLS_HEADERS = (
    "At info and beyond dfdaemon writes each request with all its headers into its log, so with every "
    "password and "
    "token of a private registry."
)
WRITTEN = "the passwords that its log has by now must be changed at the registries"


GOES_WITH_POD = (
    "The cache goes with the pod: each upgrade of Dragonfly begins with an empty one, whatever keep says."
)


def listening(name: str) -> tuple[Severity, str, str]:
    """(severity, item, why) where a server listens for others than its node."""
    return _LISTENERS[name]


def is_open(address: str) -> bool:
    """Whether others than this node reach an address."""
    return not (address == "::1" or address.startswith("127."))


def listeners(peer: Peer) -> Iterator[AuditFinding]:
    """What listens on more than the loopback."""
    for name, (severity, item, why) in _LISTENERS.items():
        key = f"{name}.server.ip"
        if name == "metrics" and peer.helm:
            continue  # Prometheus reads it from outside the pod
        if name == "proxy" and peer.value("proxy.server.basicAuth"):
            continue
        if peer.away and name == "health":
            continue  # whoever uses the proxy asks here too
        if is_open(str(peer.value(key))):
            change = _AWAY if peer.away and name == "proxy" else ""
            wanted = "a NetworkPolicy before it, or peers on the nodes" if change else "127.0.0.1"
            yield peer.finding(item, severity, key, wanted, why, change=change)
