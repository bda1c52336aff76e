"""What is to be seen of the dfdaemon that runs on this node. Asks the ports, changes nothing; what cannot be
seen is unknown, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.config.forms import endpoint_of
from agent.config.model import Config
from agent.dragonfly.checks import LISTENERS
from agent.dragonfly.command_line import config_of, log_level, logs_of
from agent.dragonfly.live import UNIT, DfdaemonFile, DfdaemonService, LiveFacts, gives_up
from agent.dragonfly.site import STATS_PORT
from agent.errors import FileError, HttpError, PortError
from agent.facts.node import UnitFact, Unknown
from agent.ports import DragonflyPorts, Files, SocketHolder

_INIT = 1
_LONGEST = 1 << 20
_ASK_S = 3.0
_METRICS_BYTES = 8 << 20


def read_dragonfly(config: Config, ports: DragonflyPorts, *, native: bool) -> LiveFacts:
    """Everything; `native`: the mode in force. Raises nothing but what is a bug."""
    ends = {"proxy": endpoint_of(config.mirror.url), "health": endpoint_of(config.mirror.ping_url),
            "metrics": endpoint_of(config.mirror.metrics_url), "stats": ("", STATS_PORT)}  # fmt: skip
    there = {
        name: _listening(ports, end[1]) if end else Unknown("it has no port") for name, end in ends.items()
    }
    proxy = there["proxy"]
    inode = proxy[0][1] if isinstance(proxy, tuple) and proxy else 0
    runs = inode != 0
    holder = ports.holders.of(inode) if runs else None
    service = _service(ports, holder.unit if holder else UNIT)
    argv, environment = _started(holder, service)
    file = config_of(argv, environment)
    files = ports.files_of(holder.pid if holder else _INIT)
    hidden = runs and holder is None
    unseen = Unknown("the process that listens is not to be seen from here")
    text = unseen if hidden else _text(files, file)
    settings = text if isinstance(text, Unknown) else DfdaemonFile.of(file, text)
    return LiveFacts(
        runs=runs,
        file=file,
        settings=settings,
        listening={name: _addresses(there[name]) for name in LISTENERS},
        service=_told(service),
        metrics=_metrics(ports, config.mirror.metrics_url),
        native=native,
        log_level=log_level(holder.argv, holder.environment) if holder else unseen,
        logs=logs_of(argv, environment),
        lost_ca="" if isinstance(settings, Unknown) else _lost(files, settings.ca),
    )


_Rows = tuple[tuple[str, int], ...] | Unknown
"""(address, inode) of each listening socket."""


def _listening(ports: DragonflyPorts, port: int) -> _Rows:
    try:
        return tuple((address, inode) for address, _, inode in ports.tables.listening(port))
    except PortError as error:
        return Unknown(str(error))


def _addresses(rows: _Rows) -> tuple[str, ...] | Unknown:
    return rows if isinstance(rows, Unknown) else tuple(address for address, _ in rows)


def _service(ports: DragonflyPorts, unit: str) -> UnitFact | Unknown | None:
    """None where there is no unit."""
    try:
        return ports.units.get(unit) if unit else None
    except PortError as error:
        return Unknown(str(error))


def _started(
    holder: SocketHolder | None, service: UnitFact | Unknown | None
) -> tuple[Sequence[str], Mapping[str, str]]:
    """How it was started, or would be by its unit; no words where neither can be seen."""
    if holder is not None:
        return holder.argv, holder.environment
    if not isinstance(service, UnitFact):
        return (), {}
    return service.command, dict(one.partition("=")[::2] for one in service.environment)


def _told(service: UnitFact | Unknown | None) -> DfdaemonService | Unknown | None:
    if not isinstance(service, UnitFact):
        return service
    given_up = gives_up(*service.start_limit, service.restart_us)
    return DfdaemonService(service.name, service.restart, given_up, service.confinement)


def _text(files: Files, file: str) -> str | Unknown:
    """The file as its process sees it: it may be a container's."""
    try:
        fact = files.read(file)
    except FileError as error:
        return Unknown(str(error))
    if fact is None:
        return Unknown("it is not there")
    if len(fact.content) > _LONGEST:
        return Unknown("it is longer than a configuration is")
    return fact.content.decode(errors="replace")


def _lost(files: Files, path: str) -> str:
    """A path that leads to no file for the process; "" where it does, or cannot be looked at."""
    if not path.startswith("/"):
        return ""
    try:
        gone = files.head(path, 1) is None
    except FileError:
        return ""
    return path if gone else ""


def _metrics(ports: DragonflyPorts, url: str) -> str | Unknown:
    try:
        answer = ports.http.get(url, deadline_s=_ASK_S, body_cap=_METRICS_BYTES)
    except HttpError as error:
        return Unknown(str(error))
    if answer.status != 200:
        return Unknown(f"{url} answers {answer.status}")
    return answer.body.decode(errors="replace")
