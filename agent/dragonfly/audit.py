"""An audit of a file of YAML: dfdaemon.yaml, or values of the chart. Those of systemd are unit_file's."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.config.model import Config, Switch
from agent.dragonfly import checks, keys, origins
from agent.dragonfly.command_line import tells_headers
from agent.dragonfly.findings import AuditFinding, AuditReport, NotLooked, Peer, Severity
from agent.dragonfly.keys import ALIASES, KEYS
from agent.dragonfly.place import above
from agent.dragonfly.quantities import seconds_of
from agent.dragonfly.reading import Reader, flat, shown
from agent.errors import Problem


class FileKind(enum.StrEnum):
    """What a file is."""

    DFDAEMON = "dfdaemon"
    HELM_VALUES = "helm-values"
    UNIT = "dfdaemon-unit"


_OF_CHART = frozenset({
    "client", "seedClient", "injector", "mysql", "externalMysql", "redis", "externalRedis", "externalManager",
    "global",
})  # fmt: skip
_LEAVES = frozenset(KEYS) | frozenset(ALIASES)
_RESTART = "restart dfdaemon"
_UPGRADE = "run helm upgrade"

_ONLY_LIVE = (
    NotLooked(
        "unit",
        "whether systemd starts a dfdaemon again that died: --live, and an audit of its unit's file, look",
    ),
    NotLooked("pages", "whether this build of dfdaemon runs on this kernel's pages: --live looks"),
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
    "a scheduler has its own file: by the page retryBackToSourceLimit 3, retryLimit 5, retryInterval "
    "100ms in "
    "scheduler.yaml, or in the chart's values, which an audit reads",
)


def kind_of(tree: Mapping[str, Any]) -> FileKind:
    """What a file is, by its top keys."""
    return FileKind.HELM_VALUES if _OF_CHART & set(tree) else FileKind.DFDAEMON


def audit(
    file: str, text: str, config: Config, kind: FileKind | None = None
) -> AuditReport | tuple[Problem, ...]:
    """The report, or everything that is wrong with the file."""
    reader = Reader(file)
    tree = reader.read(text)
    kind = kind or kind_of(tree)
    if kind is FileKind.HELM_VALUES:
        found = list(_of_values(file, tree, config, reader.problems))
    else:
        peer = dfdaemon(file, tree, reader.problems)
        found = [*_of_peer(peer, config), *checks.listeners(peer), *unknown(peer, tree)]
    if reader.problems:
        return tuple(reader.problems)
    unit = (*_ONLY_LIVE, OTHER_FILE) if kind is FileKind.DFDAEMON else ()
    return AuditReport.of(f"{file} ({kind.value})", [*found, *judged_by_ping(config), *unit, ELSEWHERE])


def dfdaemon(file: str, tree: Mapping[str, Any], problems: list[Problem]) -> Peer:
    """The peer that a dfdaemon.yaml makes."""
    written = _settings(file, tree, "", problems)
    return Peer(written, {}, "dfdaemon's", "", _RESTART, helm=False, serves=True)


def _of_peer(peer: Peer, config: Config) -> Iterator[AuditFinding | NotLooked]:
    yield from checks.table(peer)
    yield from checks.disk(peer)
    yield from checks.certificate(peer)
    yield from origins.check_rules(peer, config)


def of_running(peer: Peer, config: Config, tree: Mapping[str, Any]) -> Iterator[AuditFinding | NotLooked]:
    """The same for a dfdaemon that runs, whose listeners the kernel tells."""
    yield from _of_peer(peer, config)
    yield from unknown(peer, tree)


def _settings(file: str, tree: Mapping[str, Any], prefix: str, problems: list[Problem]) -> dict[str, object]:
    """Known keys with their values; what dfdaemon would refuse goes to `problems`."""
    written: dict[str, object] = {}
    for path, value in flat(tree, _LEAVES):
        name = ALIASES.get(path, path)
        if name in written:
            problems.append(
                Problem(file, f"{prefix}{path}", shown(value), f"is {name} once more", "keep one of them")
            )
        elif name in KEYS and not KEYS[name].form.takes(value):
            problems.append(_misfit(file, f"{prefix}{path}", value, KEYS[name].form))
        elif name in KEYS:
            written[name] = value
        elif value is not None and _is_table(path):
            problems.append(_no_table(file, f"{prefix}{path}", value))
    return written


def _is_table(path: str) -> bool:
    return any(known.startswith(f"{path}.") for known in KEYS)


def _misfit(file: str, key: str, value: object, form: keys.KeyForm) -> Problem:
    return Problem(file, key, shown(value), f"must be {form.value}", f"write {form.value}")


def _no_table(file: str, key: str, value: object) -> Problem:
    return Problem(file, key, shown(value), "must be a table", "put its keys below it")


def unknown(peer: Peer, tree: Mapping[str, Any]) -> Iterator[AuditFinding]:
    """Keys that dfdaemon does not know: it says nothing about them."""
    for path, value in flat(tree, _LEAVES):
        name = ALIASES.get(path, path)
        if name in KEYS or value is None or _is_table(path):
            continue
        if peer.helm and path in keys.CHART_ONLY:
            continue
        near = difflib.get_close_matches(path, KEYS, n=1, cutoff=0.8)
        yield _unknown(f"{peer.prefix}{path}", value, peer.name(near[0]) if near else "")
    rules = peer.value("proxy.rules")
    for index, rule in enumerate(rules if isinstance(rules, Sequence) else ()):
        at = f"{peer.prefix}proxy.rules[{index}]"
        for key in (key for key in rule if key not in keys.RULE_KEYS):
            near = difflib.get_close_matches(
                key.lower(), [known.lower() for known in keys.RULE_KEYS], n=1, cutoff=0.8
            )
            right = next((f"{at}.{known}" for known in keys.RULE_KEYS if [known.lower()] == near), "")
            yield _unknown(f"{at}.{key}", rule[key], right)


def _unknown(key: str, value: object, near: str) -> AuditFinding:
    why = "Client v1.5.10 has no such key, and ignores it without a word."
    change = f"rename it to {near}" if near else f"remove {key}"
    return AuditFinding("unknown-key", Severity.ADVICE, key, shown(value), near or "none", why, change)


def _of_values(
    file: str, tree: Mapping[str, Any], config: Config, problems: list[Problem]
) -> Iterator[AuditFinding | NotLooked]:
    """The chart's values: both kinds of peers, their volumes, and the scheduler."""
    parts = {name: _table(file, tree, name, problems) for name in ("client", "seedClient", "scheduler")}
    configs = {
        name: _table(file, parts[name], "config", problems, f"{name}.") for name in ("client", "seedClient")
    }
    on = {name: _enabled(file, name, parts[name], problems) for name in configs}
    for name, defaults in (("client", keys.CHART_CLIENT), ("seedClient", keys.CHART_SEED)):
        if not on[name]:
            continue
        tree_of = configs[name]
        written = _settings(file, tree_of, f"{name}.config.", problems)
        serves = name == "client" or not on["client"]
        peer = Peer(written, defaults, "the chart's", f"{name}.config.", _UPGRADE, helm=True, serves=serves,
                    away=serves and name == "seedClient")  # fmt: skip
        yield from _of_peer(peer, config)
        yield from checks.listeners(peer)
        yield from unknown(peer, tree_of)
        yield from _volumes(name, parts[name], str(peer.value("storage.dir")))
        yield from checks.own_server(peer, _tag(parts[name]))
    if any(on.values()):
        yield from _log_level(file, configs["client"], problems)
    if not on["client"]:
        yield _no_peer(parts["client"])
    yield from _scheduler(file, parts["scheduler"], problems)


