"""Who we are at a registry, and how a secret is held so that it does not print itself."""

from __future__ import annotations

import base64
from dataclasses import dataclass
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
