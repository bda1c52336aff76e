"""Whether docker's configuration can be used, and what in it ends by itself; never a secret. Nothing raises.

Only the file is looked at here. Helpers are not run: a plan must not wait for them, nor depend on what they say today.
"""

from __future__ import annotations

from agent.errors import FileError
from agent.node.facts import CredentialsFact
from agent.ports_files import Files
from agent.registry import docker_config, expiring
from agent.registry.places import docker_places


def look(credentials: str, files: Files) -> CredentialsFact:
    """At the file that `registries.credentials` names, or root's own of docker."""
    places = docker_places(credentials, {}, uid=0, home="/root")
    for path in places.paths:
        try:
            fact = files.read(path)
        except FileError as error:
            return CredentialsFact(path, (f"{path}: cannot be read: {error.cause or error.what}",))
        if fact is not None:
            config, problems = docker_config.inspected(fact, (0,))
            try_ = problems[0].action if problems else ""
            some = bool(config.auths or config.helpers or config.store)
            return CredentialsFact(path, tuple(map(str, problems)), try_, some, expiring.sources(config))
    missing = f"{' or '.join(places.paths)}: is not there, and {places.named} names it"
    return CredentialsFact("", (missing,) if places.named else ())