def _log_level(file: str, client: Mapping[str, Any], problems: list[Problem]) -> Iterator[AuditFinding]:
    """The chart starts both kinds of peers with the level of the clients."""
    key = "client.config.log.level"
    written = _table(file, client, "log", problems, "client.config.").get("level")
    if not keys.KeyForm.LEVEL.takes(written):
        problems.append(_misfit(file, key, written, keys.KeyForm.LEVEL))
    elif tells_headers(str(written or keys.CHART_LOG_LEVEL)):
        value = f"{keys.CHART_LOG_LEVEL} (the chart's default)" if written is None else shown(written)
        why = (
            f"{checks.TELLS_HEADERS} Seed peers get this level too, whatever seedClient.config.log.level "
            f"says."
        )
        yield AuditFinding("log-level", Severity.TRAP, key, value, "warn", why,
                      f"set {key}: warn, then {_UPGRADE}; {checks.WRITTEN}")  # fmt: skip


def _table(
    file: str, tree: Mapping[str, Any], name: str, problems: list[Problem], prefix: str = ""
) -> Mapping[str, Any]:
    value = tree.get(name)
    if value is None or isinstance(value, Mapping):
        return value or {}
    problems.append(_no_table(file, f"{prefix}{name}", value))
    return {}


def _enabled(file: str, name: str, table: Mapping[str, Any], problems: list[Problem]) -> bool:
    value = table.get("enable")
    if value is None or isinstance(value, bool):
        return value is not False
    problems.append(_misfit(file, f"{name}.enable", value, keys.KeyForm.BOOL))
    return False


