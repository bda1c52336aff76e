"""What is to be seen of the dfdaemon that runs on this node. Asks the ports, changes nothing; what cannot be seen is
unknown, with the reason.
"""

from __future__ import annotations

from agent.config.forms import endpoint_of
from agent.config.model import Config
from agent.dragonfly.command_line import log_level
from agent.dragonfly.live import DEFAULT_CONFIG, SERVERS, UNIT, LiveFacts, ca_of, config_of, storage_of
from agent.dragonfly.place import Place, place_of
from agent.dragonfly.site import STATS_PORT
from agent.errors import FileError, HttpError, PortError
from agent.node.facts import UnitFact, Unknown
from agent.ports import Files
from agent.ports_dragonfly import DragonflyPorts, Holder

_INIT = 1
_LONGEST = 1 << 20
_ASK_S = 3.0
_METRICS_BYTES = 8 << 20


def look(config: Config, ports: DragonflyPorts, *, native: bool) -> LiveFacts:
    """Everything; `native`: the mode in force. Raises nothing but what is a bug."""
    ends = {"proxy": endpoint_of(config.mirror.url), "health": endpoint_of(config.mirror.ping_url),
            "metrics": endpoint_of(config.mirror.metrics_url), "stats": ("", STATS_PORT)}  # fmt: skip
    there = {name: _listening(ports, end[1]) if end else Unknown("it has no port") for name, end in ends.items()}
    proxy = there["proxy"]
    inode = proxy[0][1] if isinstance(proxy, tuple) and proxy else 0
    runs = inode != 0
    holder = ports.holders.of(inode) if runs else None
    unit = holder.unit if holder else UNIT
    service = _service(ports, unit)
    file = config_of(holder.argv, holder.environment) if holder else DEFAULT_CONFIG
    files = ports.files_of(holder.pid if holder else _INIT)
    hidden = runs and holder is None
    unseen = Unknown("the process that listens is not to be seen from here")
    text = unseen if hidden else _text(files, file)
    return LiveFacts(
        runs=runs,
        file=file,
        text=text,
        listening={name: _addresses(there[name]) for name in SERVERS},
        unit=unit if service is not None else "",
        restart=service.restart if isinstance(service, UnitFact) else service or "",
        metrics=_metrics(ports, config.mirror.metrics_url),
        arch=ports.machine.arch,
        page_bytes=ports.machine.page_bytes,
        native=native,
        log_level=log_level(holder.argv, holder.environment) if holder else unseen,
        lost_ca="" if isinstance(text, Unknown) else _lost(files, ca_of(text)),
        cache=_cache(ports, holder, text),
        writes_anywhere=isinstance(service, UnitFact) and service.protect_system != "strict",
        gives_up=_gives_up(service) if isinstance(service, UnitFact) else "",
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


def _gives_up(service: UnitFact) -> str:
    """Whether one that ends at once is given up: as many starts as the limit allows take less than its time."""
    starts, within_us = service.start_limit
    if not starts or starts * service.restart_us >= within_us:
        return ""
    return f"after {starts} starts within {within_us / 1e6:g} s"


def _cache(ports: DragonflyPorts, holder: Holder | None, text: str | Unknown) -> Place:
    """What the running dfdaemon's pieces lie on."""
    if holder is None or isinstance(text, Unknown):
        return Place.KEPT
    try:
        table = ports.files_of(_INIT).head(f"/proc/{holder.pid}/mountinfo", _LONGEST)
    except FileError:
        return Place.KEPT
    return place_of((table or b"").decode(errors="replace"), storage_of(text), contained=not holder.unit)


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
