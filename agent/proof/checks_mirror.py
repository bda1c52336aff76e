"""Checks 9 and 10: the mirror as the switch sees it, and a real read through it.

Check 10: a private nydusd with an empty cache mounts an image that is on the node and reads from it, and
bytes decide: not requests, and not what any other program reads at the same time.

Three witnesses must agree. nydusd counts what it fetched. A relay of ours, which only this nydusd uses,
counts what the mirror gave to it, and in answers of which Dragonfly task. And the mirror's own traffic
counter must have grown by as much: it counts what passed its data path as tasks (dragonflyoss/client,
dragonfly-client-metric, download_traffic), not what it merely forwarded. That counter also grows by other
programs' reads, so it can only refuse, never prove. Per-request fallback is off for this nydusd, so that no
byte can come around the mirror unseen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from agent import paths
from agent.codec import DocumentError, load_document
from agent.config.model import Switch
from agent.documents.status import CheckResult, DaemonStatus
from agent.errors import FileError, HttpError, NydusdError, PortError
from agent.facts.node import Binary, Unknown
from agent.health.evidence import Mode, Owner, Route, is_loopback, judge
from agent.outside_json import json_value, total
from agent.ports import HttpAnswer, Ports, Trial
from agent.proof.checks_nydusd import Mount, read_mounts
from agent.proof.proofs import CALL_S, ProofView, failed, failed_by, not_proved, ok

_STATUS_LINE = "systemctl status nydus-agent.service"
_FRESH_S = 10.0
"""The daemon publishes every few seconds; an older status says nothing about now."""
_OFTEN, _STAYS_S = 3, 60.0
"""An agent that systemd has started again so often, and that does not run for so long yet, does not stay."""
_STATUS_CAP = 1 << 20
"""Bytes; a status is a few thousand."""
_READ_BYTES = 4 << 20
_READ_S = 60.0
_LEAST_SHARE = 0.9
"""Of the fetched bytes must have come through the mirror."""
_METRICS_CAP = 1 << 20
_TRAFFIC = "dragonfly_client_download_traffic"


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


def mirror(view: ProofView) -> CheckResult:
    """The first thing that is wrong, from the port's owner to the fence."""
    seen: list[str] = []
    for look in (_agent, _owner, _ping, _fence, _canary):
        wrong = look(view, seen)
        if wrong is not None:
            return wrong
    return ok("; ".join(seen))


