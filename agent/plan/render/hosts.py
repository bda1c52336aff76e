"""hosts.toml files: per registry the mirror first, then the registry itself, named explicitly.

containerd reads them at every pull (docs/hosts.md there), so they need no restart and are static: the fence
does the switching. The mirror learns the registry from the header X-Dragonfly-Registry; `_default`, which
serves registries that we cannot know, has only the `ns` parameter that containerd sends to mirrors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent import paths
from agent.config.model import Config, RegistryHost, Scheme
from agent.containerd.view import quoted
from agent.facts.node import Facts, Version

DEFAULT = "_default"
DOCKER = "docker.io"
_DOCKER_SERVER = "https://registry-1.docker.io"
"""What containerd itself asks for docker.io."""
_DOCKER_FOR_MIRROR = "https://index.docker.io"
"""What nydusd and Dragonfly's own default ask: the same name makes the same task."""
_DIAL_SINCE: Version = (2, 1)


@dataclass(frozen=True, slots=True)
class WantedHosts:
    """The hosts.toml files that shall be there, by directory name, and what to tell about them."""

    files: Mapping[str, bytes]
    notes: tuple[str, ...]


def wanted(config: Config, facts: Facts, *, default_present: bool) -> WantedHosts:
    """All hosts.toml files. `default_present`: ours for all other registries is there already."""
    files: dict[str, bytes] = {}
    notes: list[str] = []
    every = "*" in config.registries.include
    refused = {check.host: check.evidence for check in facts.certificates if check.ok is False}
    for registry in _named(config):
        if registry.host in refused:
            notes.append(
                f"plain images of {registry.host} do not go through the mirror, because its certificate does "
                f"not verify ({refused[registry.host]}) and Dragonfly would not look"
            )
            files[registry.host] = host_file(config, registry, mirror=False, dial=_dial(facts))
        else:
            files[registry.host] = host_file(config, registry, mirror=True, dial=_dial(facts))
    if every and (facts.mirror_reads_ns is True or (facts.mirror_reads_ns is not False and default_present)):
        files[DEFAULT] = default_file(config, dial=_dial(facts))
    elif every:
        # Without `ns` an old dfdaemon asks one fixed registry for every name: the wrong image, from a
        # stranger perhaps.
        why = (
            "it does not read ?ns="
            if facts.mirror_reads_ns is False
            else "it did not show that it reads ?ns="
        )
        notes.append(
            f"only registries that the configuration names go through the mirror, because {why} (Dragonfly "
            "client v1.3.5); it would ask its own default registry for all others"
        )
    return WantedHosts(files, tuple(notes))


def _named(config: Config) -> tuple[RegistryHost, ...]:
    """Registries with a file of their own: all that are included, and those that need a scheme or a CA."""
    known = {registry.host: registry for registry in config.registries.hosts}
    every = "*" in config.registries.include
    names = list(known) if every else []
    names += [name for name in config.registries.include if name != "*" and name not in names]
    if every and DOCKER not in names:
        names.append(DOCKER)  # ns=docker.io would make the mirror ask https://docker.io, which is no registry
    return tuple(known.get(name, RegistryHost(name)) for name in names)


def host_file(config: Config, registry: RegistryHost, *, mirror: bool, dial: bool) -> bytes:
    """hosts.toml of one registry."""
    for_mirror = _DOCKER_FOR_MIRROR if _is_hub(registry) else _url(registry)
    hosts = [
        *_mirror(config, dial=dial),
        f"  [host.{quoted(config.mirror.url)}.header]",
        f"    X-Dragonfly-Registry = {quoted(for_mirror)}",
    ]
    return _text([_mark(), *_itself(registry), *(hosts if mirror else _NO_MIRROR)])


_NO_MIRROR = ("", "[host]")
"""The table must be there though nothing is in it: without it containerd 1.6 and 1.7 log an error at each
pull ("failed to decode hosts.toml", "invalid `host` tree") and go on as if there were no file, so without its
CA. Seen with 1.6.20 and 1.7.24; 2.1.9 and 2.4.2 ask the same with it as without.
"""


def as_somebody(registry: RegistryHost, authorization: str) -> bytes:
    """hosts.toml for one pull from the registry itself, with what it wants to hear as Authorization; "" =
    nothing.
    """
    header = ["", "[header]", f"  Authorization = {quoted(authorization)}"] if authorization else []
    return _text([*_itself(registry), *_NO_MIRROR, *header])


def _itself(registry: RegistryHost) -> list[str]:
    """The registry as the one that is asked last, or alone."""
    lines = [f"server = {quoted(_url_of(registry))}"]
    return [*lines, f"ca = {quoted(registry.ca)}"] if registry.ca else lines


def _url_of(registry: RegistryHost) -> str:
    """Where its API answers."""
    return _DOCKER_SERVER if _is_hub(registry) else _url(registry)


def _url(registry: RegistryHost) -> str:
    return f"{registry.scheme.value}://{registry.host}"


def _is_hub(registry: RegistryHost) -> bool:
    return registry.host == DOCKER and registry.scheme is Scheme.HTTPS


def default_file(config: Config, *, dial: bool) -> bytes:
    """hosts.toml for registries that have none of their own; containerd appends each one's usual address."""
    return _text([_mark(), *_mirror(config, dial=dial)])


def _mirror(config: Config, *, dial: bool) -> list[str]:
    lines = ["", f"[host.{quoted(config.mirror.url)}]", '  capabilities = ["pull", "resolve"]']
    if dial:
        lines.append('  dial_timeout = "1s"')  # else 30 s for a mirror that swallows packets
    return lines


def _mark() -> str:
    return f"# {paths.MARK}; changes are seen as drift and are replaced by the next apply."


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _dial(facts: Facts) -> bool:
    """Whether this containerd reads `dial_timeout`."""
    for program in (facts.running_containerd, facts.containerd):
        version = getattr(program, "version", None)
        if isinstance(version, tuple):
            return version >= _DIAL_SINCE
    return False
