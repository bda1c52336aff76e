"""What "auto" comes to on this node, and what stands in the way of a plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent import paths
from agent.config.model import Config, Dialect, RegistryHost, Scheme, Switch
from agent.facts.node import (
    ANY_HOST,
    Arch,
    Binary,
    CertificateCheck,
    Effective,
    Facts,
    FileFact,
    TlsCanary,
    Unknown,
)
from agent.outside_json import json_value
from agent.programs import versions
from agent.programs.versions import MIRRORS_NOT_WRITTEN, Project, spelled, version_of
from agent.steps import Refusal, refuse

HTTP_FALLBACK_GONE = (2, 4, 2)
"""Before this version nydusd tries plain http where an https handshake meets a server without TLS."""


def effective(config: Config, facts: Facts) -> Effective:
    """What "auto" comes to. Raises PlanError where the operator's choice cannot work here."""
    chosen, refusals = choose(config, facts)
    refuse(refusals)
    return chosen


def choose(config: Config, facts: Facts) -> tuple[Effective, tuple[Refusal, ...]]:
    """The same, with the refusals as values."""
    switch, switch_reason = _switch(config, facts)
    dialect = Dialect.MIRRORS if config.mirror.dialect is Dialect.MIRRORS else Dialect.PROXY
    refusals = _mirrors_refusals(config, facts) if dialect is Dialect.MIRRORS else ()
    scheme, scheme_reasons = _scheme(config, facts)
    reasons = [switch_reason, f"dialect {dialect.value}: {_why_dialect(config)}", *scheme_reasons]
    if dialect is Dialect.MIRRORS:
        reasons.append(
            f"one template serves all registries: nydus images of others than {config.mirror.registry} are "
            "asked for under its name at the mirror"
        )
        reasons.extend(_mirrors_doubts(facts))
        return Effective(switch, dialect, use_http=False, reasons=tuple(reasons), scheme=scheme), refusals
    use_http, why, https = _use_http(config, facts)
    direct = (*https, *_plain_not_accelerated(config, facts))
    reasons.append(f"use_http {'on' if use_http else 'off'}: {why}")
    chosen = Effective(switch, dialect, use_http, tuple(reasons), direct, scheme)
    return chosen, refusals


def per_registry(facts: Facts) -> bool:
    """Whether this snapshotter takes host, scheme and CA of a registry from a hosts.toml of its own."""
    version = version_of(facts.snapshotter)
    return version is not None and version >= MIRRORS_NOT_WRITTEN


def _why_dialect(config: Config) -> str:
    if config.mirror.dialect is Dialect.AUTO:
        return "auto; every nydusd knows it and falls back per request"
    return "as configured"


def _switch(config: Config, facts: Facts) -> tuple[Switch, str]:
    if config.mirror.switch is Switch.NATIVE:
        return Switch.NATIVE, "switch native: as configured; the agent watches and reports only"
    asked = config.mirror.switch is Switch.FENCE
    if isinstance(facts.fence, Unknown):
        present = present_switch(facts)
        if present is not None:
            return (
                present,
                f"switch {present.value}: as it is; the fence was not tried ({facts.fence.reason})",
            )
        return Switch.NATIVE, f"switch native: the fence was not tried ({facts.fence.reason})"
    if facts.fence.usable:
        return Switch.FENCE, f"switch fence: {'as configured' if asked else 'auto'}; {facts.fence.reason}"
    return Switch.NATIVE, f"switch native: the fence cannot be used here ({facts.fence.reason})"


def _mirrors_refusals(config: Config, facts: Facts) -> tuple[Refusal, ...]:
    pair = versions.Pair(version_of(facts.nydusd), version_of(facts.snapshotter))
    found = list(versions.mirrors(pair))
    fix = 'set mirror.dialect = "proxy"'
    if facts.nydusd_reads_mirrors is False and (pair.nydus is None or pair.nydus < versions.MIRRORS_GONE):
        found.insert(0, "this nydusd ignores mirrors silently (it does not know their settings)")
    refusals = [Refusal("NNA0321", f"dialect mirrors cannot work here: {reason}", fix) for reason in found]
    if not config.mirror.registry:
        reason = "dialect mirrors needs mirror.registry: without it the mirror asks its own default registry"
        refusals.append(Refusal("NNA0321", reason, 'set mirror.registry = "https://HOST"'))
    return tuple(refusals)


def _mirrors_doubts(facts: Facts) -> tuple[str, ...]:
    """What could not be told beforehand; the proof's real read tells it afterwards."""
    found = []
    if version_of(facts.nydusd) is None and isinstance(facts.nydusd_reads_mirrors, Unknown):
        found.append(f"cannot tell whether this nydusd knows mirrors ({facts.nydusd_reads_mirrors.reason})")
    if version_of(facts.snapshotter) is None and isinstance(facts.snapshotter, Binary):
        found.append("cannot tell whether this snapshotter passes mirrors on (version unknown)")
    return tuple(found)


def _scheme(config: Config, facts: Facts) -> tuple[Scheme, tuple[str, ...]]:
    """One scheme for all registries, but where the snapshotter can give each its own."""
    plain = [registry.host for registry in config.registries.hosts if registry.scheme is Scheme.HTTP]
    if not plain or per_registry(facts):
        return Scheme.HTTPS, ()
    if len(plain) == len(config.registries.hosts):
        return Scheme.HTTP, (
            "scheme http: only plain http registries are configured, and one scheme serves all nydus images; "
            "add a [[registries.hosts]] table for each https registry that serves nydus images",
        )
    version = version_of(facts.nydusd)
    if version is not None and version >= HTTP_FALLBACK_GONE:
        return Scheme.HTTPS, (
            f"scheme https: nydus images of {', '.join(plain)} cannot be read by nydusd {spelled(version)} "
            f"with snapshotters before {spelled(MIRRORS_NOT_WRITTEN)}, which have one scheme for all "
            f"registries",
        )
    return Scheme.HTTPS, (f"scheme https: nydusd falls back to plain http for {', '.join(plain)}",)


