"""Whether the rules take nydusd's requests through the peers, and speak to each registry as it wants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from agent.config.model import Config, Scheme
from agent.dragonfly.findings import AuditFinding, NotLooked, Peer, Severity
from agent.dragonfly.reading import shown

_PATH = "/v2/name/blobs/sha256:" + "0" * 64
_ANY = "registry.invalid"
"""Stands for a registry that nobody has named; nydus images may come from any."""
_KEY = "proxy.rules"
_LONGEST = 1000


def check_rules(peer: Peer, config: Config) -> Iterator[AuditFinding | NotLooked]:
    """Findings of the rules, for the registries of agent.toml and all others."""
    rules = peer.value(_KEY)
    if not isinstance(rules, Sequence) or not peer.serves:
        return
    compiled = [(_compiled(rule), rule) for rule in rules if isinstance(rule, Mapping)]
    for regex, rule in compiled:
        if regex is None:
            yield NotLooked(
                "rules", f"cannot tell what {peer.name(_KEY)} {shown(rule.get('regex'))} matches", untold=True
            )
            return
    chosen = {
        (scheme, host): _first(compiled, f"http://{host}{_PATH}") for scheme, host in _registries(config)
    }
    missed = [host for (_, host), rule in chosen.items() if rule is None]
    if missed:
        yield _missing(peer, missed)
        return
    plain = [host for (scheme, host), rule in chosen.items() if scheme is Scheme.HTTPS and not _tls(rule)]
    if plain:
        yield _no_tls(peer, plain)
    secure = [host for (scheme, host), rule in chosen.items() if scheme is Scheme.HTTP and _tls(rule)]
    if secure:
        yield _too_much_tls(peer, secure)


def _registries(config: Config) -> Iterator[tuple[Scheme, str]]:
    listed = {entry.host: entry.scheme for entry in config.registries.hosts}
    for host, scheme in listed.items():
        yield scheme, host.removesuffix(":80")
    for host in config.registries.include:
        if host != "*" and host not in listed:
            yield Scheme.HTTPS, host
    if "*" in config.registries.include:
        yield Scheme.HTTPS, _ANY


_EXPLOSIVE = re.compile(r"[*+}][?]?\)[*+{]")
"""A repetition of a repetition: Rust's engine takes it, ours might not come to an end."""


def _compiled(rule: Mapping[str, object]) -> re.Pattern[str] | None:
    """Rust's expressions are nearly Python's; None where they are not."""
    regex = rule.get("regex")
    if len(str(regex)) > _LONGEST or _EXPLOSIVE.search(str(regex)):
        return None
    try:
        return re.compile(".*" if regex is None else str(regex))
    except (re.error, RecursionError, OverflowError):
        return None


def _first(
    rules: Sequence[tuple[re.Pattern[str] | None, Mapping[str, object]]], url: str
) -> Mapping[str, object] | None:
    return next((rule for regex, rule in rules if regex is not None and regex.search(url)), None)


def _tls(rule: Mapping[str, object] | None) -> bool:
    return bool(rule and rule.get("useTLS"))


def _hosts(hosts: Sequence[str]) -> str:
    return ", ".join("registries that agent.toml does not name" if host == _ANY else host for host in hosts)


def _finding(peer: Peer, item: str, recommended: str, why: str) -> AuditFinding:
    change = f"set {peer.name(_KEY)} as `nydus-agent dragonfly render` prints it, then {peer.after}"
    return peer.finding(item, Severity.TRAP, _KEY, recommended, why, change=change)


def _missing(peer: Peer, hosts: Sequence[str]) -> AuditFinding:
    why = f"No rule matches blobs of {_hosts(hosts)}: dfdaemon only forwards them, and no peer helps."
    return _finding(peer, "rules", "a rule with regex blobs/sha256.*", why)


def _no_tls(peer: Peer, hosts: Sequence[str]) -> AuditFinding:
    why = (
        f"nydusd asks https registries through its proxy in plain http; without useTLS dfdaemon speaks "
        f"plain http to "
        f"the TLS port of {_hosts(hosts)}, and such images can only go around the peers."
    )
    return _finding(peer, "tls-rule", "useTLS: true in the rule of https registries", why)


def _too_much_tls(peer: Peer, hosts: Sequence[str]) -> AuditFinding:
    why = f"dfdaemon would speak TLS to {_hosts(hosts)}, which agent.toml says speaks http: each read fails."
    return _finding(peer, "http-rule", "a rule without useTLS for http registries, before the others", why)
