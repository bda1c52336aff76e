"""The ports of registries' credentials and tokens. For root's oneshots and verbs; the daemon knows no secret.

A verb that speaks to a registry does::

    looked = wire.credentials(config, environment, uid=0, home="/root").find("registry.example.org",
    deadline_s=10) tokens = wire.registry_tokens(config, looked)
    header = tokens.known(scopes)                        # empty: ask without
    ...                                                  # the registry answers 401
    header = tokens.answer(www_authenticate, scopes, deadline_s=10)
    request.headers["Authorization"] = header.reveal()   # and ask once more; a second 401 is for good
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.registry.credential import Credential as Credential
from agent.registry.credential import Looked as Looked
from agent.registry.secret import Secret as Secret


class Credentials(Protocol):
    """Where this node keeps who it is at registries."""

    def find(self, registry: str, *, deadline_s: float) -> Looked:
        """The credential for a registry, named as in images ("docker.io", "127.0.0.1:5000"), and what was
        tried.

        No credential is an answer (`Looked.credential` None): public images need none. Raises CredentialError
        where a source is there and cannot be used: NNA1201 it cannot be read, NNA1201 others may read it or
        it is wrong (all problems at once), NNA1203 a helper failed. `deadline_s` is a helper's.
        """

    def exactly(self, server: str, *, deadline_s: float) -> Looked:
        """What docker, and so the snapshotter, finds when it looks for this name and no other.

        Raises as `find`.
        """


class RegistryTokens(Protocol):
    """What is sent to one registry as Authorization, for one credential (or none: public images need tokens
    too).
    """

    def known(self, scopes: Sequence[str]) -> Secret:
        """The header that was good for these scopes and is not about to expire; empty where there is none."""

    def answer(self, www_authenticate: str, scopes: Sequence[str], *, deadline_s: float) -> Secret:
        """The header that answers a 401 with this WWW-Authenticate: basic, or a bearer token that was fetched
        for these scopes (and what the challenge names). What was known for them before is forgotten.

        Raises CredentialError: NNA1203 the token server cannot be used or does not answer rightly, NNA1205
        it, or the registry, refuses this credential or there is none to answer with (`seen` says what was
        tried).
        """
