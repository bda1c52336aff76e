"""The way to a registry, and where its credentials lie on a node. Names only; nothing here looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.config.model import Config, RegistryHost, Scheme
from agent.registry.names import host_of, is_loopback


def registry_of(config: Config, name: str) -> RegistryHost:
    """A registry by any of its names. One that the configuration does not name is asked as containerd asks
    it: https with the system's store, http on this machine's loopback.
    """
    host = host_of(name)
    for one in config.registries.hosts:
        if host_of(one.host) == host:
            return replace(one, host=host)
    return RegistryHost(host, Scheme.HTTP if is_loopback(host) else Scheme.HTTPS)


STORES = ("/etc/credstore", "/run/credstore")
"""Where systemd itself looks for a credential that a unit names without a path (systemd.exec(5),
LoadCredential=).
"""
ROOTS_DOCKER = "/root/.docker/config.json"
"""What `docker login` writes for root, and what the snapshotter reads."""


@dataclass(frozen=True, slots=True)
class CredentialPlaces:
    """Files of which the first that is there counts."""

    paths: tuple[str, ...]
    named: str = ""
    """The setting that names them, which makes their absence an error; "" where they may be missing."""


def credential_paths(credential: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """A path is itself; the name of a credential of systemd may be handed to this process, or lie in a
    store.
    """
    if credential.startswith("/"):
        return (credential,)
    own = environment.get("CREDENTIALS_DIRECTORY", "")
    return tuple(
        f"{directory}/{credential}" for directory in (*([own] if own.startswith("/") else []), *STORES)
    )


def docker_places(
    credentials: str, environment: Mapping[str, str], *, uid: int, home: str
) -> CredentialPlaces:
    """docker's configuration for this user.

    Root's is what `registries.credentials` names and nothing else, because that is what the snapshotter is
    told too; where it names nothing, root's own of docker. Other users have their own, where docker has it.
    """
    if uid != 0:
        return CredentialPlaces((f"{environment.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json",))
    if credentials:
        return CredentialPlaces(credential_paths(credentials, environment), "registries.credentials")
    return CredentialPlaces((ROOTS_DOCKER,))
