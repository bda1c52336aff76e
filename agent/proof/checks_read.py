"""Check 10: a real read. A private nydusd with an empty cache mounts an image that is on the node and reads
from it, and bytes decide: not requests, and not what any other program reads at the same time.

Three witnesses must agree. nydusd counts what it fetched. A relay of ours, which only this nydusd uses,
counts what the mirror gave to it, and in answers of which Dragonfly task. And the mirror's own traffic
counter must have grown by as much: it counts what passed its data path as tasks (dragonflyoss/client,
dragonfly-client-metric, download_traffic), not what it merely forwarded. That counter also grows by other
programs' reads, so it can only refuse, never prove. Per-request fallback is off for this nydusd, so that no
byte can come around the mirror unseen.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent import paths
from agent.documents.applied import CheckResult
from agent.errors import FileError, HttpError, NydusdError
from agent.facts.node import Binary, Effective
from agent.outside_json import json_value, mapping
from agent.ports import Ports, Trial
from agent.proof.checks_mirror import address_of, at_origin, daemon_status
from agent.proof.checks_runtime import CALL_S, ProofView
from agent.proof.proofs import failed, failed_by, not_proved, ok

_NAME = "real read"
_NUMBER = 10
_LIMIT = 4 << 20
_DEADLINE_S = 60.0
_SHARE = 0.9
_METRICS_CAP = 1 << 20
_TRAFFIC = "dragonfly_client_download_traffic"
_BOOTSTRAPS = ("fs/image/image.boot", "fs/image.boot")


@dataclass(frozen=True, slots=True)
class Mount:
    """An image that is in use: its bootstrap, and the configuration that its nydusd has (with
    credentials).
    """

    bootstrap: str
    config: Mapping[str, Any]

    @property
    def registry(self) -> str:
        """The registry's host."""
        return str(_backend(self.config).get("host", ""))

    @property
    def image(self) -> str:
        """The image's name without a tag."""
        return f"{self.registry}/{_backend(self.config).get('repo', '')}"

    @property
    def private(self) -> bool:
        """Whether its nydusd was given a credential."""
        backend = _backend(self.config)
        return bool(backend.get("auth") or backend.get("registry_token"))


def real_read(view: ProofView, effective: Effective) -> CheckResult:
    """Prove by bytes, or say why it cannot be proved now."""
    why = at_origin(daemon_status(view.ports))
    if why:
        return not_proved(_NUMBER, _NAME, why)
    if not isinstance(view.facts.nydusd, Binary):
        return not_proved(_NUMBER, _NAME, "nydusd is not known")
    try:
        found = mounts(view.ports, view.config.snapshotter.root)
    except (HttpError, FileError, ValueError) as error:
        return not_proved(_NUMBER, _NAME, f"the snapshotter did not tell its mounts: {error}")
    if not found:
        return not_proved(_NUMBER, _NAME, "no nydus image is in use on this node yet")
    direct = {one.partition(": ")[0]: one for one in effective.not_accelerated}
    usable = [mount for mount in found if mount.registry not in direct and _names_mirror(mount)]
    if not usable:
        why = next((direct[mount.registry] for mount in found if mount.registry in direct), "")
        return not_proved(
            _NUMBER, _NAME, f"not accelerated: {why}" if why else "no mount was made with the mirror yet"
        )
    return _read(view, view.facts.nydusd.path, usable[0])


def _read(view: ProofView, nydusd: str, mount: Mount) -> CheckResult:
    before = traffic(view)
    try:
        trial = view.ports.trials.read(
            nydusd, mount.bootstrap, lambda relay, work: configured(mount.config, relay, work),
            mirror=address_of(view.config.mirror.url), limit=_LIMIT, deadline_s=_DEADLINE_S,
        )  # fmt: skip
    except NydusdError as error:
        return failed_by(_NUMBER, _NAME, "NNA0731", error, "nydus-agent doctor")
    after = traffic(view)
    grown = after - before if isinstance(before, int) and isinstance(after, int) else None
    if trial.error and at_origin(daemon_status(view.ports)):
        return not_proved(
            _NUMBER, _NAME, "the route changed to the origin during the read", *_figures(trial, grown)
        )
    why = before if isinstance(before, str) else after if isinstance(after, str) else ""
    return judged(trial, grown, why, mount.registry)


