"""Which credentials of docker's configuration end by themselves. Pure; what helpers and registries are called
is no secret.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.registry.docker_config import DockerConfig
from agent.registry.names import host_of

EVERY = "*"
"""Stands for every registry that is not named beside it."""

_KEEPERS = frozenset({"desktop", "osxkeychain", "pass", "secretservice", "wincred"})
"""Helpers that keep what `docker login` was given (docker/docker-credential-helpers); all others make
credentials.
"""

_TEMPORARY = frozenset({"AWS", "oauth2accesstoken", "00000000-0000-0000-0000-000000000000"})
"""Users whose password is a token of some hours: Amazon ECR (12 h), Google Artifact Registry (1 h),
Azure's (3 h).
"""


def sources(config: DockerConfig) -> tuple[tuple[str, str], ...]:
    """(registry as images spell it, or EVERY; what gives its credential) for each that may end by itself;
    beside EVERY also those whose credential does not, with "".
    """
    found = {host_of(key): _maker(name) for key, name in config.helpers.items()}
    if config.store:  # docker then looks into no entry with a secret
        found[EVERY] = _maker(config.store)
    else:
        temporary = {
            host_of(key): one.username for key, one in config.auths.items() if one.username in _TEMPORARY
        }
        found = {**{host: f"the password of {user}" for host, user in temporary.items()}, **found}
    return tuple((host, what) for host, what in found.items() if what or found.get(EVERY))


def source_of(found: Sequence[tuple[str, str]], registry: str) -> str:
    """What gives the credential of a registry, by what `sources` told; "" where it does not end by itself."""
    told = dict(found)
    return told.get(host_of(registry), told.get(EVERY, ""))


def _maker(helper: str) -> str:
    return "" if helper in _KEEPERS else f"docker-credential-{helper}"
