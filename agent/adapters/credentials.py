"""Credentials of registries from docker's configuration and its helpers (docker-credential-X get).

What docker does with a file that others may read is to use it; here it is refused, because the registry's
password is the fleet's. A file without a secret may be read by everyone, but only its owner may say which
helper runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import CredentialError, FileError, PortError
from agent.node.facts import FileFact
from agent.outside_json import json_value
from agent.ports import Files, Finished, Processes
from agent.ports_credentials import Credential, Looked, Secret
from agent.registry import docker_config
from agent.registry.docker_config import DockerConfig
from agent.registry.names import host_of, keys_of
from agent.registry.places import CredentialPlaces

_NOT_FOUND = "credentials not found in native keychain"
"""What helpers print, and end with 1, where they have nothing (docker-credential-helpers,
credentials/error.go).
"""
_TOKEN_USER = "<token>"  # noqa: S105 - the user name that says that the secret is an identity token
_ANY_CODE = range(256)
_ANSWER_CAP = 64 << 10
"""Characters. Tokens of clouds have a few thousand."""


class DockerCredentials:
    """The `Credentials` port: the file that is there first of `places`, read anew at each question.

    `uid`: who we are; the file must be ours or root's.
    """

    def __init__(self, files: Files, processes: Processes, places: CredentialPlaces, *, uid: int = 0) -> None:
        self._files = files
        self._processes = processes
        self._places = places
        self._owners = {0, uid}

    def find(self, registry: str, *, deadline_s: float) -> Looked:
        """See ports_credentials.Credentials."""
        return self._find(host_of(registry), keys_of(registry), deadline_s)

    def exactly(self, server: str, *, deadline_s: float) -> Looked:
        """See ports_credentials.Credentials."""
        return self._find(server, (server,), deadline_s)

    def _find(self, name: str, keys: Sequence[str], deadline_s: float) -> Looked:
        fact = self._read()
        if fact is None:
            return Looked(name, None, tuple(f"{path}: there is no such file" for path in self._places.paths))
        config = self._parsed(fact)
        helper, asked, key = config.helper(keys)
        if helper:
            source = f"{fact.path}, {key}: docker-credential-{helper} get {asked}"
            found = self._ask(helper, asked, source, deadline_s)
            return Looked(name, found, (source if found else f"{source}: it has none",))
        entry = config.entry(keys)
        if entry is None:
            return Looked(name, None, (f"{fact.path}: no entry for {name}",))
        return Looked(name, entry, (entry.source,))

    def _read(self) -> FileFact | None:
        """Raises CredentialError NNA1201."""
        for path in self._places.paths:
            try:
                fact = self._files.read(path)
            except FileError as error:
                raise _unreadable(path, error.cause or error.what) from None
            if fact is not None:
                return fact
        if self._places.named:
            raise _unreadable(
                " or ".join(self._places.paths), f"it is not there, and {self._places.named} names it"
            )
        return None

    def _parsed(self, fact: FileFact) -> DockerConfig:
        """Raises CredentialError NNA1202 with every problem, of the file's rights too."""
        config, problems = docker_config.inspected(fact, self._owners)
        if problems:
            raise CredentialError(
                "NNA1202", f"the credentials in {fact.path} cannot be used as they are", problems=problems
            )
        return config

    def _ask(self, helper: str, asked: str, source: str, deadline_s: float) -> Credential | None:
        """Raises CredentialError NNA1203.

        What the helper printed never gets into a message: it may be the secret.
        """
        program = f"docker-credential-{helper}"
        try:
            done = self._processes.run(
                [program, "get"], deadline_s=deadline_s, ok=_ANY_CODE, stdin=asked.encode()
            )
        except PortError as error:
            # Not its lines: a helper that hangs may have printed the secret before.
            raise _helper_failed(program, source, error.cause or error.what) from None
        if done.code != 0:
            if _NOT_FOUND in done.stdout or _NOT_FOUND in done.stderr:
                return None
            raise _helper_failed(program, source, f"it ended with exit code {done.code}")
        return _answered(done, program, source)


def _answered(done: Finished, program: str, source: str) -> Credential | None:
    try:
        answer = json_value(done.stdout) if len(done.stdout) <= _ANSWER_CAP else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _helper_failed(program, source, "it did not answer with a JSON object")
    user, secret = answer.get("Username"), answer.get("Secret")
    if not isinstance(user, str) or not isinstance(secret, str):
        raise _helper_failed(program, source, "its answer has no texts Username and Secret")
    if not secret:
        return None
    if user == _TOKEN_USER:
        if not docker_config.is_token(secret):
            raise _helper_failed(program, source, "its Secret holds characters that no token has")
        return Credential(source, identity_token=Secret(secret))
    return Credential(source, user, Secret(secret))


def _unreadable(path: str, cause: str) -> CredentialError:
    return CredentialError("NNA1201", f"the credentials in {path} cannot be read", cause=cause)


def _helper_failed(program: str, source: str, cause: str) -> CredentialError:
    return CredentialError("NNA1203", f"{program} gave no credential", cause=cause, seen=(source,))