def judged(trial: Trial, grown: int | None, no_counter: str, registry: str) -> CheckResult:
    """What the figures say. `grown`: bytes of the mirror's own counter, None where it did not answer."""
    seen = _figures(trial, grown)
    if trial.error:
        return failed(
            _NUMBER, _NAME, "NNA0734",
            f"blob bytes did not come through the mirror: a read from {registry} failed",
            cause=trial.error, evidence=seen, try_="journalctl -u nydus-snapshotter.service -n 50",
        )  # fmt: skip
    need = _SHARE * trial.fetched
    if trial.fetched <= 0 or trial.relayed < need:
        return failed(
            _NUMBER, _NAME, "NNA0734", "blob bytes did not come through the mirror",
            cause=f"{mib(trial.relayed)} of {mib(trial.fetched)} that nydusd fetched", evidence=seen,
            try_="nydus-agent plan",
        )  # fmt: skip
    if trial.tasks < need:
        return failed(
            _NUMBER, _NAME, "NNA0735", "the mirror forwards blob requests without taking part",
            cause=f"{mib(trial.tasks)} of {mib(trial.relayed)} came in answers that name a Dragonfly task: "
                  "no rule of dfdaemon matches them, or they are inside of TLS",
            evidence=seen, try_="look at proxy.rules in dfdaemon.yaml",
        )  # fmt: skip
    if grown is None:
        return not_proved(
            _NUMBER, _NAME, f"the mirror's own byte counter could not be read: {no_counter}", *seen
        )
    if grown < need:
        return failed(
            _NUMBER, _NAME, "NNA0734", "the mirror's own counter does not know of the bytes",
            cause=f"{_TRAFFIC} grew by {mib(grown)}, nydusd fetched {mib(trial.fetched)}", evidence=seen,
            try_="is [mirror] metrics_url that of the mirror in [mirror] url?",
        )  # fmt: skip
    share = round(100 * trial.tasks / trial.fetched)
    return ok(
        _NUMBER,
        _NAME,
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


def traffic(view: ProofView) -> int | str:
    """Bytes that the mirror has brought as tasks since its start, of every kind; or why they are not
    known.
    """
    url = view.config.mirror.metrics_url
    try:
        answer = view.ports.http.get(url, deadline_s=CALL_S, body_cap=_METRICS_CAP)
    except HttpError as error:
        return f"{url}: {error.cause or error.what}"
    if answer.status != 200:
        return f"{url} answers {answer.status}"
    return total(answer.body.decode(errors="replace"))


def total(exposition: str) -> int:
    """The sum over all series of the traffic counter in a Prometheus text; 0 before its first increment."""
    found = 0.0
    for line in exposition.splitlines():
        name, _, value = line.rpartition(" ")
        if name == _TRAFFIC or name.startswith(f"{_TRAFFIC}{{"):
            try:
                found += float(value)
            except ValueError:
                continue
    return int(found)


def configured(config: Mapping[str, Any], relay: str, work_dir: str) -> bytes:
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


def _names_mirror(mount: Mount) -> bool:
    backend = _backend(mount.config)
    return bool((backend.get("proxy") or {}).get("url") or backend.get("mirrors"))


def _backend(config: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        found = config["device"]["backend"]["config"]
    except (KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def mounts(ports: Ports, root: str) -> list[Mount]:
    """Images in use, from the snapshotter's system socket (containerd/nydus-snapshotter,
    pkg/system/system.go).

    Raises HttpError, FileError, ValueError.
    """
    answer = ports.http.get(
        "http://localhost/api/v1/daemons", deadline_s=CALL_S, unix_socket=paths.SNAPSHOTTER_SYSTEM_SOCKET,
        body_cap=_METRICS_CAP,
    )  # fmt: skip
    daemons = json_value(answer.body) if answer.status == 200 else []
    found = []
    for daemon in map(mapping, daemons if isinstance(daemons, list) else ()):
        for snapshot, instance in sorted(mapping(daemon.get("instances")).items()):
            named = mapping(instance).get("snapshot_dir")
            directory = (
                named if isinstance(named, str) and named else posixpath.join(root, "snapshots", snapshot)
            )
            bootstrap = _bootstrap(ports, directory)
            config = _config(ports, posixpath.join(root, "config", str(daemon.get("id"))), snapshot)
            if bootstrap and config is not None:
                found.append(Mount(bootstrap, config))
    return found


def _bootstrap(ports: Ports, snapshot_dir: str) -> str:
    for name in _BOOTSTRAPS:
        path = posixpath.join(snapshot_dir, name)
        if posixpath.basename(path) in ports.files.listdir(posixpath.dirname(path)):
            return path
    return ""


def _config(ports: Ports, directory: str, snapshot: str) -> Mapping[str, Any] | None:
    """The configuration that the snapshotter wrote for this mount: a shared daemon has one per snapshot."""
    for path in (
        posixpath.join(directory, snapshot, "config.json"),
        posixpath.join(directory, "config.json"),
    ):
        fact = ports.files.read(path)
        parsed = json_value(fact.content) if fact is not None else None
        if isinstance(parsed, dict):
            return parsed
    return None
