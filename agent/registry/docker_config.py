"""docker's config.json: what it says about registries, and what is wrong with it. Pure.

Only `auths`, `credHelpers` and `credsStore` are read, as docker reads them (docker/cli,
cli/config/configfile): a helper of the registry's own goes before the store of all, and either before
`auths`. No value gets into a complaint: where a secret was written into the wrong place, that is a secret
too.
"""

from __future__ import annotations

import base64
import json
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.errors import Problem
from agent.facts.node import FileFact
from agent.outside_json import json_value
from agent.registry.credential import Credential, Secret
from agent.registry.names import host_of, written_host

Complaint = tuple[str, str, str]
"""(key, reason, what to do)."""

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TEXTS = ("auth", "username", "password", "identitytoken", "registrytoken")


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """The parts that are about credentials."""

    path: str
    auths: Mapping[str, Credential] = field(default_factory=dict)
    """By key as written; entries without a secret (docker leaves such where a helper has it) are left out."""
    helpers: Mapping[str, str] = field(default_factory=dict)
    """Registry, as written -> X of docker-credential-X."""
    store: str = ""
    """X of docker-credential-X for all registries without a helper of their own."""

    def helper(self, keys: Sequence[str]) -> tuple[str, str, str]:
        """(X of docker-credential-X, what it is asked for, the key that says so) for a registry with these
        names; "" where there is none.
        """
        for key in keys:
            if key in self.helpers:
                return self.helpers[key], key, f'credHelpers."{key}"'
        return self.store, keys[0], "credsStore"

    def entry(self, keys: Sequence[str]) -> Credential | None:
        """What `auths` holds for a registry with these names: the key as it stands, else as a URL of the same
        host.
        """
        for key in keys:
            if key in self.auths:
                return self.auths[key]
        hosts = {written_host(key) for key in keys}
        return next((one for key, one in self.auths.items() if written_host(key) in hosts), None)


def inspected(fact: FileFact, owners: Collection[int]) -> tuple[DockerConfig, tuple[Problem, ...]]:
    """What a file says, and everything that is wrong with it and with its rights; it must belong to one of
    `owners`.
    """
    config, problems = parse(fact.path, fact.content)
    return config, (*_rights(fact, config, owners, damaged=bool(problems)), *problems)


def _rights(
    fact: FileFact, config: DockerConfig, owners: Collection[int], *, damaged: bool
) -> tuple[Problem, ...]:
    mode, found = stat.S_IMODE(fact.mode), []
    place = fact.symlink_target or fact.path
    if fact.uid not in owners:
        found.append((f"belongs to uid {fact.uid}", f"chown root:root {place}"))
    # A file that does not parse may hold a secret all the same.
    if mode & 0o077 and (config.auths or damaged):
        found.append((f"others may read the secrets in it (mode {mode:04o})", f"chmod 600 {place}"))
    elif mode & 0o022:
        found.append((f"others may change which helper runs (mode {mode:04o})", f"chmod go-w {place}"))
    return tuple(Problem(fact.path, "", "", reason, action) for reason, action in found)


def parse(path: str, content: bytes) -> tuple[DockerConfig, tuple[Problem, ...]]:
    """What the file says, and everything that is wrong with it. What is wrong is left out of the first."""
    try:
        document = json_value(content)
    except ValueError as error:
        # Not the decoder's whole message: it could quote. Line and column are enough to find the place.
        where = (
            f"line {error.lineno}, column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else "not text"
        )
        return DockerConfig(path), (
            _problem(path, "", f"is not JSON ({where})", "correct it, or log in again"),
        )
    if not isinstance(document, dict):
        return DockerConfig(path), (_problem(path, "", "is not an object", 'write {"auths": {…}}'),)
    found: list[Complaint] = []
    config = DockerConfig(
        path,
        dict(_auths(path, document.get("auths"), found)),
        dict(_helpers(document.get("credHelpers"), found)),
        _helper_name("credsStore", document.get("credsStore", ""), found),
    )
    return config, tuple(_problem(path, *one) for one in found)


def _problem(path: str, key: str, reason: str, action: str) -> Problem:
    return Problem(path, key, "", reason, action)


def _auths(path: str, value: object, found: list[Complaint]) -> Iterator[tuple[str, Credential]]:
    for key, entry in _table("auths", value, found):
        name = f'auths."{key}"'
        if not isinstance(entry, dict):
            found.append((name, "is not an object", 'write {"auth": "…"}, or log in again'))
            continue
        credential = _credential(f"{path}, {name}", name, entry, found)
        if credential is not None:
            yield key, credential


