"""What can be wrong with a peer's settings: the page's best practices, and traps that it does not tell of.

Each check takes a peer and yields findings. The reasons were read in client v1.5 and chart 1.7.4, or seen on
a node. What dfdaemon refuses itself at its start, or has right by default, is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.config.model import Config, Scheme, Switch
from agent.dragonfly.settings import AuditFinding, NotLooked, PeerSettings, Severity
from agent.dragonfly.site import STORAGE, SYSTEM_CA

REQUESTS = 4000
"""In a second; dfdaemon's own default. nydusd reads some 1 MiB at a time."""
DISK_HIGH, DISK_LOW = 80, 60
_TRAP, _ADVICE = Severity.TRAP, Severity.ADVICE
_LEAST_REQUESTS = 1000
_LEAST_BANDWIDTH = 10**7
_MOST_BUFFER = 2 << 20

_Wrong = Callable[[PeerSettings, str], bool]


@dataclass(frozen=True, slots=True)
class AuditRule:
    """A key whose value is wrong where `wrong` says so."""

    item: str
    key: str
    severity: Severity
    wrong: _Wrong
    recommended: str
    why: str
    of_proxy: bool = False
    """Only for peers whose proxy nodes use."""
    not_in_chart: bool = False


def _over(most: float) -> _Wrong:
    return lambda peer, key: peer.number(key) > most


def _under(least: float) -> _Wrong:
    return lambda peer, key: peer.number(key) < least


def _is(value: bool) -> _Wrong:  # noqa: FBT001 - the value that is wrong
    return lambda peer, key: peer.value(key) is value


def _no_prefetch(peer: PeerSettings, key: str) -> bool:
    """Unless a rule asks the scheduler for small pieces too (v1.5.10)."""
    return peer.value(key) is False and not any(
        rule.get("schedulingPolicy") == "always" for rule in _rules(peer)
    )


_SLOW = "The page's best practice: a peer or disk that hangs is given up sooner, and the read goes elsewhere."
_BUFFERS = (
    "Larger buffers make the first byte of a piece wait; the default was 4 MiB once, and is 2 MiB in v1.5.10."
)
_STARVED = "All reads of the node share it: nydusd's, of some 1 MiB each, wait, and end with its timeout."
_NETWORK, _HALF = "the node's network", "half of the node's network"

RULES: tuple[AuditRule, ...] = (
    AuditRule("request-rate", "proxy.server.requestRateLimit", _TRAP, _under(_LEAST_REQUESTS), str(REQUESTS),
              "nydusd reads some 1 MiB at a time; what is beyond the limit is answered with 429, and up to "
              "nydusd 2.4.2 the container gets EIO.", of_proxy=True),
    AuditRule("prefetch", "proxy.prefetch", _TRAP, _no_prefetch, "true",
              "Since client v1.4.2 what has at most 4 MiB goes straight to the registry. nydusd reads less "
              "at a time, so without prefetch of whole blobs there is no peer-to-peer at "
              "all.", of_proxy=True),
    AuditRule("keep", "storage.keep", _TRAP, _is(False), "true",  # noqa: FBT003
              "All that is in the cache is forgotten at each restart of dfdaemon."),
    AuditRule("back-to-source", "proxy.disableBackToSource", _TRAP, _is(True), "false",  # noqa: FBT003
              "Where no peer or scheduler answers, dfdaemon answers 500 instead of asking the registry.",
              of_proxy=True),
    AuditRule("piece-timeout", "download.pieceTimeout", _ADVICE, _over(40), "40s", _SLOW),
    AuditRule("collected-piece-timeout", "download.collectedPieceTimeout", _ADVICE, _over(5), "5s", _SLOW),
    AuditRule("write-piece-timeout", "storage.writePieceTimeout", _ADVICE, _over(30), "30s", _SLOW),
    AuditRule("concurrency", "download.concurrentPieceCount", _ADVICE, _under(8), "8",
              "Fewer pieces at a time than dfdaemon's own default leave a fast network idle."),
    *(AuditRule(item, key, _ADVICE, _over(_MOST_BUFFER), str(_MOST_BUFFER), _BUFFERS) for item, key in (
        ("proxy-buffer", "proxy.readBufferSize"), ("write-buffer", "storage.writeBufferSize"),
        ("read-buffer", "storage.readBufferSize"))),
    AuditRule("starved", "download.bandwidthLimit", _TRAP, _under(_LEAST_BANDWIDTH), _NETWORK, _STARVED),
    AuditRule("back-to-source-starved", "download.backToSourceBandwidthLimit", _TRAP,
              _under(_LEAST_BANDWIDTH), _HALF, _STARVED),
    *(AuditRule(item, key, _ADVICE, _over(most - 1), wanted, f"That is no limit: {why}")
      for item, key, most, wanted, why in (
        ("bandwidth", "download.bandwidthLimit", 50 * 10**9, _NETWORK,
         "pulls of images take the network from the containers."),
        ("upload-bandwidth", "upload.bandwidthLimit", 50 * 10**9, _NETWORK,
         "other nodes' pulls take the network from this node's containers."),
        ("back-to-source-bandwidth", "download.backToSourceBandwidthLimit", 50 * 10**9, _HALF,
         "when peer-to-peer fails, all nodes ask the registry as fast as they can."),
        ("prefetch-bandwidth", "proxy.prefetchBandwidthLimit", 10 * 10**9, _HALF,
         "whole images that are fetched ahead take the network from reads that somebody waits for."))),
    AuditRule("disk-high", "gc.policy.diskHighThresholdPercent", _ADVICE, _over(85), str(DISK_HIGH),
              "The kubelet removes images at 85 % of the disk: dfdaemon must give its cache up before."),
    AuditRule("task-id", "proxy.registryMirror.enableTaskIDBasedBlobDigest", _ADVICE,
              _is(False), "true",  # noqa: FBT003
              "One blob by http and by https, or in two registries, is fetched and kept twice.",
              of_proxy=True),
    AuditRule("names", "backend.enableHickoryDNS", _ADVICE, _is(True), "false",  # noqa: FBT003
              "dfdaemon's own resolver does not read /etc/hosts, so it may miss registries that containerd "
              "finds.", not_in_chart=True),
)  # fmt: skip


