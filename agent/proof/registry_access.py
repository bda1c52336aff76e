"""Whether the registries in use let this node in, with what docker's configuration holds for them. Asked by
`doctor` alone: every node would ask every few minutes otherwise, and a helper may cost money.

A registry is asked as nydusd asks: without anything first, then with what its 401 wants, for a repository in
use. The tag that is asked for does not exist, so that no pull is counted; 404 then means "come in".
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent import paths
from agent.config.model import Config
from agent.documents.status import CheckResult, CheckState
from agent.dragonfly.command_line import DfdaemonLogLevel, environment_of, log_level
from agent.errors import AgentError, CredentialError, FileError, PortError
from agent.facts.node import Unknown, Version
from agent.ports import Credentials, HttpAnswer, Looked, Ports, RegistryTokens, Secret
from agent.programs import versions
from agent.proof.checks_nydusd import read_mounts
from agent.registry.credential import pull_scope
from agent.registry.names import ROOTS_DOCKER, asked_by_snapshotter, host_of, image_parts, keys_of

_FROM_SYSTEMD = "/run/credentials/"
_NAMESPACE = "k8s.io"
_ASK_S = 5.0
_BUDGET_S = 25.0
_CHALLENGE = "www-authenticate"
_NO_TAG = "nydus-agent-asks-who-it-is"
_ENVIRONMENT_BYTES = 64 << 10
_SANDBOX = "pause"  # CRI's own image: plain, public, and on every node


@dataclass(frozen=True, slots=True)
class RegistryPorts:
    """What is needed to ask registries."""

    credentials: Credentials
    tokens: Callable[[Looked], RegistryTokens]
    ask: Callable[[str, str, Secret, float], HttpAnswer]
    """(registry, path, Authorization or empty, seconds) -> the answer to HEAD. Raises PortError."""


@dataclass(frozen=True, slots=True)
class Access(CheckResult):
    """One registry, by its `name`: whether it lets us in, and what was tried. FAILED: it refuses, or nydusd
    will be refused. UNKNOWN: it did not answer in a way that tells.
    """

    private: bool = False
    """It wants to know who asks."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a registry is asked for: a repository in use, "" where none is known."""

    registry: str
    repository: str

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.registry}/{self.repository}" if self.repository else self.registry

    @property
    def path(self) -> str:
        """Of the URL."""
        return f"/v2/{self.repository}/manifests/{_NO_TAG}" if self.repository else "/v2/"


def ask_registries(
    config: Config, ports: Ports, registries: RegistryPorts, snapshotter: str
) -> tuple[Access, ...]:
    """Each registry in use, once. `snapshotter` is its version as text. Nothing raises."""
    end, version = ports.clock.monotonic() + _BUDGET_S, versions.parsed(snapshotter)
    found = []
    for registry, repository in _in_use(config, ports).items():
        if ports.clock.monotonic() > end:
            found.append(Access(0, registry, CheckState.UNKNOWN, "not asked: the others took too long"))
        else:
            found.append(_access(_Asked(registry, repository), registries, version))
    return tuple(found)


def cautions(config: Config, ports: Ports) -> tuple[str, ...]:
    """Where the snapshotter looks for credentials elsewhere than asked for: a drop-in, or a change that is
    pending.
    """
    try:
        unit = ports.units.get(paths.SNAPSHOTTER_UNIT)
    except PortError:
        return ()  # check 2 says why
    if unit is None or not unit.runs:
        return ()
    values = (
        one.removeprefix("DOCKER_CONFIG=") for one in unit.environment if one.startswith("DOCKER_CONFIG=")
    )
    now = (list(values) or [""])[-1].rstrip("/") or posixpath.dirname(ROOTS_DOCKER)
    asked = config.registries.credentials
    right = posixpath.dirname(asked or ROOTS_DOCKER)
    if now == right or (asked and not asked.startswith("/") and now.startswith(_FROM_SYSTEMD)):
        return ()
    return (
        f"the snapshotter reads {now}/config.json, not {asked or ROOTS_DOCKER}: `nydus-agent plan` shows "
        f"what is pending, `systemctl cat {paths.SNAPSHOTTER_UNIT}` who says otherwise",
    )


def overheard(ports: Ports, found: Sequence[Access]) -> tuple[str, ...]:
    """Where the mirror writes credentials into its log: dfdaemon does at level info, its default, each
    request with all its headers (dragonflyoss/client, proxy/mod.rs, seen with v1.5.10). Only what runs on
    this node can be looked at.
    """
    if not any(one.private for one in found):
        return ()
    try:
        listed = ports.processes.run(["pgrep", "-a", "-x", "dfdaemon"], deadline_s=_ASK_S, ok=(0, 1)).stdout
    except PortError:
        return ()
    if not any(_log_level(ports, *line.split()).tells_headers for line in listed.splitlines()):
        return ()
    return (
        "dfdaemon writes the Authorization header of every request into its log: run it with `--log-level "
        "warn` (its unit: `nydus-agent dragonfly render dfdaemon-unit`; the chart: client.config.log.level), "
        "and change the passwords that it has written",
    )


