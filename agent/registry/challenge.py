"""WWW-Authenticate: how a registry says what it wants (RFC 9110, section 11; distribution's token
specification).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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