def _tag(table: Mapping[str, Any]) -> str:
    """The release of dfdaemon, as the image's tag tells it."""
    image = table.get("image")
    tag = image.get("tag") if isinstance(image, Mapping) else None
    return keys.CHART_TAG if tag is None else str(tag)


def _no_peer(client: Mapping[str, Any]) -> AuditFinding:
    why = (
        "No node has a peer of its own: the agent's mirror is elsewhere, its owner and processes are "
        "unknown, and the "
        "page's Service and check, which want client pods, find none."
    )
    return AuditFinding("peers", Severity.TRAP, "client.enable", shown(client.get("enable")), "true", why,
                   f"set client.enable: true, then {_UPGRADE}")  # fmt: skip


def _volumes(name: str, table: Mapping[str, Any], directory: str) -> Iterator[AuditFinding]:
    """Storage that goes with the pod."""
    if name == "seedClient":
        kept = table.get("persistence")
        if isinstance(kept, Mapping) and kept.get("enable") is False:
            yield AuditFinding("volume", Severity.TRAP, "seedClient.persistence.enable", "false", "true",
                          "The seed peer's cache goes with its pod.",
                          f"set seedClient.persistence.enable: true, then {_UPGRADE}")  # fmt: skip
        return
    mounts = _listed(table, "extraVolumeMounts", keys.CHART_MOUNTS)
    volumes = _listed(table, "extraVolumes", keys.CHART_VOLUMES)
    held = [one for one in mounts if one.get("mountPath") and above(str(one["mountPath"]), directory)]
    nearest = max(held, key=lambda one: len(str(one["mountPath"])), default=None)
    volume = next(
        (one for one in volumes if nearest is not None and one.get("name") == nearest.get("name")), None
    )
    if nearest is not None and (volume is None or "emptyDir" not in volume):
        return
    whose = "" if isinstance(table.get("extraVolumes"), list) else " (the chart's default)"
    value = f"nothing at {directory}" if nearest is None else f"{nearest.get('name')}: emptyDir{whose}"
    yield AuditFinding("volume", Severity.TRAP, "client.extraVolumes", value, "a hostPath",
                       checks.GOES_WITH_POD,
                  f"set it as `nydus-agent dragonfly render helm-values` prints it, then "
                  f"{_UPGRADE}")  # fmt: skip


def _listed(
    table: Mapping[str, Any], key: str, default: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    value = table.get(key)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else default


_RETRIES = (
    ("retryBackToSourceLimit", 3, "so many tries to find a parent, and only then to the registry"),
    ("retryLimit", 5, "so many tries before scheduling fails"),
)


def _scheduler(file: str, table: Mapping[str, Any], problems: list[Problem]) -> Iterator[AuditFinding]:
    """The page's sixth practice."""
    config = _table(file, table, "config", problems, "scheduler.")
    written = _table(file, config, "scheduler", problems, "scheduler.config.")
    held = Peer(written, keys.CHART_SCHEDULER, "the chart's", "scheduler.config.scheduler.", _UPGRADE,
                helm=True,
                serves=False)  # fmt: skip
    for key, most, what in _RETRIES:
        value = held.value(key)
        if not keys.KeyForm.COUNT.takes(value):
            problems.append(_misfit(file, held.name(key), value, keys.KeyForm.COUNT))
        elif held.count(key) > most:
            why = f"The page's best practice: {what}. A read waits."
            yield held.finding("retries", Severity.ADVICE, key, str(most), why)
    key = "retryInterval"
    interval = seconds_of(str(held.value(key)))
    if interval is None:
        reason = "must be a duration such as 100ms"
        problems.append(Problem(file, held.name(key), shown(held.value(key)), reason, "write one"))
    elif interval > 0.1:
        why = "The page's best practice: a read waits this long between two tries to find a parent."
        yield held.finding("retry-interval", Severity.ADVICE, key, "100ms", why)


def judged_by_ping(config: Config, *, native: bool = False) -> Iterator[AuditFinding]:
    """dfdaemon's /healthy answers 200 as long as the process lives; `native`: the applied mode came to
    that.
    """
    if not native and config.mirror.switch is not Switch.NATIVE:
        return
    why = (
        f"{config.mirror.ping_url} answers 200 as long as dfdaemon's process lives, whatever its proxy, "
        f"disk and "
        "scheduler do; in mode native nydusd has nothing else to judge by. In mode fence the agent's "
        "canaries go "
        "through the data path."
    )
    yield AuditFinding("health", Severity.TRAP, "mirror.switch", "native", "auto", why,
                  'set mirror.switch = "auto" in agent.toml, then nydus-agent apply')  # fmt: skip
