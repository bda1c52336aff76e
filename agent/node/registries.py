"""What the mirror does with registries: TLS rules, the ns parameter, certificates. Asks the ports; nothing
raises.

No registry of others is asked through the mirror: only those that the operator named, and a listener of ours
on the loopback that stands for all others.
"""

from __future__ import annotations

from agent.config.model import Config, RegistryHost, Scheme
from agent.errors import FileError, HttpError, PortError
from agent.facts.node import ANY_HOST, CertificateCheck, CredentialsFact, TlsCanary, Unknown
from agent.ports import Files, HttpAnswer, Ports, TlsSight
from agent.registry import docker_config
from agent.registry.names import docker_places

CANARY_PATH = "/v2/nydus-agent/canary/blobs/sha256:" + "c" * 64
"""Matches the rule that Dragonfly's page on Nydus gives (`blobs/sha256.*`), and no blob that could exist."""

_ASK_S = 3.0
_TOO_MANY = 429
_SERVER_ERROR = 500
_PLAIN_TO_TLS = (b"http request to an https server", b"plain http request was sent to https")  # Go's, nginx's
_FROM_REGISTRY = "docker-distribution-api-version"


def certificates(config: Config, ports: Ports) -> tuple[CertificateCheck, ...]:
    """Each https registry's own certificate against its configured CA."""
    secure = (registry for registry in config.registries.hosts if registry.scheme is Scheme.HTTPS)
    return tuple(_certificate(registry, ports) for registry in secure)


def _certificate(registry: RegistryHost, ports: Ports) -> CertificateCheck:
    try:
        problem = ports.tls.verify(registry.host, registry.ca, deadline_s=_ASK_S)
    except HttpError as error:
        return CertificateCheck(registry.host, Unknown(str(error)), error.cause or error.what)
    except PortError as error:  # the CA cannot be used: whatever the registry shows, nothing verifies it
        return CertificateCheck(registry.host, ok=False, evidence=str(error))
    against = registry.ca or "the system's store"
    return CertificateCheck(registry.host, not problem, problem or f"verifies against {against}")


def canaries(config: Config, ports: Ports) -> tuple[TlsCanary, ...]:
    """One canary per configured registry, and where one speaks https, one for all others."""
    found = [_canary(config, registry, ports) for registry in config.registries.hosts]
    if any(registry.scheme is Scheme.HTTPS for registry in config.registries.hosts):
        found.append(_any_host(config, ports))
    return tuple(found)


def _canary(config: Config, registry: RegistryHost, ports: Ports) -> TlsCanary:
    url = f"http://{registry.host}{CANARY_PATH}"
    try:
        answer = ports.http.get(url, deadline_s=_ASK_S, proxy=config.mirror.url)
    except PortError as error:
        return TlsCanary(registry.host, Unknown(str(error)), error.cause or error.what)
    ok, evidence = judged(answer)
    return TlsCanary(registry.host, ok, evidence)


def judged(answer: HttpAnswer) -> tuple[bool | Unknown, str]:
    """What the answer to a canary says: True = the registry itself answered, Unknown = nobody could be asked
    just now.

    Everything else is False: a real read would meet the same, and nydusd takes such a status for final. The
    origin's own 400 is what Dragonfly hands on where plain http met a TLS port, without the text that says
    so.
    """
    kind = answer.headers.get("x-dragonfly-error-type", "")
    evidence = f"status {answer.status}{f', error of {kind}' if kind else ''}"
    if answer.status == _TOO_MANY or answer.status >= _SERVER_ERROR:
        return Unknown(f"no answer that tells: {evidence}"), evidence
    if answer.status == 400 and (
        kind == "backend" or any(text in answer.body.lower() for text in _PLAIN_TO_TLS)
    ):
        return False, f"{evidence}: plain http was sent to a TLS port"
    origin = _FROM_REGISTRY in answer.headers or b'"errors"' in answer.body
    if answer.status in (401, 404) and origin:
        return True, f"{evidence} from the registry"
    return False, f"{evidence}: not the registry's answer"


def _any_host(config: Config, ports: Ports) -> TlsCanary:
    def fetch(address: str) -> None:
        ports.http.get(f"http://{address}{CANARY_PATH}", deadline_s=_ASK_S, proxy=config.mirror.url)

    try:
        sight = ports.tls.sight(fetch, user=config.mirror.user, deadline_s=_ASK_S)
    except PortError as error:
        return TlsCanary(ANY_HOST, Unknown(str(error)), error.cause or error.what)
    match sight:
        case TlsSight.TLS:
            return TlsCanary(ANY_HOST, ok=True, evidence="a host that no rule can name was asked by TLS")
        case TlsSight.PLAIN:
            return TlsCanary(ANY_HOST, ok=False, evidence="a host that no rule names was asked in plain http")
        case TlsSight.NOBODY:
            return TlsCanary(
                ANY_HOST, Unknown("the mirror did not come"), "the mirror did not reach our loopback"
            )


def reads_ns(config: Config, ports: Ports) -> bool | Unknown:
    """Whether the mirror takes the registry from `?ns=`: it then comes to a listener of ours that ns
    names.
    """
    answered = []

    def fetch(address: str) -> None:
        url = f"{config.mirror.url}{CANARY_PATH}?ns={address}"
        answered.append(ports.http.get(url, deadline_s=_ASK_S).status)

    try:
        sight = ports.tls.sight(fetch, user=config.mirror.user, deadline_s=_ASK_S)
    except PortError as error:
        return Unknown(str(error))
    if sight is not TlsSight.NOBODY:
        return True
    if answered and answered[0] < _SERVER_ERROR and answered[0] != _TOO_MANY:
        return False  # some registry answered, and it was not the one that ns names
    # A mirror that is not on this node reads ns and finds nobody on its own loopback.
    return Unknown("the mirror gave no answer that tells" if answered else "the mirror did not answer")


def credentials(file: str, files: Files) -> CredentialsFact:
    """Whether docker's configuration can be used, and what in it ends by itself; never a secret.

    `file`: what `registries.credentials` names, "" = root's own of docker. Only the file is read: no helper
    is run, because a plan must not wait for it, nor depend on what it says today.
    """
    places = docker_places(file, {}, uid=0, home="/root")
    for path in places.paths:
        try:
            fact = files.read(path)
        except FileError as error:
            return CredentialsFact(path, (f"{path}: cannot be read: {error.cause or error.what}",))
        if fact is not None:
            config, problems = docker_config.inspected(fact, (0,))
            try_ = problems[0].action if problems else ""
            some = bool(config.auths or config.helpers or config.store)
            return CredentialsFact(path, tuple(map(str, problems)), try_, some, docker_config.sources(config))
    missing = f"{' or '.join(places.paths)}: is not there, and {places.named} names it"
    return CredentialsFact("", (missing,) if places.named else ())
