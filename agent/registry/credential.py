"""Who we are at a registry, how a secret is held so that it does not print itself, and what a registry's 401
asks for. Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn


class Secret:
    """Holds a password or a token. It shows as `Secret(…)` wherever it is printed, logged, formatted or part
    of a dataclass that is; it cannot be pickled, copied deeply or put into JSON, so it gets into no record by
    mistake.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: for a header that is about to be sent, or a file that only its owner may read."""
        return self._value

    def __bool__(self) -> bool:
        """Whether there is one at all."""
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(…)" if self._value else "Secret()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied or stored")


_NONE = Secret()


@dataclass(frozen=True, slots=True)
class Credential:
    """What docker's configuration, or a helper, holds for one registry.

    At least one of the secrets is there.
    """

    source: str
    """For people: the file and the key in it, or the helper. Never a secret."""
    username: str = ""
    password: Secret = _NONE
    identity_token: Secret = _NONE
    """Buys tokens at the token server (OAuth2's refresh token); no registry takes it itself."""
    registry_token: Secret = _NONE
    """A bearer token that is sent to the registry as it is."""

    @property
    def basic(self) -> Secret:
        """The Authorization header of basic authentication (RFC 7617); empty where there is no user with a
        password.
        """
        if not (self.username and self.password):
            return Secret()
        pair = f"{self.username}:{self.password.reveal()}".encode()
        return Secret(f"Basic {base64.b64encode(pair).decode()}")

    @property
    def bearer(self) -> Secret:
        """The Authorization header of the registry token; empty where there is none."""
        return Secret(f"Bearer {self.registry_token.reveal()}") if self.registry_token else Secret()

    @property
    def reaches_nydusd(self) -> bool:
        """Whether the snapshotter hands it on: it takes a user name with a password and nothing else
        (containerd/nydus-snapshotter, pkg/auth/docker.go, 0.13.4 to 0.16.1).
        """
        return bool(self.username and self.password)


@dataclass(frozen=True, slots=True)
class Looked:
    """The answer to "who are we at this registry?"."""

    registry: str
    """As images spell it."""
    credential: Credential | None
    tried: tuple[str, ...]
    """Every source that was looked at, in order, with what it had to say. No secrets."""


_LONGEST = 8192
_SCHEME = re.compile(r"[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_PARAMETER = re.compile(r'[\s,]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to be let in."""

    scheme: str
    """Lower case: basic, bearer."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case: realm, service, scope, error."""

    @property
    def realm(self) -> str:
        """For bearer, the token server's URL."""
        return self.parameters.get("realm", "")


def challenges(header: str) -> tuple[Challenge, ...]:
    """All challenges of a header (several headers joined by commas), in order. What cannot be read ends it: a
    registry is not obliged to be understood.
    """
    found: list[Challenge] = []
    text, at = header[:_LONGEST], 0
    while (scheme := _SCHEME.match(text, at)) is not None:
        at, parameters = scheme.end(), {}
        while (one := _PARAMETER.match(text, at)) is not None:
            quoted, plain = one[2], one[3]
            parameters[one[1].lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            at = one.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return tuple(found)


def chosen(header: str) -> Challenge | None:
    """The challenge that is answered: bearer before basic; None where neither is offered."""
    offered = challenges(header)
    for scheme in ("bearer", "basic"):
        for one in offered:
            if one.scheme == scheme:
                return one
    return None


def scopes_of(challenge: Challenge, wanted: Iterable[str]) -> tuple[str, ...]:
    """What a token is asked for: what the caller needs, and what the registry named; each repository, and
    each of its actions, once (registries name the actions in any order).
    """
    found: dict[str, dict[str, None]] = {}
    for scope in (*wanted, *challenge.parameters.get("scope", "").split()):
        name, colon, actions = scope.rpartition(":")
        listed = actions.split(",") if colon else ()
        found.setdefault(name + colon if colon else scope, {}).update(dict.fromkeys(listed))
    return tuple(name + ",".join(actions) for name, actions in found.items())


def pull_scope(repository: str) -> str:
    """The scope of reading a repository (distribution, docs/spec/auth/scope)."""
    return f"repository:{repository}:pull"
