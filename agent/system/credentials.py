"""Credentials of registries: from docker's configuration and its helpers (docker-credential-X), and tokens.

What docker does with a file that others may read is to use it; here it is refused, because the registry's
password is the fleet's. A file without a secret may be read by everyone, but only its owner may say which
helper runs.

A token server's URL comes from the registry, and our credential goes there. So it is https, or the registry
itself is spoken to in clear; never a cloud's metadata (it has credentials); and no redirect is
followed. Nothing is taken from the environment.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from agent.config.load import action_against_others, open_to_others
from agent.errors import CredentialError, FileError, PortError, Problem
from agent.facts.node import FileFact
from agent.outside_json import json_object
from agent.ports import Credential, Files, Finished, HttpAnswer, Looked, Processes, Secret
from agent.registry import docker_config
from agent.registry.credential import Challenge, chosen, scopes_of
from agent.registry.docker_config import DockerConfig
from agent.registry.names import CredentialPlaces, host_of, keys_of
from agent.system.http import ask, shown

_NOT_FOUND = "credentials not found in native keychain"
"""What helpers print, and end with 1, where they have nothing (docker-credential-helpers,
credentials/error.go).
"""
_TOKEN_USER = "<token>"  # noqa: S105 - the user name that says that the secret is an identity token
_ANY_CODE = range(256)
_ANSWER_CAP = 64 << 10
"""Bytes. Tokens of clouds have a few thousand."""


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
        """See ports.Credentials."""
        return self._find(host_of(registry), keys_of(registry), deadline_s)

    def exactly(self, server: str, *, deadline_s: float) -> Looked:
        """See ports.Credentials."""
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
        """Raises CredentialError NNA1201 with every problem, of the file's rights too."""
        config, problems = docker_config.inspected(fact, self._owners)
        where = open_to_others(posixpath.dirname(fact.path))
        if where:
            reason = "others may put another file there"
            problems = (*problems, Problem(fact.path, "", where, reason, action_against_others(where)))
        if problems:
            raise CredentialError(
                "NNA1201", f"the credentials in {fact.path} cannot be used as they are", problems=problems
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
        answer = json_object(done.stdout, _ANSWER_CAP)
    except ValueError:
        raise _helper_failed(program, source, "it did not answer with a JSON object") from None
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


_CLIENT = "nydus-agent"
_INVALID_GRANT = 400
"""What OAuth2 answers to an identity token that has ended (RFC 6749, section 5.2)."""
_BODY_CAP = 256 << 10
_SHORTEST_S = 60.0
"""How long a token holds where the server does not say so, and at least (distribution,
docs/spec/auth/token).
"""
_FOR_EVER_S = 1e9
_EARLY_S = 10.0
"""A token is not used for this long before its end: the request that carries it takes time."""


class ChallengeAnswers:
    """The `RegistryTokens` port, for one registry and what was found for it. `ca`: a file, "" the system's
    store.
    """

    def __init__(
        self, looked: Looked, *, secure: bool, ca: str = "", now: Callable[[], float] = time.monotonic
    ) -> None:
        self._looked = looked
        self._secure = secure
        self._ca = ca
        self._now = now
        self._known: dict[frozenset[str], tuple[Secret, float]] = {}

    def known(self, scopes: Sequence[str]) -> Secret:
        """See ports.RegistryTokens."""
        header, end = self._known.get(frozenset(scopes), (Secret(), 0.0))
        return header if self._now() < end else Secret()

    def answer(self, www_authenticate: str, scopes: Sequence[str], *, deadline_s: float) -> Secret:
        """See ports.RegistryTokens."""
        self._known.pop(frozenset(scopes), None)
        challenge = chosen(www_authenticate)
        if challenge is None:
            raise self._refused("it asks for credentials in a way that is neither basic nor bearer")
        header, holds_s = self._header(challenge, scopes, deadline_s)
        self._known[frozenset(scopes)] = header, self._now() + holds_s
        return header

    def _header(self, challenge: Challenge, scopes: Sequence[str], deadline_s: float) -> tuple[Secret, float]:
        credential = self._looked.credential
        if credential is not None and credential.bearer:
            return credential.bearer, float("inf")
        if challenge.scheme == "bearer":
            token, holds_s = self._token(challenge, scopes_of(challenge, scopes), deadline_s)
            return Secret(f"Bearer {token.reveal()}"), holds_s
        if credential is None:
            raise self._refused("it asks for a user and a password, and there are none for it")
        if not credential.basic:
            raise self._refused("it asks for a user and a password, and what was found is a token")
        return credential.basic, float("inf")

    def _token(self, challenge: Challenge, scopes: Sequence[str], deadline_s: float) -> tuple[Secret, float]:
        url, asked_at = self._realm(challenge), self._now()
        answer = self._ask(url, challenge.parameters.get("service", ""), scopes, deadline_s)
        credential = self._looked.credential
        ended = credential is not None and bool(credential.identity_token) and answer.status == _INVALID_GRANT
        if ended or answer.status in (401, 403):
            raise self._refused(f"the token server {shown(url)} answers {answer.status}")
        if answer.status != 200:
            raise _unusable(shown(url), f"it answers {answer.status}")
        token, holds_s = _parsed(shown(url), answer.body)
        return token, max(holds_s, _SHORTEST_S) - _EARLY_S - (self._now() - asked_at)

    def _realm(self, challenge: Challenge) -> SplitResult:
        """The token server's URL, if a credential may go there. Raises CredentialError NNA1203."""
        url = challenge.realm
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise _unusable("that the registry names", "its URL is none") from None
        sound = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
        if parts.scheme not in ("http", "https") or not host or not sound:
            raise _unusable("that the registry names", "its URL is none, or holds a user")
        if parts.scheme == "http" and self._secure:
            raise _unusable(shown(parts), "it is plain http, and the registry is https")
        return parts

    def _ask(self, url: SplitResult, service: str, scopes: Sequence[str], deadline_s: float) -> HttpAnswer:
        """GET with basic authentication, or OAuth2's POST for an identity token (distribution,
        docs/spec/auth). Raises CredentialError NNA1203.
        """
        credential = self._looked.credential
        headers = {"Accept": "application/json"}
        asked = [("service", service)] if service else []
        method, body = "GET", b""
        if credential is not None and credential.identity_token:
            form = [
                *asked,
                ("scope", " ".join(scopes)),
                ("grant_type", "refresh_token"),
                ("client_id", _CLIENT),
            ]
            form.append(("refresh_token", credential.identity_token.reveal()))
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            method, body = "POST", urlencode(form).encode()
        else:
            if credential is not None and credential.basic:
                headers["Authorization"] = credential.basic.reveal()
            wanted = urlencode([*asked, *(("scope", one) for one in scopes)])
            url = url._replace(query="&".join(filter(None, [url.query, wanted])))
        try:
            return ask(
                url, headers, deadline_s=deadline_s, method=method, body=body, body_cap=_BODY_CAP, ca=self._ca
            )
        except PortError as error:
            raise _unusable(shown(url), error.cause or error.what) from None

    def _refused(self, cause: str) -> CredentialError:
        return CredentialError(
            "NNA1205", f"{self._looked.registry} refuses this node", cause=cause, seen=self._looked.tried
        )


def _parsed(url: str, body: bytes) -> tuple[Secret, float]:
    """The token, and for how many seconds it holds (0: not told). Raises CredentialError NNA1203."""
    try:
        answer = json_object(body)
    except ValueError:
        raise _unusable(url, "it did not answer with a JSON object") from None
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not docker_config.is_token(token):
        raise _unusable(url, "there is no token in its answer")
    holds_s: Any = answer.get("expires_in")
    return Secret(token), float(holds_s) if type(holds_s) in (
        int,
        float,
    ) and 0 < holds_s < _FOR_EVER_S else 0.0


def _unusable(url: str, cause: str) -> CredentialError:
    return CredentialError("NNA1203", f"the token server {url} cannot be used", cause=cause)
