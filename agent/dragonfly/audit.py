"""An audit of a file of YAML: dfdaemon.yaml, or values of the chart."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.config.model import Config
from agent.dragonfly import checks, settings
from agent.dragonfly.command_line import TELLS_HEADERS, WRITTEN, tells_headers
from agent.dragonfly.settings import (
    ALIASES,
    JUDGED,
    AuditFinding,
    AuditReport,
    KeyForm,
    NotLooked,
    PeerSettings,
    Severity,
)  # fmt: skip
from agent.dragonfly.yaml_files import flat, read, shown
from agent.errors import Problem


class FileKind(enum.StrEnum):
    """What a file is."""

    DFDAEMON = "dfdaemon"
    HELM_VALUES = "helm-values"


_OF_CHART = frozenset({
    "client", "seedClient", "injector", "mysql", "externalMysql", "redis", "externalRedis", "externalManager",
    "global",
})  # fmt: skip
_LEAVES = frozenset([*JUDGED, *ALIASES])
_RESTART, _UPGRADE = "restart dfdaemon", "run helm upgrade"
_LOAD_LIMIT = NotLooked(
    "load-limit",
    "how many uploads a seed peer serves at once (the page's second practice; 2000 by default) is in the "
    "manager's database: in its console under Clusters, the cluster, Update, Load limit of the seed peers",
)
_ONLY_LIVE = NotLooked("unit, log-level", "how systemd starts dfdaemon, and what it logs: --live looks")


def audit(
    file: str, text: str, config: Config, kind: FileKind | None = None
) -> AuditReport | tuple[Problem, ...]:
    """The report, or everything that is wrong with the file. Its top keys say what it is, if nobody does."""
    problems: list[Problem] = []
    tree = read(file, text, problems)
    kind = kind or (FileKind.HELM_VALUES if _OF_CHART & set(tree) else FileKind.DFDAEMON)
    found: list[AuditFinding | NotLooked]
    if kind is FileKind.HELM_VALUES:
        found = list(_Chart(file, tree, problems).findings(config))
    else:
        peer = dfdaemon(file, tree, problems)
        found = [*checks.settings(peer, config), *checks.listeners(peer), _ONLY_LIVE]
    if problems:
        return tuple(problems)
    return AuditReport.of(f"{file} ({kind.value})", [*found, *checks.judged_by_ping(config)])


def dfdaemon(file: str, tree: Mapping[str, Any], problems: list[Problem]) -> PeerSettings:
    """The peer that a dfdaemon.yaml makes."""
    return PeerSettings(
        _written(file, tree, "", problems), {}, "dfdaemon's", "", _RESTART, helm=False, serves=True
    )


def _written(file: str, tree: Mapping[str, Any], prefix: str, problems: list[Problem]) -> dict[str, object]:
    """Judged keys with their values; what dfdaemon would refuse of them goes to `problems`."""
    written: dict[str, object] = {}
    for path, value in flat(tree, _LEAVES):
        name = ALIASES.get(path, path)
        if name in JUDGED:
            written[name] = _checked(file, f"{prefix}{path}", value, JUDGED[name][0], problems)
        elif value is not None and any(key.startswith(f"{path}.") for key in JUDGED):
            problems.append(_no_table(file, f"{prefix}{path}", value))
    return written


def _checked(file: str, key: str, value: object, form: KeyForm, problems: list[Problem]) -> object:
    """The value, or None where it is none."""
    if form.takes(value):
        return value
    problems.append(Problem(file, key, shown(value), f"must be {form.value}", f"write {form.value}"))
    return None


def _no_table(file: str, key: str, value: object) -> Problem:
    return Problem(file, key, shown(value), "must be a table", "put its keys below it")


class _Chart:
    """The chart's values: both kinds of peers, their volumes, and the scheduler."""

    def __init__(self, file: str, tree: Mapping[str, Any], problems: list[Problem]) -> None:
        self._file, self._tree, self._problems = file, tree, problems

    def findings(self, config: Config) -> Iterator[AuditFinding | NotLooked]:
        """All of them; what cannot be judged goes to the problems."""
        client, seed = self._is_on("client"), self._is_on("seedClient")
        if client:
            yield from self._peer("client", settings.CHART_CLIENT, config, serves=True)
            directory = (
                self._table("client", "config", "storage").get("dir") or settings.JUDGED["storage.dir"][1]
            )
            yield from self._dfinit()
            yield from _client_volume(self._table("client"), f"{directory}".rstrip("/") + "/")
        else:
            why = (
                "No node has a peer of its own: the agent's mirror is elsewhere, its owner and processes are "
                "unknown, and the page's Service and check, which want client pods, find none."
            )
            change = f"set client.enable: true, then {_UPGRADE}"
            yield AuditFinding("peers", Severity.TRAP, "client.enable", "false", "true", why, change)
        if seed:
            yield from self._peer("seedClient", settings.CHART_SEED, config, serves=not client)
            yield from _seed_volume(self._table("seedClient", "persistence"))
            yield _LOAD_LIMIT
        if client or seed:
            yield from self._log_level()
        yield from self._retries()

    def _peer(
        self, name: str, defaults: Mapping[str, object], config: Config, *, serves: bool
    ) -> Iterator[AuditFinding | NotLooked]:
        prefix, away = f"{name}.config.", serves and name == "seedClient"
        written = _written(self._file, self._table(name, "config"), prefix, self._problems)
        peer = PeerSettings(
            written, defaults, "the chart's", prefix, _UPGRADE, helm=True, serves=serves, away=away
        )
        yield from checks.settings(peer, config)
        yield from checks.listeners(peer)
        tag = self._table(name, "image").get("tag")
        yield from checks.old_server(peer, settings.CHART_TAG if tag is None else str(tag))

    def _dfinit(self) -> Iterator[AuditFinding]:
        """The chart's own way to set a node up (dragonfly-client-init 1.5, chart 1.7.4)."""
        key, table = "client.dfinit.enable", self._table("client", "dfinit")
        if _checked(self._file, key, table.get("enable"), KeyForm.BOOL, self._problems) is True:
            why = (
                "At each start of its pod it edits /etc/containerd/config.toml (where no config_path is set, "
                "the whole registry table is lost), writes _default/hosts.toml over what is there, and "
                "restarts containerd. nydus-agent writes these files, keeps what others wrote, and "
                "restarts containerd only for a change."
            )
            change = f"set {key}: false, then {_UPGRADE}"
            yield AuditFinding("dfinit", Severity.TRAP, key, "true", "false", why, change)

    def _log_level(self) -> Iterator[AuditFinding]:
        """The chart starts both kinds of peers with the level of the clients."""
        key, table = "client.config.log.level", self._table("client", "config", "log")
        written = _checked(self._file, key, table.get("level"), KeyForm.LEVEL, self._problems)
        if tells_headers(str(written or settings.CHART_LOG_LEVEL)):
            value = f"{settings.CHART_LOG_LEVEL} (the chart's default)" if written is None else shown(written)
            why = f"{TELLS_HEADERS} Seed peers get this level too, whatever seedClient.config.log.level says."
            change = f"set {key}: warn, then {_UPGRADE}; {WRITTEN}"
            yield AuditFinding("log-level", Severity.TRAP, key, value, "warn", why, change)

    def _retries(self) -> Iterator[AuditFinding]:
        """The page's sixth practice."""
        prefix, table = "scheduler.config.scheduler.", self._table("scheduler", "config", "scheduler")
        for item, key, form, most, recommended in (
            ("retries", "retryBackToSourceLimit", KeyForm.COUNT, 3, "3"),
            ("retries", "retryLimit", KeyForm.COUNT, 5, "5"),
            ("retry-interval", "retryInterval", KeyForm.DURATION, 0.1, "100ms"),
        ):
            value = _checked(self._file, f"{prefix}{key}", table.get(key), form, self._problems)
            peer = PeerSettings({key: value}, settings.CHART_SCHEDULER, "the chart's", prefix, _UPGRADE,
                                helm=True, serves=False)  # fmt: skip
            if peer.number(key) > most:
                why = "The page's best practice: a read waits while no parent is found."
                yield peer.finding(item, Severity.ADVICE, key, recommended, why)

    def _table(self, *names: str) -> Mapping[str, Any]:
        """The table at this path; an empty one where it is not written."""
        value: Any = self._tree
        for at, name in enumerate(names, 1):
            value = value.get(name) or {}
            if not isinstance(value, Mapping):
                problem = _no_table(self._file, ".".join(names[:at]), value)
                self._problems += [problem] if problem not in self._problems else []
                return {}
        return value  # type: ignore[no-any-return]  # what YAML holds

    def _is_on(self, name: str) -> bool:
        enabled = self._table(name).get("enable")
        key = f"{name}.enable"
        return _checked(self._file, key, enabled, KeyForm.BOOL, self._problems) is not False


