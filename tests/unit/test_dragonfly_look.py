"""What a look at a running dfdaemon takes from the kernel, systemd and the process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.config.model import Config
from agent.dragonfly.command_line import DfdaemonLogLevel
from agent.dragonfly.live import LiveFacts
from agent.dragonfly.service import DfdaemonService
from agent.facts.node import Confinement, UnitFact, Unknown
from agent.node.dragonfly import read_dragonfly
from agent.ports import DragonflyPorts, SocketHolder
from tests.fakes.daemon import FakeTables
from tests.fakes.files import FakeFiles
from tests.fakes.http import FakeHttp, answer
from tests.fakes.units import FakeUnits, unit


class OneHolder:
    """All sockets are one process's."""

    def __init__(self, holder: SocketHolder | None) -> None:
        self._holder = holder

    def of(self, inode: int) -> SocketHolder | None:
        """See ports.SocketHolders."""
        return self._holder if inode else None


def looked(
    holder: SocketHolder | None, service: UnitFact | None = None, *, listens: bool = True
) -> LiveFacts:
    """A dfdaemon with this process and this unit; its file is its container's own."""
    tables = FakeTables()
    if listens:
        tables.held[4001] = 0
    here = FakeFiles({})
    own = FakeFiles({"/etc/d.yaml": b"storage: {dir: /var/lib/dragonfly}"})
    http = FakeHttp()
    http.on("http://127.0.0.1:4002/metrics", answer(body=b"x 1"))
    units = FakeUnits([service] if service else [])
    ports = DragonflyPorts(tables, OneHolder(holder), units, http, lambda pid: here if pid == 1 else own)
    return read_dragonfly(Config(), ports, native=False)


POD_PROCESS = SocketHolder(71, ("dfdaemon", "--log-level=info", "-c", "/etc/d.yaml"), "", {})
SERVICE = SocketHolder(
    71, ("dfdaemon", "--config", "/etc/d.yaml"), "d.service", {"DFDAEMON_LOG_LEVEL": "warn"}
)


def test_a_dfdaemon_in_a_pod_is_looked_at_by_its_own_files() -> None:
    facts = looked(POD_PROCESS)
    assert not isinstance(facts.settings, Unknown)
    assert (facts.file, facts.own.storage) == ("/etc/d.yaml", "/var/lib/dragonfly")
    assert (facts.service, facts.log_level) == (None, DfdaemonLogLevel("info", "--log-level"))


def test_a_dfdaemon_of_a_unit_is_looked_at_with_it() -> None:
    held = Confinement(user="dragonfly", protect_system="strict")
    facts = looked(
        SERVICE, replace(unit("d.service", active=True, pid=71), restart="always", confinement=held)
    )
    assert facts.service == DfdaemonService("d.service", "always", "", held)
    assert facts.log_level == DfdaemonLogLevel("warn", "DFDAEMON_LOG_LEVEL")


def test_a_process_that_may_not_be_seen_is_unknown_and_not_as_by_default() -> None:
    facts = looked(None)
    assert isinstance(facts.settings, Unknown)
    assert isinstance(facts.log_level, Unknown)


@pytest.mark.parametrize(
    ("limit", "restart_us", "told"),
    [
        ((5, 10_000_000), 100_000, "after 5 starts within 10 s"),  # systemd's defaults
        ((5, 10_000_000), 2_000_000, ""),
        ((5, 0), 100_000, ""),
        ((0, 10_000_000), 100_000, ""),
    ],
)
def test_a_unit_is_given_up_where_its_starts_take_less_than_the_limits_time(
    limit: tuple[int, int], restart_us: int, told: str
) -> None:
    service = replace(unit("d.service"), restart="always", start_limit=limit, restart_us=restart_us)
    found = looked(SERVICE, service).service
    assert isinstance(found, DfdaemonService)
    assert found.gives_up == told


def test_a_dfdaemon_that_does_not_run_is_looked_at_by_how_its_unit_would_start_it() -> None:
    """Its file and its log's directory may be others, and why it is gone."""
    command = ("/usr/bin/dfdaemon", "--config", "/etc/d.yaml", "--log-dir=/srv/logs")
    facts = looked(None, replace(unit("dfdaemon.service"), command=command), listens=False)
    assert (facts.runs, facts.file, facts.logs) == (False, "/etc/d.yaml", "/srv/logs")