def address_of(url: str) -> tuple[str, int]:
    """Host and port of the mirror's URL; the configuration allows an address only."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def _agent(view: ProofView, _seen: list[str]) -> CheckResult | None:
    """Does the agent stay up? Only it moves reads off a mirror that hangs, and it tells nobody of its end."""
    unit = view.ports.units.get(paths.AGENT_UNIT)
    if unit is None or (unit.n_restarts < _OFTEN and unit.active_state != "failed"):
        return None
    age_s = view.ports.clock.monotonic() - unit.inactive_exit_us / 1e6
    if unit.active_state == "active" and age_s > _STAYS_S:
        return None
    return failed(
        "NNA1010", f"{unit.name} ends again and again",
        cause=f"systemd has started it again {unit.n_restarts} times, {age_s:.0f} s ago the last time; "
              f"it is {unit.active_state}, result: {unit.result or 'none'}",
        evidence=view.ports.units.journal_tail(unit.name, 3), try_=f"journalctl -u {unit.name} -n 50",
    )  # fmt: skip


def _owner(view: ProofView, seen: list[str]) -> CheckResult | None:
    """Whose port is it? dfdaemon gone, any local user could bind it and feed bytes."""
    host, port = address_of(view.config.mirror.url)
    user = view.config.mirror.user
    try:
        found = view.ports.tables.find_listener(host, port)
        allowed = frozenset({0, _uid(view.ports, user)})
    except (PortError, ValueError) as error:
        return not_proved(f"whose port {port} is cannot be told: {error}")
    owner, evidence = judge(found, host, port, allowed)
    if owner is Owner.FOREIGN and not is_loopback(host):
        elsewhere = "or a NodePort or ClusterIP leads elsewhere"
        return not_proved(f"whose port {port} is cannot be told: {evidence} here, {elsewhere}")
    if owner is Owner.FOREIGN:
        return failed(
            "NNA1019", f"the listener on {host}:{port} is not {user}'s", cause=evidence,
            try_=f"ss -tlnp 'sport = :{port}'",
        )  # fmt: skip
    seen.append(evidence)
    return None


def _uid(ports: Ports, user: str) -> int:
    if user == "root":
        return 0
    if user.isdigit():
        return int(user)
    return int(ports.processes.run(["id", "-u", user], deadline_s=CALL_S).stdout)


def _ping(view: ProofView, seen: list[str]) -> CheckResult | None:
    url = view.config.mirror.ping_url
    try:
        answer = view.ports.http.get(url, deadline_s=CALL_S)
    except HttpError as error:
        return failed_by("NNA0812", error, f"curl -sv {url}")
    if not 200 <= answer.status < 400:
        what = f"the mirror's health URL answers {answer.status}"
        return failed("NNA0812", what, cause=url, try_=f"curl -sv {url}")
    seen.append(f"ping_url answers {answer.status}")
    return None


def _fence(view: ProofView, seen: list[str]) -> CheckResult | None:
    if view.effective.switch is Switch.NATIVE:
        reasons = (one for one in view.effective.reasons if one.startswith("switch native"))
        seen.append(next(reasons, "switch native"))
        return None
    ability = view.facts.fence
    if isinstance(ability, Unknown):
        return not_proved(f"the fence was not tried: {ability.reason}", *seen)
    if not ability.usable:
        return failed(
            "NNA0803", "the mode is fence, and the fence does not work", cause=ability.reason,
            evidence=tuple(seen), try_="nft list ruleset",
        )  # fmt: skip
    daemon = daemon_status(view.ports)
    if daemon is not None and daemon.mode is Mode.NATIVE:
        return failed(
            "NNA0803", "the node is set up for the fence, and the agent does not use it",
            cause=daemon.mode_reason or "it says mode native", evidence=tuple(seen), try_=_STATUS_LINE,
        )  # fmt: skip
    seen.append("fence self-test passed")
    return None


def _canary(view: ProofView, seen: list[str]) -> CheckResult | None:
    """A request through the mirror's data path to the agent's own object, compared with the object itself."""
    why = at_origin(daemon_status(view.ports))
    if why:
        return not_proved(why, *seen, try_="nydus-agent status --why")
    url = f"http://127.0.0.1:{view.config.endpoint.port}/canary"
    try:
        direct = view.ports.http.get(url, deadline_s=CALL_S)
    except HttpError as error:
        why = f"the agent does not serve the canary: {error.cause or error.what}"
        return not_proved(why, *seen, try_=_STATUS_LINE)
    try:
        through = view.ports.http.get(url, deadline_s=CALL_S, proxy=view.config.mirror.url)
    except HttpError as error:
        return failed_by("NNA0812", error, f"curl -sv -x {view.config.mirror.url} {url}")
    wrong = _compare(direct, through)
    if wrong:
        return failed(
            "NNA0812", "the canary through the mirror's data path came back wrong",
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


def real_read(view: ProofView) -> CheckResult:
    """Prove by bytes, or say why it cannot be proved now."""
    why = at_origin(daemon_status(view.ports))
    if why:
        return not_proved(why)
    if not isinstance(view.facts.nydusd, Binary):
        return not_proved("nydusd is not known")
    try:
        found = read_mounts(view.ports, view.config.snapshotter.root)
    except (HttpError, FileError, ValueError) as error:
        return not_proved(f"the snapshotter did not tell its mounts: {error}")
    if not found:
        return not_proved("no nydus image is in use on this node yet")
    direct = {one.partition(": ")[0]: one for one in view.effective.not_accelerated}
    usable = [mount for mount in found if mount.registry not in direct and mount.names_mirror]
    if not usable:
        why = next((direct[mount.registry] for mount in found if mount.registry in direct), "")
        return not_proved(f"not accelerated: {why}" if why else "no mount was made with the mirror yet")
    return _read(view, view.facts.nydusd.path, usable[0])


def _read(view: ProofView, nydusd: str, mount: Mount) -> CheckResult:
    before = mirror_traffic(view)
    try:
        trial = view.ports.trials.read(
            nydusd, mount.bootstrap, lambda relay, work: trial_config(mount.config, relay, work),
            mirror=address_of(view.config.mirror.url), limit=_READ_BYTES, deadline_s=_READ_S,
        )  # fmt: skip
    except NydusdError as error:
        return failed_by("NNA0731", error, "nydus-agent doctor")
    after = mirror_traffic(view)
    grown = after - before if isinstance(before, int) and isinstance(after, int) else None
    if trial.error and at_origin(daemon_status(view.ports)):
        return not_proved("the route changed to the origin during the read", *_figures(trial, grown))
    why = before if isinstance(before, str) else after if isinstance(after, str) else ""
    return judge_trial(trial, grown, why, mount.registry)


def judge_trial(trial: Trial, grown: int | None, no_counter: str, registry: str) -> CheckResult:
    """What the figures say. `grown`: bytes of the mirror's own counter, None where it did not answer."""
    seen = _figures(trial, grown)
    if trial.error:
        return failed(
            "NNA0734",
            f"blob bytes did not come through the mirror: a read from {registry} failed",
            cause=trial.error, evidence=seen, try_="journalctl -u nydus-snapshotter.service -n 50",
        )  # fmt: skip
    need = _LEAST_SHARE * trial.fetched
    if trial.fetched <= 0 or trial.relayed < need:
        return failed(
            "NNA0734", "blob bytes did not come through the mirror",
            cause=f"{mib(trial.relayed)} of {mib(trial.fetched)} that nydusd fetched", evidence=seen,
            try_="nydus-agent plan",
        )  # fmt: skip
    if trial.tasks < need:
        return failed(
            "NNA0735", "the mirror forwards blob requests without taking part",
            cause=f"{mib(trial.tasks)} of {mib(trial.relayed)} came in answers that name a Dragonfly task: "
                  "no rule of dfdaemon matches them, or they are inside of TLS",
            evidence=seen, try_="look at proxy.rules in dfdaemon.yaml",
        )  # fmt: skip
    if grown is None:
        return not_proved(f"the mirror's own byte counter could not be read: {no_counter}", *seen)
    if grown < need:
        return failed(
            "NNA0734", "the mirror's own counter does not know of the bytes",
            cause=f"{_TRAFFIC} grew by {mib(grown)}, nydusd fetched {mib(trial.fetched)}", evidence=seen,
            try_="is [mirror] metrics_url that of the mirror in [mirror] url?",
        )  # fmt: skip
    share = round(100 * trial.tasks / trial.fetched)
    return ok(
        f"{mib(trial.fetched)} of an image of {registry}, {min(share, 100)} % through the mirror",
        *seen,
    )


