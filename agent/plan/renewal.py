"""Credentials that expire: whether running nydusd are given new ones here, and what is in the way. Pure.

A nydusd reads for as long as its image is on the node, with the credential that the snapshotter wrote into
its configuration when it was started.
"""

from __future__ import annotations

import tomllib

from agent import paths
from agent.config.model import Config, Dialect
from agent.facts.node import Binary, Facts, FileFact, Unknown, Version
from agent.programs.versions import RENEWS, TAKES_CREDENTIALS, spelled
from agent.registry.docker_config import EVERY

TRY = (
    "nydus-agent programs lock --nydus 2.4.4 --snapshotter 0.16.1, then programs package, and install the "
    "packages; or a credential that does not expire"
)
COST = "once it has expired, what a running container has not read yet fails with EIO"


def interval_s(config: Config, facts: Facts) -> int:
    """How often the snapshotter shall renew; 0: it cannot, or has nothing to.

    Passwords that lie in the file are renewed too: whoever replaces one means running containers as well.
    """
    return config.registries.renew_s if facts.credentials.some and not obstacles(facts) else 0


def in_force(facts: Facts) -> bool:
    """Whether the snapshotter's configuration on the node, which only we write, tells it to renew."""
    fact = facts.file(paths.SNAPSHOTTER_CONFIG)
    if not isinstance(fact, FileFact):
        return False
    try:
        return "credential_renewal_interval" in tomllib.loads(fact.content.decode())["remote"]["auth"]
    except (ValueError, KeyError, TypeError):
        return False


def obstacles(facts: Facts) -> tuple[str, ...]:
    """Why these programs cannot renew, each a sentence; a version that is not known counts as too old."""
    needs = (("snapshotter", facts.snapshotter, RENEWS), ("nydusd", facts.nydusd, TAKES_CREDENTIALS))
    return tuple(
        why
        for name, fact, since in needs
        if isinstance(fact, Binary) and (why := too_old(name, fact.version, fact.version_text, since))
    )


def too_old(name: str, version: Version | Unknown, told: str, since: Version) -> str:
    """What is wrong with a program that can renew from a version on; "" where nothing is. `told` is its
    version in words.
    """
    if not isinstance(version, Unknown) and version >= since:
        return ""
    name = f"{name} {told.removeprefix('v') or 'of unknown version'}"
    return f"{name} does not ({spelled(since)} does)"


def warnings(config: Config, facts: Facts) -> tuple[str, ...]:
    """For a plan: credentials that this node will not renew, and what to do."""
    told = [f"{_registry(name)} ({what})" for name, what in facts.credentials.expiring if what]
    why = obstacles(facts)
    if not (told and why and config.registries.renew_s):
        return ()
    also = ""
    if config.mirror.dialect is Dialect.MIRRORS:
        also = "; the mirrors dialect excludes such a nydusd"
    return (
        f"credentials that expire are not renewed for running containers (NNA1207): {', '.join(told)}: "
        f"{COST}: {', '.join(why)}{also}: {TRY}",
    )


def _registry(name: str) -> str:
    return "every registry" if name == EVERY else name