def _seed_volume(kept: Mapping[str, Any]) -> Iterator[AuditFinding]:
    if kept.get("enable") is False:
        key = "seedClient.persistence.enable"
        why, change = "The seed peer's cache goes with its pod.", f"set {key}: true, then {_UPGRADE}"
        yield AuditFinding("volume", Severity.TRAP, key, "false", "true", why, change)


def _client_volume(table: Mapping[str, Any], directory: str) -> Iterator[AuditFinding]:
    """A client's storage that goes with the pod: the volume that is mounted there, or above it, tells."""
    mounts = _listed(table, "extraVolumeMounts", settings.CHART_MOUNTS)
    volumes = _listed(table, "extraVolumes", settings.CHART_VOLUMES)
    held = [one for one in mounts if directory.startswith(f"{one.get('mountPath')}".rstrip("/") + "/")]
    nearest = max(held, key=lambda one: len(str(one["mountPath"])), default=None)
    if nearest is not None and not any(
        one.get("name") == nearest.get("name") and "emptyDir" in one for one in volumes
    ):
        return
    whose = "" if isinstance(table.get("extraVolumes"), list) else " (the chart's default)"
    value = f"nothing at {directory}" if nearest is None else f"{nearest.get('name')}: emptyDir{whose}"
    why = (
        "The cache goes with the pod: each upgrade of Dragonfly begins with an empty one, whatever keep says."
    )
    change = f"set it as `nydus-agent dragonfly render helm-values` prints it, then {_UPGRADE}"
    yield AuditFinding("volume", Severity.TRAP, "client.extraVolumes", value, "a hostPath", why, change)


def _listed(
    table: Mapping[str, Any], key: str, default: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    value = table.get(key)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else default