def settings(peer: PeerSettings, config: Config) -> Iterator[AuditFinding | NotLooked]:
    """All that a file tells by itself, but for its listeners, of which the kernel knows more."""
    for rule in RULES:
        if (rule.of_proxy and not peer.serves) or (rule.not_in_chart and peer.helm):
            continue
        if rule.wrong(peer, rule.key):
            is_network = rule.recommended in (_NETWORK, _HALF)
            change = f"render it with --bandwidth, or {peer.change(rule.key, 'SIZE')}" if is_network else ""
            yield peer.finding(rule.item, rule.severity, rule.key, rule.recommended, rule.why, change=change)
    yield from _disk(peer)
    if peer.serves:
        yield from _certificate(peer)
        yield from _blobs(peer, config)


def old_server(peer: PeerSettings, tag: str) -> Iterator[AuditFinding]:
    """The limit of dfdaemon's own server, which counts for the proxy's requests in clients up to v1.4.0."""
    key = "download.server.requestRateLimit"
    release = re.match(r"v?(\d+)\.(\d+)\.(\d+)", tag)
    old = release is not None and tuple(int(part) for part in release.groups()) <= (1, 4, 0)
    if old and peer.serves and peer.number(key) < _LEAST_REQUESTS:
        why = (
            f"Client {tag} asks for each read through its proxy here, and knows no limit of the proxy "
            "itself; nydusd reads some 1 MiB at a time, and what is beyond is answered with 429."
        )
        change = f"{peer.change(key, str(REQUESTS))}; or an image of v1.4.1 or later"
        yield peer.finding("download-request-rate", _TRAP, key, str(REQUESTS), why, change=change)


def _disk(peer: PeerSettings) -> Iterator[AuditFinding]:
    """Thresholds in the wrong order, and a cache in memory."""
    low, high = "gc.policy.diskLowThresholdPercent", "gc.policy.diskHighThresholdPercent"
    if peer.number(low) >= peer.number(high):
        why = f"Not below the high one ({peer.text(high)}): garbage collection never ends, or never begins."
        yield peer.finding("disk-low", _TRAP, low, str(DISK_LOW), why)
    in_memory = ("/tmp/", "/run/", "/var/run/", "/dev/shm/")  # noqa: S108 - looked for
    if str(peer.value("storage.dir")).startswith(in_memory) and not peer.helm:
        why = "That is memory, or is emptied at each boot: a cache belongs on a disk."
        yield peer.finding("storage", _TRAP, "storage.dir", STORAGE, why)


def _certificate(peer: PeerSettings) -> Iterator[AuditFinding]:
    """dfdaemon verifies nobody unless it is told against what."""
    key = "proxy.registryMirror.cert"
    if peer.value(key):
        return
    why = (
        "dfdaemon takes any certificate of a registry: who sits between chooses what a tag means. With it "
        "manifests and tokens come over verified TLS; blobs never do (client v1.5), but a digest tells them."
    )
    if peer.helm:
        render = "mount a file with CAs, as `nydus-agent dragonfly render helm-values` does"
        change = f"{render}, then {peer.after}"
        yield peer.finding("certificate", _TRAP, key, "its path in the pod", why, change=change)
    else:
        yield peer.finding("certificate", _TRAP, key, SYSTEM_CA, why)