def _plain_not_accelerated(config: Config, facts: Facts) -> tuple[str, ...]:
    """Plain http registries that the mirror was seen not to reach, such as by a TLS rule that covers them
    too.
    """
    plain = {registry.host for registry in config.registries.hosts if registry.scheme is Scheme.HTTP}
    return tuple(
        f"{canary.host}: goes direct, because the mirror does not fetch it in plain http ({canary.evidence})"
        for canary in facts.tls_canaries
        if canary.host in plain and canary.ok is False
    )


def _use_http(config: Config, facts: Facts) -> tuple[bool, str, tuple[str, ...]]:
    """Whether https registries are asked for in plain http through the mirror, which then speaks TLS to them;
    why; and those that go direct.
    """
    secure = [registry for registry in config.registries.hosts if registry.scheme is Scheme.HTTPS]
    if not secure:
        return False, "no https registry is configured; nydus images of https registries go direct", ()
    canaries = {canary.host: canary for canary in facts.tls_canaries}
    checks = {check.host: check for check in facts.certificates}
    present = (_proxy_block(facts) or {}).get("use_http") is True
    failing = [(one.host, _why_not(one, canaries, checks, present=present)) for one in secure]
    bad = [(host, reason) for host, reason in failing if reason]
    general = (
        ""
        if "*" not in config.registries.include
        else _canary_reason(canaries.get(ANY_HOST), present=present)
    )
    if not bad and not general:
        names = ", ".join(registry.host for registry in secure)
        unknown = any(isinstance(canaries[one.host].ok, Unknown) for one in secure if one.host in canaries)
        kept = " (kept: could not be asked again)" if unknown else ""
        mind = "mind that Dragonfly verifies no certificate by default"
        return True, f"the mirror speaks TLS to {names}{kept}; {mind}", ()
    if bad:
        reason = "; ".join(f"{host}: {why}" for host, why in bad)
    else:
        reason = (
            f"the mirror's TLS rule does not cover all https registries ({general}); others could not be read"
        )
    why, shared = dict(bad), f"one setting serves all registries, and {reason}"
    direct = tuple(f"{one.host}: goes direct, because {why.get(one.host, shared)}" for one in secure)
    return False, reason, direct


def _why_not(
    registry: RegistryHost,
    canaries: Mapping[str, TlsCanary],
    checks: Mapping[str, CertificateCheck],
    *,
    present: bool,
) -> str:
    """Why a registry cannot be asked for in plain http through the mirror, "" where it can."""
    check = checks.get(registry.host)
    if check is not None and check.ok is False:
        return f"its certificate does not verify ({check.evidence}), and Dragonfly would not look"
    if (check is None or isinstance(check.ok, Unknown)) and not present:
        return f"its certificate could not be looked at ({check.evidence if check else 'not asked'})"
    return _canary_reason(canaries.get(registry.host), present=present)


def _canary_reason(canary: TlsCanary | None, *, present: bool) -> str:
    """Why a canary is no proof, "" where it is one.

    What was proved before is kept while nobody can be asked.
    """
    if canary is None or isinstance(canary.ok, Unknown):
        return (
            ""
            if present
            else f"the mirror's rule could not be seen ({canary.evidence if canary else 'not asked'})"
        )
    return "" if canary.ok else f"the mirror has no TLS rule for it ({canary.evidence})"


def _proxy_block(facts: Facts) -> Mapping[str, Any] | None:
    """The proxy block of the template that is on the node."""
    fact = facts.file(paths.NYDUSD_TEMPLATE)
    if not isinstance(fact, FileFact):
        return None
    try:
        block = json_value(fact.content)["device"]["backend"]["config"]["proxy"]
    except (ValueError, KeyError, TypeError):
        return None
    return block if isinstance(block, dict) else None


def present_switch(facts: Facts) -> Switch | None:
    """The switch for which the template on the node was rendered; None where it cannot tell."""
    block = _proxy_block(facts)
    if block is None:
        return None
    return Switch.NATIVE if block.get("ping_url") else Switch.FENCE


def binary_refusals(facts: Facts) -> tuple[Refusal, ...]:
    """Programs that are missing or cannot run here."""
    needed = (
        ("nydusd", facts.nydusd, "install a package of it: nydus-agent programs --help"),
        ("containerd-nydus-grpc", facts.snapshotter, "apt install nydus-snapshotter"),
        ("containerd", facts.containerd, "apt install containerd"),
    )
    found = [Refusal("NNA0201", one.reason, one.try_) for one in facts.missing]
    told = {program for one in facts.missing for program in Project(one.project).programs}
    for name, fact, try_ in needed:
        if name in told:
            continue
        if fact is None:
            found.append(Refusal("NNA0201", f"{name} is not in PATH", try_))
        elif isinstance(fact, Unknown):
            found.append(Refusal("NNA0201", f"{name} could not be looked at: {fact.reason}", try_))
        elif fact.arch not in (facts.arch, Arch.SCRIPT):
            reason = f"{fact.path} is built for {fact.arch.value}, this node is {facts.arch.value}"
            found.append(Refusal("NNA0201", reason, try_))
    image = facts.nydus_image
    if isinstance(image, Binary) and image.arch not in (facts.arch, Arch.SCRIPT):
        reason = f"{image.path} is built for {image.arch.value}, this node is {facts.arch.value}"
        found.append(Refusal("NNA0201", reason, "install nydus-image for this architecture"))
    return tuple(found)
