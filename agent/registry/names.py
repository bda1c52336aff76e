"""One registry, several names.

docker knows Docker Hub by the key of its first API, images name it docker.io, and its API answers as
registry-1.docker.io (docker/cli cli/config, distribution/reference, containerd's docker resolver). All others
have one name, which docker's file may hold with a scheme and a path (credentials.ConvertToHostname there).
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"
"""What `docker login` without a name writes, and what credential helpers are asked for Docker Hub."""
_ASKS_AS_IMAGES_DO = (0, 15, 12)
_HUB_HOSTS = frozenset({HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})


def host_of(name: str) -> str:
    """The host and port in an image's registry, a URL or a key of docker's file, as images spell it: every
    name of Docker Hub is docker.io.
    """
    host = written_host(name).lower()
    return HUB if host in _HUB_HOSTS else host


def keys_of(name: str) -> tuple[str, ...]:
    """What a registry may be called in docker's file, what docker itself looks for first."""
    host = host_of(name)
    return (HUB_KEY, "index.docker.io", HUB, "registry-1.docker.io") if host == HUB else (host,)


def api_host_of(name: str) -> str:
    """Where the registry's API answers."""
    host = host_of(name)
    return "registry-1.docker.io" if host == HUB else host


def image_parts(name: str) -> tuple[str, str]:
    """Registry and repository of an image's whole name, without tag and digest; ("", "") where it is no name
    but an id, as CRI records them too (distribution/reference).
    """
    if "/" not in name:
        return "", ""
    host, rest = host_and_rest(name)
    repository = rest.partition("@")[0]
    return host_of(host or HUB), repository.partition(":")[0]


def host_and_rest(name: str) -> tuple[str, str]:
    """The registry that an image's name begins with, "" where it names none and so means Docker Hub, and what
    follows (distribution/reference).
    """
    first, slash, rest = name.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return (first, rest) if named else ("", name)


def asked_by_snapshotter(registry: str, version: Sequence[int] | None) -> str:
    """What the snapshotter of this version (None: not known) looks for in docker's file, to the letter.

    v0.15.12 began to ask for Docker Hub by the name in images (b4baf8a, pkg/auth), where docker login writes
    none; the versions before ask for index.docker.io, which docker's own key is a URL of.
    """
    host = host_of(registry)
    if host != HUB:
        return host
    return HUB if version is None or tuple(version) >= _ASKS_AS_IMAGES_DO else "index.docker.io"


def is_loopback(name: str) -> bool:
    """Whether a registry is on this machine's own loopback: what containerd and docker ask in plain http by
    default.
    """
    try:
        host = (urlsplit(f"//{written_host(name)}").hostname or "").lower()
    except ValueError:
        return False
    return host in ("localhost", "::1") or host.startswith("127.")


def written_host(name: str) -> str:
    """The host and port of a URL or a key of docker's file, as written there
    (credentials.ConvertToHostname).
    """
    if "://" in name:
        try:
            return urlsplit(name).netloc.rpartition("@")[2]
        except ValueError:  # [half an IPv6 address
            return name
    return name.partition("/")[0]