def _log_level(ports: Ports, pid: str, *argv: str) -> DfdaemonLogLevel:
    """Of a dfdaemon; an environment that is not to be read counts as empty."""
    try:
        block = ports.files.head(f"/proc/{pid}/environ", _ENVIRONMENT_BYTES) or b""
    except FileError:
        block = b""
    return log_level(argv, environment_of(block))


def body(found: Sequence[Access]) -> list[dict[str, object]]:
    """For the JSON document."""
    return [
        {
            "registry": one.name, "state": one.state.value, "detail": one.detail, "code": one.code,
            "cause": one.cause, "evidence": list(one.evidence), "try": one.try_,
        }
        for one in found
    ]  # fmt: skip


def _in_use(config: Config, ports: Ports) -> Mapping[str, str]:
    """Registry -> a repository of it: of a mount, else of an image, else "" (only the configuration names
    it).
    """
    found: dict[str, str] = {}
    for registry, repository in (*_mounted(config, ports), *_images(ports)):
        found.setdefault(registry, repository)
    for host in config.registries.hosts:
        found.setdefault(host_of(host.host), "")
    return found


def _mounted(config: Config, ports: Ports) -> Iterator[tuple[str, str]]:
    try:
        for mount in read_mounts(ports, config.snapshotter.root):
            registry, repository = image_parts(mount.image)
            yield registry, repository
    except (PortError, ValueError):
        return  # check 10 says why


def _images(ports: Ports) -> Iterator[tuple[str, str]]:
    try:
        for record in ports.containerd.images(_NAMESPACE, deadline_s=_ASK_S):
            registry, repository = image_parts(record.name)
            if registry and repository.rpartition("/")[2] != _SANDBOX:
                yield registry, repository
    except PortError:
        return  # check 4 says why


def _access(asked: _Asked, ports: RegistryPorts, version: Version | Unknown) -> Access:
    try:
        answer = ports.ask(asked.registry, asked.path, Secret(), _ASK_S)
    except PortError as error:
        return _silent(asked.registry, error)
    if answer.status != 401:
        return _judged(
            Access(0, asked.registry, CheckState.OK, f"lets everyone read {asked.where}"), answer, ()
        )
    return replace(_identified(asked, answer, ports, version), private=True)


def _identified(
    asked: _Asked, answer: HttpAnswer, ports: RegistryPorts, version: Version | Unknown
) -> Access:
    """After a 401: the same, with what it wants."""
    try:
        looked = ports.credentials.find(asked.registry, deadline_s=_ASK_S)
        scopes = [pull_scope(asked.repository)] if asked.repository else []
        header = ports.tokens(looked).answer(answer.headers.get(_CHALLENGE, ""), scopes, deadline_s=_ASK_S)
        answer = ports.ask(asked.registry, asked.path, header, _ASK_S)
    except CredentialError as error:
        return _failed(asked.registry, error)
    except PortError as error:
        return _silent(asked.registry, error)
    if looked.credential:
        who = f"lets us read {asked.where} with {looked.tried[-1]}"
    else:
        who = f"lets everyone read {asked.where}, with a token"
    seen = _judged(Access(0, asked.registry, CheckState.OK, who), answer, looked.tried)
    if seen.state is not CheckState.OK or looked.credential is None:
        return seen
    return _reaching_nydusd(seen, looked, ports, version)


def _judged(well: Access, answer: HttpAnswer, tried: tuple[str, ...]) -> Access:
    """`well`, unless the answer says otherwise."""
    if answer.status in (401, 403):
        error = CredentialError(
            "NNA1205", f"{well.name} refuses this node",
            cause=f"it answers {answer.status} to what was found",
            seen=tried,
        )  # fmt: skip
        return _failed(well.name, error)
    if answer.status in (200, 404):
        return well
    return Access(0, well.name, CheckState.UNKNOWN, f"answers {answer.status}, which tells nothing")


def _reaching_nydusd(
    well: Access, looked: Looked, ports: RegistryPorts, version: Version | Unknown
) -> Access:
    """`well`, unless the snapshotter will not find, or not hand on, what was found."""
    asked = asked_by_snapshotter(looked.registry, None if isinstance(version, Unknown) else version)
    try:
        only = keys_of(looked.registry) == (asked,)  # what was found is found so: a helper need not run again
        exact = looked if only else ports.credentials.exactly(asked, deadline_s=_ASK_S)
    except CredentialError as error:
        return _failed(well.name, error)
    if exact.credential is not None and exact.credential.reaches_nydusd:
        return well
    if exact.credential is None:
        cause = f"the snapshotter looks for {asked} to the letter, and finds nothing"
        hint = f"add an entry {asked} with the same value"
    else:
        cause = "it is a token, and the snapshotter hands on nothing but a user with a password"
        hint = "log in with a user and a password (many registries call it a robot account or an access key)"
    what = f"nydusd gets no credential for {looked.registry}"
    return _failed(well.name, CredentialError("NNA1206", what, cause=cause, seen=looked.tried, try_=hint))


def _silent(registry: str, error: PortError) -> Access:
    return Access(0, registry, CheckState.UNKNOWN, "does not answer", error.code, error.cause or error.what)


def _failed(registry: str, error: AgentError) -> Access:
    hint = (
        error.try_
        or f"docker login {registry}, as root; or name the file that has it: registries.credentials"
    )
    return Access(0, registry, CheckState.FAILED, error.what, error.code, error.cause, error.seen, hint)
