"""An audit of the dfdaemon that runs: what kernel, systemd and the process tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.config.model import Config
from agent.dragonfly.command_line import (
    DEFAULT_CONFIG,
    DfdaemonLogLevel,
    config_of,
    environment_of,
    log_level,
)
from agent.dragonfly.live import DfdaemonFile, DfdaemonService, LiveFacts, report
from agent.dragonfly.render import FileForm
from agent.dragonfly.settings import AuditReport
from agent.facts.node import Confinement, UnitFact, Unknown
from agent.node.dragonfly import read_dragonfly
from agent.ports import DragonflyPorts, SocketHolder
from tests.fakes.daemon import FakeTables
from tests.fakes.files import FakeFiles
from tests.fakes.http import FakeHttp, answer
from tests.fakes.units import FakeUnits, unit
from tests.unit.test_dragonfly_render import document

METRICS = """\
# TYPE dragonfly_client_version gauge
dragonfly_client_version{build_platform="x",git_commit="y",git_version="1.5.10"} 1
dragonfly_client_proxy_request_rate_limited_total 0
"""
OURS = document(FileForm.DFDAEMON).text()
HELD = Confinement(
    protect_system="strict", protect_home="read-only", protect_tunables=True, private_devices=True,
    writable=("-/var/lib/dragonfly/", "-/run/dragonfly", "-/var/log/dragonfly", "-/var/cache/dragonfly"),
)  # fmt: skip
"""As our drop-in has it."""
SERVICE = DfdaemonService("dfdaemon.service", "always", "", HELD)
WELL = LiveFacts(
    runs=True,
    file=DEFAULT_CONFIG,
    settings=DfdaemonFile.of(DEFAULT_CONFIG, OURS),
    listening=dict.fromkeys(("proxy", "health", "metrics", "stats"), ("127.0.0.1",)),
    service=SERVICE,
    metrics=METRICS,
    native=False,
    log_level=DfdaemonLogLevel("warn", "DFDAEMON_LOG_LEVEL"),
)


def seen(**changes: Any) -> AuditReport:
    """`text`: what its file holds; `unit`: changes of its unit; `held`: of what its unit lets it write."""
    if "text" in changes:
        changes["settings"] = DfdaemonFile.of(DEFAULT_CONFIG, changes.pop("text"))
    if "held" in changes:
        changes["unit"] = {"confinement": changes.pop("held")}
    if "unit" in changes:
        changes["service"] = replace(SERVICE, **changes.pop("unit"))
    made = report(replace(WELL, **changes), Config())
    assert isinstance(made, AuditReport), made
    return made


def items(**changes: Any) -> set[str]:
    return {one.item for one in seen(**changes).findings}


def listening(**addresses: object) -> dict[str, object]:
    return {**WELL.listening, **addresses}


def test_a_dfdaemon_that_is_as_ours_has_nothing_and_all_was_told() -> None:
    assert (seen().findings, seen().untold) == ((), ())
    assert seen().subject == "dfdaemon 1.5.10 on this node (/etc/dragonfly/dfdaemon.yaml)"


LOCKED = "proxy: {server: {basicAuth: {username: a, password: b}}}"


@pytest.mark.parametrize(
    ("item", "changes"),
    [
        ("open-proxy", {"listening": listening(proxy=("0.0.0.0",))}),
        ("stats-address", {"listening": listening(stats=("127.0.0.1", "::"))}),
        ("unit", {"unit": {"restart": "on-success"}}),
        ("unit", {"unit": {"restart": "on-abnormal"}}),  # no scheduler at boot is exit status 1
        ("unit", {"unit": {"gives_up": "after 5 starts within 10 s"}}),
        ("refused", {"metrics": METRICS.replace("limited_total 0", 'limited_total{a="b"} 7')}),
        ("health", {"native": True}),
        ("log-level", {"log_level": DfdaemonLogLevel("info", "")}),
        ("root-writes", {"held": Confinement()}),
        ("certificate", {"lost_ca": "/nowhere.pem"}),
        ("prefetch", {"text": OURS.replace("prefetch: true", "prefetch: false")}),
        ("", {"unit": {"restart": "on-failure"}}),
        ("", {"service": None}),  # a container's: its runtime starts it again
        ("", {"held": replace(HELD, user="dragonfly")}),
        ("", {"held": Confinement(user="dragonfly")}),  # it cannot write as root
    ],
)
def test_each_thing_is_found_where_it_is_seen(item: str, changes: dict[str, Any]) -> None:
    assert items(**changes) == ({item} if item else set())


def test_what_the_kernel_says_counts_and_not_what_the_file_says() -> None:
    """The file may have been edited since the start."""
    assert items(text="proxy: {server: {ip: 0.0.0.0}}").isdisjoint({"open-proxy", "stats-address"})
    assert "open-proxy" not in items(text=LOCKED, listening=listening(proxy=("0.0.0.0",)))


@pytest.mark.parametrize(
    ("item", "changes"),
    [
        ("configuration", {"settings": Unknown("it is not there")}),
        ("open-proxy", {"listening": listening(proxy=Unknown("the kernel did not tell"))}),
        ("unit", {"service": Unknown("no bus")}),
        ("refused", {"metrics": Unknown("refused")}),
        ("log-level", {"log_level": Unknown("not to be seen")}),
        ("dfdaemon", {"runs": False}),
    ],
)
def test_what_could_not_be_read_is_untold_and_never_taken_for_right(
    item: str, changes: dict[str, Any]
) -> None:
    assert item in {one.item for one in seen(**changes).untold}
    assert items(**changes) == set()


def test_a_running_dfdaemons_file_that_it_could_not_read_is_told_by_key() -> None:
    found = report(replace(WELL, settings=DfdaemonFile.of(DEFAULT_CONFIG, "proxy: {prefetch: 3}")), Config())
    assert isinstance(found, tuple)
    assert str(found[0]).startswith(f"{DEFAULT_CONFIG}: proxy.prefetch = 3: must be true or false")


@pytest.mark.parametrize(
    ("argv", "environment", "file"),
    [
        (("dfdaemon", "--config", "/a.yaml", "--console"), {}, "/a.yaml"),
        (("dfdaemon", "--config=/b.yaml"), {"DFDAEMON_CONFIG": "/env.yaml"}, "/b.yaml"),
        (("dfdaemon", "-c", "/c.yaml"), {}, "/c.yaml"),
        (("dfdaemon",), {"DFDAEMON_CONFIG": "/env.yaml"}, "/env.yaml"),
        (("dfdaemon", "--config"), {}, DEFAULT_CONFIG),
    ],
)
def test_the_file_is_the_one_that_it_was_started_with(
    argv: tuple[str, ...], environment: dict[str, str], file: str
) -> None:
    assert config_of(argv, environment) == file


@pytest.mark.parametrize(
    ("options", "environment", "level", "source"),
    [
        ("--config /a.yaml --console", "HOME=/root", "info", ""),
        ("--log-level=Error", "DFDAEMON_LOG_LEVEL=info", "Error", "--log-level"),
        ("-l debug", "", "debug", "--log-level"),
        ("-lwarn", "", "warn", "--log-level"),
        ("", "DFDAEMON_LOG_LEVEL=2 A=b", "2", "DFDAEMON_LOG_LEVEL"),
        ("--log-level warn", "RUST_LOG=info", "warn", "--log-level"),
        ("--log-level warn", "RUST_LOG=h2=debug,dragonfly_client::proxy=info", "dragonfly_client::proxy=info",
         "RUST_LOG"),
        ("", "RUST_LOG=dragonfly_client=warn DFDAEMON_LOG_LEVEL=warn", "warn", "DFDAEMON_LOG_LEVEL"),
    ],
)  # fmt: skip
def test_the_log_level_is_the_one_that_dfdaemon_makes_of_options_and_environment(
    options: str, environment: str, level: str, source: str
) -> None:
    """As client v1.5.10 does: each of these was tried with the program."""
    block = environment.replace(" ", "\0").encode() + b"\0"
    assert log_level(["dfdaemon", *options.split()], environment_of(block)) == DfdaemonLogLevel(level, source)


@pytest.mark.parametrize("level", ["error", "WARN", "2", "info", "3", "Debug", "dragonfly_client=info"])
def test_credentials_are_written_at_info_and_beyond(level: str) -> None:
    assert DfdaemonLogLevel(level, "").tells_headers is (level not in ("error", "WARN", "2"))


@pytest.mark.parametrize(
    ("unit", "source", "change"),
    [
        ("dfdaemon.service", "", "mkdir -p /etc/systemd/system/dfdaemon.service.d && nydus-agent"),
        ("dfdaemon.service", "DFDAEMON_LOG_LEVEL", "mkdir -p /etc/systemd/system/"),
        ("d.service", "--log-level", "take --log-level out of d.service; mkdir -p"),
        ("", "--log-level", "set client.config.log.level: warn in the chart's values"),
    ],
)
def test_how_the_log_is_made_quieter_goes_by_what_made_it_tell(unit: str, source: str, change: str) -> None:
    service = replace(SERVICE, name=unit) if unit else None
    (one,) = seen(service=service, log_level=DfdaemonLogLevel("info", source)).findings
    assert one.change.startswith(change)


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"text": "storage: {dir: /var/lib/dragonfly}"}, "render dfdaemon-unit >"),
        ({"text": "storage: {dir: /srv/pieces}"}, "--dfdaemon /etc/dragonfly/dfdaemon.yaml >"),
        ({"text": "download: {server: {socketPath: /run/peer/d.sock}}"}, "--dfdaemon /etc/dragonfly/"),
        ({"text": "download: {server: {socketPath: /var/run/dragonfly/o.sock}}"}, "render dfdaemon-unit >"),
        ({"logs": "/srv/logs"}, "render dfdaemon-unit --log-dir /srv/logs >"),
    ],
)
def test_the_drop_in_that_mends_a_unit_lets_dfdaemon_write_where_this_one_has_its_files(
    changes: dict[str, Any], command: str
) -> None:
    """Without, dfdaemon would not start any more."""
    found = seen(**changes, unit={"restart": "no", "confinement": Confinement()}).findings
    mended = [one.change for one in found if "render dfdaemon-unit" in one.change]
    assert mended
    assert [one for one in mended if command not in one] == []
    (other,) = seen(unit={"restart": "no", "confinement": replace(HELD, user="dragonfly")}).findings
    assert "render dfdaemon-unit --user dragonfly >" in other.change


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"protect_system": "full"}, "ProtectSystem", "not strict"),
        ({"protect_home": ""}, "ProtectHome", "/root, /home can be written to"),
        ({"private_devices": False}, "PrivateDevices", "/dev can be written to"),
        ({"protect_tunables": False}, "ProtectKernelTunables", "/proc/sys, /sys can be written to"),
        (
            {"writable": ("/var/lib/dragonfly", "/run", "/var/log")},
            "ReadWritePaths",
            "/run/systemd can be written to",
        ),
    ],
)
def test_a_unit_that_lets_whoever_asks_write_as_root_is_found_with_the_setting(
    changes: dict[str, Any], key: str, value: str
) -> None:
    """systemd's "strict" leaves the homes, /proc, /sys and /dev to settings of their own."""
    (one,) = seen(held=replace(HELD, **changes)).findings
    assert (one.item, one.key, one.value) == ("root-writes", f"dfdaemon.service: {key}", value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": OURS.replace("dir: /var/lib/dragonfly/", "dir: /srv/pieces")}, "/srv/pieces (storage.dir)"),
        (
            {"text": f"{OURS}\n".replace("download:", "download:\n  server: {socketPath: /srv/peer/d.sock}")},
            "/srv/peer (download.server.socketPath)",
        ),
        ({"logs": "/srv/logs"}, "/srv/logs (--log-dir)"),
        ({"held": replace(HELD, writable=HELD.writable[1:])}, "/var/lib/dragonfly/ (storage.dir)"),
    ],
)
def test_a_unit_that_keeps_dfdaemon_from_its_own_directories_is_found_before_it_fails_to_start(
    changes: dict[str, Any], told: str
) -> None:
    (one,) = seen(**changes).findings
    assert (one.item, one.value) == ("directories", f"does not have {told}")


