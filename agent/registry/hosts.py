"""The way to a registry: its scheme and its CA."""

from __future__ import annotations

from dataclasses import replace

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
