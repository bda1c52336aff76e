"""Registries: their names, the references of images, and where one is asked.

One registry has several names. docker knows Docker Hub by the key of its first API, images name it docker.io,
and its API answers as registry-1.docker.io (docker/cli cli/config, distribution/reference, containerd's
docker resolver). All others have one name, which docker's file may hold with a scheme and a path
(credentials.ConvertToHostname there).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from agent.config.model import Config, RegistryHost, Scheme
from agent.errors import ConvertError

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


OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)

_LIBRARY = "library/"  # where Docker Hub keeps images of one word
# distribution's grammar (reference/regexp.go): what every registry takes.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry."""

    host: str
    """As in images' names: docker.io, 127.0.0.1:5000."""
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str, *, tag: str = "latest") -> Reference:
    """A reference; `tag` counts where the text names neither tag nor digest.

    Raises ConvertError (NNA1401).
    """
    rest, _, digest = text.partition("@")
    if "@" in text and not is_digest(digest):
        raise _wrong(text, f"{digest!r} is no sha256 digest")
    host, path = host_and_rest(rest)
    host = host or HUB
    path, colon, given = path.rpartition(":") if ":" in path else (path, "", "")
    if host == HUB and "/" not in path:
        path = _LIBRARY + path
    if not _HOST.fullmatch(host):
        raise _wrong(text, f"{host!r} is no host")
    if not _REPOSITORY.fullmatch(path) or len(path) > _LONGEST:
        raise _wrong(text, f"{path!r} is no repository (lower case letters, digits, and . _ - between them)")
    if colon and not _TAG.fullmatch(given):
        raise _wrong(text, f"{given!r} is no tag")
    return Reference(host, path, given or ("" if digest else tag), digest)


def is_digest(text: str) -> bool:
    """Whether this is a sha256 digest, the only kind that is taken."""
    return _DIGEST.fullmatch(text) is not None


def _wrong(text: str, cause: str) -> ConvertError:
    return ConvertError("NNA1401", f"{text!r} is no reference to an image", cause=cause)


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
