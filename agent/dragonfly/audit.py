"""An audit of a file of YAML: dfdaemon.yaml, or values of the chart."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.config.model import Config
from agent.dragonfly import checks
from agent.dragonfly import settings as known
from agent.dragonfly.command_line import TELLS_HEADERS, WRITTEN, tells_headers
from agent.dragonfly.settings import (
    ALIASES,
    JUDGED,
    KNOWN,
    RULE_KEYS,
    AuditFinding,
    AuditReport,
    KeyForm,
    NotLooked,
    PeerSettings,
    Severity,
)
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
_LEAVES = KNOWN | frozenset(ALIASES)
_RESTART, _UPGRADE = "restart dfdaemon", "run helm upgrade"
_ONLY_LIVE = (
    NotLooked("unit", "whether systemd starts a dfdaemon again that died: --live looks"),
    NotLooked(
        "log-level", "whether dfdaemon logs credentials: an option or a variable says so, --live looks"
    ),
)
ELSEWHERE = NotLooked(
    "seed-load",
    "the load limit of seed peers (10000 by the page) is kept by the manager: its console shows it",
)
OTHER_FILE = NotLooked(
    "retries",
    "a scheduler has its own file: by the page retryBackToSourceLimit 3, retryLimit 5, retryInterval 100ms "
    "in scheduler.yaml, or in the chart's values, which an audit reads",
)


def kind_of(tree: Mapping[str, Any]) -> FileKind:
    """What a file is, by its top keys."""
    return FileKind.HELM_VALUES if _OF_CHART & set(tree) else FileKind.DFDAEMON


def audit(
    file: str, text: str, config: Config, kind: FileKind | None = None
) -> AuditReport | tuple[Problem, ...]:
    """The report, or everything that is wrong with the file."""
    problems: list[Problem] = []
    tree = read(file, text, problems)
    kind = kind or kind_of(tree)
    found: list[AuditFinding | NotLooked]
    if kind is FileKind.HELM_VALUES:
        found = list(_Chart(file, tree, problems).findings(config))
    else:
        peer = dfdaemon(file, tree, problems)
        found = [*of_dfdaemon(peer, config, tree), *checks.listeners(peer), *_ONLY_LIVE, OTHER_FILE]
    if problems:
        return tuple(problems)
    return AuditReport.of(f"{file} ({kind.value})", [*found, *checks.judged_by_ping(config), ELSEWHERE])


def dfdaemon(file: str, tree: Mapping[str, Any], problems: list[Problem]) -> PeerSettings:
    """The peer that a dfdaemon.yaml makes."""
    return PeerSettings(
        _written(file, tree, "", problems), {}, "dfdaemon's", "", _RESTART, helm=False, serves=True
    )


def of_dfdaemon(
    peer: PeerSettings, config: Config, tree: Mapping[str, Any]
) -> Iterator[AuditFinding | NotLooked]:
    """All but its listeners, of which the kernel tells where it runs."""
    yield from checks.settings(peer, config)
    yield from _unknown(peer, tree)


def _written(file: str, tree: Mapping[str, Any], prefix: str, problems: list[Problem]) -> dict[str, object]:
    """Judged keys with their values; what dfdaemon would refuse of them goes to `problems`."""
    written: dict[str, object] = {}
    for path, value in flat(tree, _LEAVES):
        name, key = ALIASES.get(path, path), f"{prefix}{path}"
        if name in written:
            problems.append(Problem(file, key, shown(value), f"is {name} once more", "keep one of them"))
        elif name in JUDGED:
            wrong = _misfit(file, key, value, JUDGED[name][0])
            problems += wrong
            written[name] = None if wrong else value
        elif value is not None and _is_table(path):
            problems.append(Problem(file, key, shown(value), "must be a table", "put its keys below it"))
    return written


def _is_table(path: str) -> bool:
    return any(name.startswith(f"{path}.") for name in KNOWN)


def _misfit(file: str, key: str, value: object, form: KeyForm) -> list[Problem]:
    if form.takes(value):
        return []
    return [Problem(file, key, shown(value), f"must be {form.value}", f"write {form.value}")]


def _unknown(peer: PeerSettings, tree: Mapping[str, Any]) -> Iterator[AuditFinding]:
    """Keys that dfdaemon does not know: it says nothing about them."""
    for path, value in flat(tree, _LEAVES):
        if path in _LEAVES or value is None or _is_table(path) or (peer.helm and path in known.CHART_ONLY):
            continue
        near = difflib.get_close_matches(path, KNOWN, n=1, cutoff=0.8)
        yield _unknown_key(f"{peer.prefix}{path}", value, peer.name(near[0]) if near else "")
    rules = peer.value("proxy.rules")
    for index, rule in enumerate(rules if isinstance(rules, Sequence) else ()):
        at = f"{peer.prefix}proxy.rules[{index}]"
        right = {name.lower(): name for name in RULE_KEYS}
        for key in (key for key in rule if key not in RULE_KEYS):
            near = difflib.get_close_matches(str(key).lower(), right, n=1, cutoff=0.8)
            yield _unknown_key(f"{at}.{key}", rule[key], f"{at}.{right[near[0]]}" if near else "")


def _unknown_key(key: str, value: object, near: str) -> AuditFinding:
    why = "Client v1.5.10 has no such key, and ignores it without a word."
    change = f"rename it to {near}" if near else f"remove {key}"
    return AuditFinding("unknown-key", Severity.ADVICE, key, shown(value), near or "none", why, change)


class _Chart:
    """The chart's values: both kinds of peers, their volumes, and the scheduler."""

    def __init__(self, file: str, tree: Mapping[str, Any], problems: list[Problem]) -> None:
        self._file, self._problems = file, problems
        self._client, self._seed, self._scheduler = (
            self._table(tree, name) for name in ("client", "seedClient", "scheduler")
        )

    def findings(self, config: Config) -> Iterator[AuditFinding | NotLooked]:
        """All of them; what cannot be judged goes to the problems."""
        client, seed = self._is_on("client", self._client), self._is_on("seedClient", self._seed)
        if client:
            yield from self._peer("client", self._client, known.CHART_CLIENT, config, serves=True)
        if seed:
            yield from self._peer("seedClient", self._seed, known.CHART_SEED, config, serves=not client)
        if client or seed:
            yield from self._log_level()
        if not client:
            why = (
                "No node has a peer of its own: the agent's mirror is elsewhere, its owner and processes are "
                "unknown, and the page's Service and check, which want client pods, find none."
            )
            value, change = shown(self._client.get("enable")), f"set client.enable: true, then {_UPGRADE}"
            yield AuditFinding("peers", Severity.TRAP, "client.enable", value, "true", why, change)
        yield from self._retries()

    def _peer(
        self,
        name: str,
        table: Mapping[str, Any],
        defaults: Mapping[str, object],
        config: Config,
        *,
        serves: bool,
    ) -> Iterator[AuditFinding | NotLooked]:
        prefix = f"{name}.config."
        tree = self._table(table, "config", f"{name}.")
        written, away = _written(self._file, tree, prefix, self._problems), serves and name == "seedClient"
        peer = PeerSettings(
            written, defaults, "the chart's", prefix, _UPGRADE, helm=True, serves=serves, away=away
        )
        yield from of_dfdaemon(peer, config, tree)
        yield from checks.listeners(peer)
        image = table.get("image")
        tag = image.get("tag") if isinstance(image, Mapping) else None
        yield from checks.old_server(peer, known.CHART_TAG if tag is None else str(tag))
        yield from (
            _seed_volume(table) if name == "seedClient" else _volume(table, str(peer.value("storage.dir")))
        )

    def _log_level(self) -> Iterator[AuditFinding]:
        """The chart starts both kinds of peers with the level of the clients."""
        key = "client.config.log.level"
        config = self._table(self._client, "config", "client.")
        written = self._table(config, "log", "client.config.").get("level")
        wrong = _misfit(self._file, key, written, KeyForm.LEVEL)
        self._problems += wrong
        if not wrong and tells_headers(str(written or known.CHART_LOG_LEVEL)):
            value = f"{known.CHART_LOG_LEVEL} (the chart's default)" if written is None else shown(written)
            why = f"{TELLS_HEADERS} Seed peers get this level too, whatever seedClient.config.log.level says."
            change = f"set {key}: warn, then {_UPGRADE}; {WRITTEN}"
            yield AuditFinding("log-level", Severity.TRAP, key, value, "warn", why, change)

    def _retries(self) -> Iterator[AuditFinding]:
        """The page's sixth practice."""
        prefix = "scheduler.config.scheduler."
        config = self._table(self._scheduler, "config", "scheduler.")
        peer = PeerSettings(self._table(config, "scheduler", "scheduler.config."), known.CHART_SCHEDULER,
                            "the chart's", prefix, _UPGRADE, helm=True, serves=False)  # fmt: skip
        for key, form, most, recommended, what in (
            (
                "retryBackToSourceLimit",
                KeyForm.COUNT,
                3,
                "3",
                "so many tries to find a parent before the registry",
            ),
            ("retryLimit", KeyForm.COUNT, 5, "5", "so many tries before scheduling fails"),
            ("retryInterval", KeyForm.DURATION, 0.1, "100ms", "so long between two tries to find a parent"),
        ):
            wrong = _misfit(self._file, peer.name(key), peer.value(key), form)
            self._problems += wrong
            if not wrong and peer.number(key) > most:
                item = "retries" if form is KeyForm.COUNT else "retry-interval"
                why = f"The page's best practice: {what}. A read waits."
                yield peer.finding(item, Severity.ADVICE, key, recommended, why)

    def _table(self, tree: Mapping[str, Any], name: str, prefix: str = "") -> Mapping[str, Any]:
        value = tree.get(name)
        if value is None or isinstance(value, Mapping):
            return value or {}
        problem = Problem(
            self._file, f"{prefix}{name}", shown(value), "must be a table", "put its keys below it"
        )
        if problem not in self._problems:
            self._problems.append(problem)
        return {}

    def _is_on(self, name: str, table: Mapping[str, Any]) -> bool:
        wrong = _misfit(self._file, f"{name}.enable", table.get("enable"), KeyForm.BOOL)
        self._problems += wrong
        return not wrong and table.get("enable") is not False