def _table(name: str, value: object, found: list[Complaint]) -> Iterator[tuple[str, object]]:
    if value is None:
        return
    if not isinstance(value, dict):
        found.append((name, "is not an object", "write one entry for each registry"))
        return
    for key, entry in value.items():
        if host_of(key) and key.isprintable() and " " not in key:
            yield key, entry
        else:
            found.append(
                (name, "has a key that is no registry", "write HOST or HOST:PORT as image names spell it")
            )


def _credential(
    source: str, name: str, entry: Mapping[str, object], found: list[Complaint]
) -> Credential | None:
    """None where the entry holds no secret, or a wrong one."""
    before = len(found)
    texts = {key: _text(f"{name}.{key}", entry.get(key), found) for key in _TEXTS}
    username, password = texts["username"], texts["password"]
    if texts["auth"]:
        pair = _pair(texts["auth"])
        if pair is None:
            found.append((f"{name}.auth", "is not the base64 of USER:PASSWORD", "log in again"))
        else:
            username, password = pair
    wrong = [key for key in ("identitytoken", "registrytoken") if not is_token(texts[key])]
    found += [
        (f"{name}.{key}", "holds spaces or other characters that no token has", "log in again")
        for key in wrong
    ]
    if len(found) > before or not (password or texts["identitytoken"] or texts["registrytoken"]):
        return None
    tokens = Secret(texts["identitytoken"]), Secret(texts["registrytoken"])
    return Credential(source, username, Secret(password), *tokens)


def _text(key: str, value: object, found: list[Complaint]) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    found.append((key, "is not a text", "write it in quotes, or log in again"))
    return ""


def _pair(auth: str) -> tuple[str, str] | None:
    """User and password. An identity token's entry has a user alone."""
    try:
        text = base64.b64decode("".join(auth.split()), validate=True).decode()
    except ValueError:  # also where it is no UTF-8
        return None
    user, colon, password = text.partition(":")
    return (user, password.strip("\0")) if colon and user else None


def is_token(text: str) -> bool:
    """Whether this can stand in a header after "Bearer" ("" can too)."""
    return text.isascii() and all(33 <= ord(char) < 127 for char in text)


def _helpers(value: object, found: list[Complaint]) -> Iterator[tuple[str, str]]:
    for key, entry in _table("credHelpers", value, found):
        helper = _helper_name(f'credHelpers."{key}"', entry, found)
        if helper:
            yield key, helper


def _helper_name(key: str, value: object, found: list[Complaint]) -> str:
    if value == "" or value is None:
        return ""
    if isinstance(value, str) and _HELPER.fullmatch(value):
        return value
    found.append(
        (key, "is not the name of a helper", "write what follows docker-credential- in the program's name")
    )
    return ""


EVERY = "*"
"""Stands for every registry that is not named beside it."""

_KEEPERS = frozenset({"desktop", "osxkeychain", "pass", "secretservice", "wincred"})
"""Helpers that keep what `docker login` was given (docker/docker-credential-helpers); all others make
credentials.
"""

_TEMPORARY = frozenset({"AWS", "oauth2accesstoken", "00000000-0000-0000-0000-000000000000"})
"""Users whose password is a token of some hours: Amazon ECR (12 h), Google Artifact Registry (1 h),
Azure's (3 h).
"""


def sources(config: DockerConfig) -> tuple[tuple[str, str], ...]:
    """(registry as images spell it, or EVERY; what gives its credential) for each that may end by itself;
    beside EVERY also those whose credential does not, with "".
    """
    found = {host_of(key): _maker(name) for key, name in config.helpers.items()}
    if config.store:  # docker then looks into no entry with a secret
        found[EVERY] = _maker(config.store)
    else:
        temporary = {
            host_of(key): one.username for key, one in config.auths.items() if one.username in _TEMPORARY
        }
        found = {**{host: f"the password of {user}" for host, user in temporary.items()}, **found}
    return tuple((host, what) for host, what in found.items() if what or found.get(EVERY))


def source_of(found: Sequence[tuple[str, str]], registry: str) -> str:
    """What gives the credential of a registry, by what `sources` told; "" where it does not end by itself."""
    told = dict(found)
    return told.get(host_of(registry), told.get(EVERY, ""))


def _maker(helper: str) -> str:
    return "" if helper in _KEEPERS else f"docker-credential-{helper}"