LISTENERS = {
    "proxy": (_TRAP, "open-proxy", "Whoever reaches the port has a proxy into this node's networks, loopback "
              "too, and may name files that dfdaemon makes as root."),
    "health": (_ADVICE, "health-address", "It tells others that dfdaemon runs; only this node asks."),
    "metrics": (_ADVICE, "metrics-address",
                "It tells others what this node fetches; open it only for Prometheus."),
    "stats": (_TRAP, "stats-address",
              "Anybody may take profiles of the process, each of which costs it time."),
}  # fmt: skip
"""Server -> (severity, item, why) where it listens for others than its node."""
_AWAY = (
    "let a NetworkPolicy keep others out; or set client.enable: true, and nodes need no port of a seed peer"
)


def is_open(address: str) -> bool:
    """Whether others than this node reach an address."""
    return not (address == "::1" or address.startswith("127."))


def listeners(peer: PeerSettings) -> Iterator[AuditFinding]:
    """What listens on more than the loopback."""
    for name, (severity, item, why) in LISTENERS.items():
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


def judged_by_ping(config: Config, *, native: bool = False) -> Iterator[AuditFinding]:
    """dfdaemon's /healthy answers 200 while the process lives; `native`: the applied mode came to that."""
    if native or config.mirror.switch is Switch.NATIVE:
        why = (
            f"{config.mirror.ping_url} answers 200 as long as dfdaemon's process lives, whatever its proxy, "
            "disk and scheduler do; in mode native nydusd has nothing else to judge by. In mode fence the "
            "agent's canaries go through the data path."
        )
        yield AuditFinding("health", _TRAP, "mirror.switch", "native", "auto", why,
                           'set mirror.switch = "auto" in agent.toml, then nydus-agent apply')  # fmt: skip


# Whether the rules take nydusd's requests through the peers, and speak to each registry as it wants

_PATH = "/v2/name/blobs/sha256:" + "0" * 64
_ANY = "registry.invalid"
"""Stands for a registry that nobody has named; nydus images may come from any."""
_RULES = "proxy.rules"
_EXPLOSIVE = re.compile(r"[*+}][?]?\)[*+{]")
"""A repetition of a repetition: Rust's engine takes it, ours might not come to an end."""

_Rule = Mapping[str, object]


def _rules(peer: PeerSettings) -> Sequence[_Rule]:
    rules = peer.value(_RULES)
    return [rule for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, Sequence) else ()


def _blobs(peer: PeerSettings, config: Config) -> Iterator[AuditFinding | NotLooked]:
    """Findings of the rules, for the registries of agent.toml and all others."""
    missed, plain, secure = list[str](), list[str](), list[str]()
    for scheme, host in _registries(config):
        name = "registries that agent.toml does not name" if host == _ANY else host
        try:
            rule = _first(_rules(peer), f"http://{host}{_PATH}")
        except (re.error, RecursionError, OverflowError):
            why = f"cannot tell what {peer.name(_RULES)} {peer.text(_RULES)} matches"
            yield NotLooked("rules", why, untold=True)
            return
        if rule is None:
            missed.append(name)
        elif bool(rule.get("useTLS")) is not (scheme is Scheme.HTTPS):
            (plain if scheme is Scheme.HTTPS else secure).append(name)
    rendered = f"set {peer.name(_RULES)} as `nydus-agent dragonfly render` prints it, then {peer.after}"
    for item, hosts, recommended, why in (
        ("rules", missed, "a rule with regex blobs/sha256.*",
         "No rule matches blobs of {}: dfdaemon only forwards them, and no peer helps."),
        ("tls-rule", plain, "useTLS: true in the rule of https registries",
         "nydusd asks https registries through its proxy in plain http; without useTLS dfdaemon speaks plain "
         "http to the TLS port of {}, and such images can only go around the peers."),
        ("http-rule", secure, "a rule without useTLS for http registries, before the others",
         "dfdaemon would speak TLS to {}, which agent.toml says speaks http: each read fails."),
    ):  # fmt: skip
        if hosts:
            why = why.format(", ".join(hosts))
            yield peer.finding(item, _TRAP, _RULES, recommended, why, change=rendered)


def _registries(config: Config) -> Iterator[tuple[Scheme, str]]:
    listed = {entry.host: entry.scheme for entry in config.registries.hosts}
    for host, scheme in listed.items():
        yield scheme, host.removesuffix(":80")
    for host in config.registries.include:
        if host not in listed:
            yield Scheme.HTTPS, _ANY if host == "*" else host


def _first(rules: Sequence[_Rule], url: str) -> _Rule | None:
    """The first rule that matches: Rust's expressions are nearly Python's. Raises re.error where not."""
    for rule in rules:
        regex = ".*" if rule.get("regex") is None else str(rule["regex"])
        if _EXPLOSIVE.search(regex):
            raise re.error("might not come to an end")
        if re.search(regex, url):
            return rule
    return None