def _seed_volume(table: Mapping[str, Any]) -> Iterator[AuditFinding]:
    kept = table.get("persistence")
    if isinstance(kept, Mapping) and kept.get("enable") is False:
        key = "seedClient.persistence.enable"
        why, change = "The seed peer's cache goes with its pod.", f"set {key}: true, then {_UPGRADE}"
        yield AuditFinding("volume", Severity.TRAP, key, "false", "true", why, change)


def _volume(table: Mapping[str, Any], directory: str) -> Iterator[AuditFinding]:
    """A client's storage that goes with the pod: the volume that is mounted nearest above it tells."""
    mounts = _listed(table, "extraVolumeMounts", known.CHART_MOUNTS)
    volumes = _listed(table, "extraVolumes", known.CHART_VOLUMES)
    held = [one for one in mounts if one.get("mountPath") and _above(str(one["mountPath"]), directory)]
    nearest = max(held, key=lambda one: len(str(one["mountPath"])), default=None)
    volume = next((one for one in volumes if nearest and one.get("name") == nearest.get("name")), None)
    if nearest is not None and (volume is None or "emptyDir" not in volume):
        return
    whose = "" if isinstance(table.get("extraVolumes"), list) else " (the chart's default)"
    value = f"nothing at {directory}" if nearest is None else f"{nearest.get('name')}: emptyDir{whose}"
    why = (
        "The cache goes with the pod: each upgrade of Dragonfly begins with an empty one, whatever keep says."
    )
    change = f"set it as `nydus-agent dragonfly render helm-values` prints it, then {_UPGRADE}"
    yield AuditFinding("volume", Severity.TRAP, "client.extraVolumes", value, "a hostPath", why, change)


def _above(mount: str, directory: str) -> bool:
    """Whether a directory is at a mount's path or below it."""
    return f"{directory.rstrip('/')}/".startswith(f"{mount.rstrip('/')}/")


def _listed(
    table: Mapping[str, Any], key: str, default: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    value = table.get(key)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else default