def mib(size: int) -> str:
    """Bytes for people."""
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size / 1024:.0f} KiB"


def _figures(trial: Trial, grown: int | None) -> tuple[str, ...]:
    answers = ", ".join(f"{count} x {status}" for status, count in trial.answers) or "none"
    return (
        f"nydusd read {mib(trial.read)} of files and fetched {mib(trial.fetched)}",
        f"the mirror gave it {mib(trial.relayed)}, {mib(trial.tasks)} in answers of Dragonfly tasks "
        f"({answers})",
        f"the mirror's counter grew by {mib(grown)}"
        if grown is not None
        else "the mirror's counter was not read",
    )


def mirror_traffic(view: ProofView) -> int | str:
    """Bytes that the mirror has brought as tasks since its start, of every kind (0 before the first); or why
    they are not known.
    """
    url = view.config.mirror.metrics_url
    try:
        answer = view.ports.http.get(url, deadline_s=CALL_S, body_cap=_METRICS_CAP)
    except HttpError as error:
        return f"{url}: {error.cause or error.what}"
    if answer.status != 200:
        return f"{url} answers {answer.status}"
    return total(answer.body.decode(errors="replace"), _TRAFFIC)


def trial_config(config: Mapping[str, Any], relay: str, work_dir: str) -> bytes:
    """The configuration of a mount, changed so that each byte is fetched now, through `relay`, and
    counted.
    """
    copy = json_value(json.dumps(config))
    backend = copy["device"]["backend"]["config"]
    if backend.get("proxy", {}).get("url"):
        backend["proxy"] = {**backend["proxy"], "url": relay, "fallback": False}
        backend["proxy"].pop("ping_url", None)
    for mirror in backend.get("mirrors") or ():
        mirror["host"] = relay
    copy["device"]["cache"]["config"] = {**copy["device"]["cache"].get("config", {}), "work_dir": work_dir}
    copy["fs_prefetch"] = {"enable": False}
    return json.dumps(copy).encode()
