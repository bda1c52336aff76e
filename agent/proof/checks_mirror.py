"""Check 9: the mirror, as the switch sees it.

Its health URL, its owner, its data path, and the fence itself.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from agent import paths
from agent.codec import DocumentError, load_document
from agent.config.model import Switch
from agent.documents.applied import CheckResult
from agent.documents.status import DaemonStatus
from agent.errors import FileError, HttpError, PortError
from agent.facts.node import Effective, Unknown
from agent.health.evidence import Mode, Owner, Route, is_loopback, judge
from agent.ports import HttpAnswer, Ports
from agent.proof.checks_runtime import CALL_S, ProofView
from agent.proof.proofs import failed, failed_by, not_proved, ok

_NAME = "mirror"
_NUMBER = 9
_STATUS_LINE = "systemctl status nydus-agent.service"


_FRESH_S = 10.0
"""The daemon publishes every few seconds; an older status says nothing about now."""
_STATUS_CAP = 1 << 20
"""Bytes; a status is a few thousand."""


def daemon_status(ports: Ports) -> DaemonStatus | None:
    """What the daemon says of the mirror now; None where it is missing, old or damaged.

    An unprivileged user has written it: it is shown, and "origin" in it makes checks say less; no more.
    """
    try:
        fact = ports.files.read(paths.STATUS)
        status = load_document(DaemonStatus, fact.content, _STATUS_CAP) if fact is not None else None
    except (FileError, DocumentError):
        return None
    return status if status is not None and abs(ports.clock.now() - status.at) <= _FRESH_S else None


def at_origin(daemon: DaemonStatus | None) -> str:
    """Why no read can be proved to come from the mirror: reads go to the origin now; "" where they do not."""
    if daemon is None or daemon.route is not Route.ORIGIN:
        return ""
    return f"reads go to the origin now: {daemon.route_reason or daemon.health_reason or 'fenced'}"


def mirror(view: ProofView, effective: Effective) -> CheckResult:
    """The first thing that is wrong, from the port's owner to the fence."""
    seen: list[str] = []
    for look in (_owner, _ping):
        wrong = look(view, seen)
        if wrong is not None:
            return wrong
    daemon = daemon_status(view.ports)
    wrong = _fence(view, effective, daemon, seen)
    if wrong is not None:
        return wrong
    why = at_origin(daemon)
    if why:
        return not_proved(_NUMBER, _NAME, why, *seen, try_="nydus-agent status --why")
    wrong = _canary(view, seen)
    return wrong if wrong is not None else ok(_NUMBER, _NAME, "; ".join(seen))


def address_of(url: str) -> tuple[str, int]:
    """Host and port of the mirror's URL; the configuration allows an address only."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def _owner(view: ProofView, seen: list[str]) -> CheckResult | None:
    """Whose port is it? dfdaemon gone, any local user could bind it and feed bytes."""
    host, port = address_of(view.config.mirror.url)
    user = view.config.mirror.user
    try:
        found = view.ports.tables.find_listener(host, port)
        allowed = frozenset({0, _uid(view.ports, user)})
    except (PortError, ValueError) as error:
        return not_proved(_NUMBER, _NAME, f"whose port {port} is cannot be told: {error}")
    owner, evidence = judge(found, host, port, allowed)
    if owner is Owner.FOREIGN and not is_loopback(host):
        why = (
            f"whose port {port} is cannot be told: {evidence} here, or a NodePort or ClusterIP leads "
            f"elsewhere"
        )
        return not_proved(_NUMBER, _NAME, why)
    if owner is Owner.FOREIGN:
        return failed(
            _NUMBER, _NAME, "NNA1019", f"the listener on {host}:{port} is not {user}'s", cause=evidence,
            try_=f"ss -tlnp 'sport = :{port}'",
        )  # fmt: skip
    seen.append(evidence)
    return None


def _uid(ports: Ports, user: str) -> int:
    if user == "root":
        return 0
    return (
        int(user)
        if user.isdigit()
        else int(ports.processes.run(["id", "-u", user], deadline_s=CALL_S).stdout)
    )


def _ping(view: ProofView, seen: list[str]) -> CheckResult | None:
    url = view.config.mirror.ping_url
    try:
        answer = view.ports.http.get(url, deadline_s=CALL_S)
    except HttpError as error:
        return failed_by(_NUMBER, _NAME, "NNA0812", error, f"curl -sv {url}")
    if not 200 <= answer.status < 400:
        return failed(_NUMBER, _NAME, "NNA0812", f"the mirror's health URL answers {answer.status}",
                      cause=url,
                      try_=f"curl -sv {url}")  # fmt: skip
    seen.append(f"ping_url answers {answer.status}")
    return None


def _fence(
    view: ProofView, effective: Effective, daemon: DaemonStatus | None, seen: list[str]
) -> CheckResult | None:
    if effective.switch is Switch.NATIVE:
        why = next((one for one in effective.reasons if one.startswith("switch native")), "switch native")
        seen.append(why)
        return None
    ability = view.facts.fence
    if isinstance(ability, Unknown):
        return not_proved(_NUMBER, _NAME, f"the fence was not tried: {ability.reason}", *seen)
    if not ability.usable:
        return failed(
            _NUMBER, _NAME, "NNA0803", "the mode is fence, and the fence does not work", cause=ability.reason,
            evidence=tuple(seen), try_="nft list ruleset",
        )  # fmt: skip
    if daemon is not None and daemon.mode is Mode.NATIVE:
        return failed(
            _NUMBER, _NAME, "NNA0803", "the node is set up for the fence, and the agent does not use it",
            cause=daemon.mode_reason or "it says mode native", evidence=tuple(seen), try_=_STATUS_LINE,
        )  # fmt: skip
    seen.append("fence self-test passed")
    return None


def _canary(view: ProofView, seen: list[str]) -> CheckResult | None:
    """A request through the mirror's data path to the agent's own object, compared with the object itself."""
    url = f"http://127.0.0.1:{view.config.endpoint.port}/canary"
    try:
        direct = view.ports.http.get(url, deadline_s=CALL_S)
    except HttpError as error:
        return not_proved(_NUMBER, _NAME, f"the agent does not serve the canary: {error.cause or error.what}",
                          *seen,
                          try_=_STATUS_LINE)  # fmt: skip
    try:
        through = view.ports.http.get(url, deadline_s=CALL_S, proxy=view.config.mirror.url)
    except HttpError as error:
        return failed_by(_NUMBER, _NAME, "NNA0812", error, f"curl -sv -x {view.config.mirror.url} {url}")
    wrong = _compare(direct, through)
    if wrong:
        return failed(
            _NUMBER, _NAME, "NNA0812", "the canary through the mirror's data path came back wrong",
            cause=wrong,
            evidence=tuple(seen), try_=f"curl -sv -x {view.config.mirror.url} {url}",
        )  # fmt: skip
    seen.append(f"canary of {len(direct.body)} bytes is right")
    return None


def _compare(direct: HttpAnswer, through: HttpAnswer) -> str:
    if through.status != direct.status:
        return f"status {through.status}, wanted {direct.status}"
    if len(through.body) != len(direct.body):
        return f"{len(through.body)} bytes, wanted {len(direct.body)}"
    return "" if through.body == direct.body else "other content of the same length"