# What is taken from the node


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
    here, own = FakeFiles({}), FakeFiles({"/etc/d.yaml": b"storage: {dir: /srv/pieces}"})
    http = FakeHttp()
    http.on("http://127.0.0.1:4002/metrics", answer(body=b"x 1"))
    units = FakeUnits([service] if service else [])
    ports = DragonflyPorts(tables, OneHolder(holder), units, http, lambda pid: here if pid == 1 else own)
    return read_dragonfly(Config(), ports, native=False)


POD_PROCESS = SocketHolder(71, ("dfdaemon", "--log-level=info", "-c", "/etc/d.yaml"), "", {})
PROCESS = SocketHolder(
    71, ("dfdaemon", "--config", "/etc/d.yaml"), "d.service", {"DFDAEMON_LOG_LEVEL": "warn"}
)


def test_a_dfdaemon_in_a_pod_is_looked_at_by_its_own_files() -> None:
    facts = looked(POD_PROCESS)
    assert not isinstance(facts.settings, Unknown)
    assert (facts.file, facts.settings.storage) == ("/etc/d.yaml", "/srv/pieces")
    assert (facts.service, facts.log_level) == (None, DfdaemonLogLevel("info", "--log-level"))


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
    facts = looked(PROCESS, replace(service, confinement=HELD))
    assert facts.service == DfdaemonService("d.service", "always", told, HELD)
    assert facts.log_level == DfdaemonLogLevel("warn", "DFDAEMON_LOG_LEVEL")


def test_a_dfdaemon_that_does_not_run_is_looked_at_by_how_its_unit_would_start_it() -> None:
    """Its file and its log's directory may be others, and why it is gone."""
    command = ("/usr/bin/dfdaemon", "--config", "/etc/d.yaml", "--log-dir=/srv/logs")
    facts = looked(None, replace(unit("dfdaemon.service"), command=command), listens=False)
    assert (facts.runs, facts.file, facts.logs) == (False, "/etc/d.yaml", "/srv/logs")
