"""An audit of the dfdaemon that runs: what kernel, systemd and metrics say beside its file, and what they do not."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config.model import Config
from agent.dataclass import replace
from agent.dragonfly.command_line import LogLevel, environment_of, log_level
from agent.dragonfly.findings import Report
from agent.dragonfly.live import DEFAULT_CONFIG, LiveFacts, ca_of, config_of, report
from agent.dragonfly.place import Place
from agent.dragonfly.render import Form
from agent.errors import Problem
from agent.node.facts import Unknown
from tests.unit.test_dragonfly_render import document

LOOPBACK = ("127.0.0.1",)
METRICS = """\
# TYPE dragonfly_client_version gauge
dragonfly_client_version{build_platform="x",git_commit="y",git_version="1.5.10"} 1
dragonfly_client_proxy_request_total 90
dragonfly_client_proxy_request_rate_limited_total 0
"""
OURS = document(Form.DFDAEMON).text()
WELL = LiveFacts(
    runs=True,
    file="/etc/dragonfly/dfdaemon.yaml",
    text=OURS,
    listening=dict.fromkeys(("proxy", "health", "metrics", "stats"), LOOPBACK),
    unit="dfdaemon.service",
    restart="always",
    metrics=METRICS,
    arch="x86_64",
    page_bytes=4096,
    native=False,
    log_level=LogLevel("warn", "DFDAEMON_LOG_LEVEL"),
)


def seen(**changes: Any) -> Report:
    made = report(replace(WELL, **changes), Config())
    assert isinstance(made, Report), made
    return made


def items(**changes: Any) -> set[str]:
    return {one.item for one in seen(**changes).findings}


def untold(**changes: Any) -> set[str]:
    return {one.item for one in seen(**changes).untold}


def listening(**addresses: object) -> dict[str, object]:
    return {**WELL.listening, **addresses}


def test_a_dfdaemon_that_is_as_ours_has_nothing_and_all_was_told() -> None:
    assert (items(), untold()) == (set(), set())
    assert seen().subject == "dfdaemon 1.5.10 on this node (/etc/dragonfly/dfdaemon.yaml)"


@pytest.mark.parametrize(
    ("item", "changes"),
    [
        ("open-proxy", {"listening": listening(proxy=("0.0.0.0",))}),
        ("stats-address", {"listening": listening(stats=("127.0.0.1", "::"))}),
        ("health-address", {"listening": listening(health=("10.0.0.2",))}),
        ("metrics-address", {"listening": listening(metrics=("fe80::1",))}),
        ("unit", {"restart": "on-success"}),
        ("unit", {"restart": "no"}),
        ("unit", {"restart": "on-abnormal"}),  # no scheduler at boot is exit status 1
        ("refused", {"metrics": METRICS.replace("limited_total 0", 'limited_total{a="b"} 7')}),
        ("health", {"native": True}),
        ("log-level", {"log_level": LogLevel("info", "")}),
        ("root-writes", {"writes_anywhere": True}),
        ("unit", {"gives_up": "after 5 starts within 10 s"}),
        ("volume", {"cache": Place.POD}),
        ("volume", {"cache": Place.LAYER}),
        ("storage", {"cache": Place.MEMORY}),
        ("certificate", {"lost_ca": "/nowhere.pem"}),
        ("prefetch", {"text": document(Form.DFDAEMON).text().replace("prefetch: true", "prefetch: false")}),
        ("pages", {"runs": False, "arch": "aarch64", "page_bytes": 65536}),
    ],
)
def test_each_thing_is_found_where_it_is_seen(item: str, changes: dict[str, Any]) -> None:
    assert items(**changes) == {item}


def test_what_the_kernel_says_counts_and_not_what_the_file_says() -> None:
    """The file may have been edited since the start."""
    assert items(text="proxy: {server: {ip: 0.0.0.0}}").isdisjoint({"open-proxy", "stats-address"})


def test_a_directory_in_memory_is_told_once() -> None:
    text = OURS.replace("dir: /var/lib/dragonfly/", "dir: /run/dragonfly")
    found = seen(text=text, cache=Place.MEMORY).findings
    assert [one.item for one in found] == ["storage"]


@pytest.mark.parametrize(("unit", "change"), [("dfdaemon.service", "set storage.dir in /etc/"), ("", "a hostPath")])
def test_a_cache_in_memory_is_moved_by_what_runs_dfdaemon(unit: str, change: str) -> None:
    (one,) = seen(unit=unit, cache=Place.MEMORY).findings
    assert change in one.change


def test_a_proxy_that_wants_a_password_is_not_open_wherever_it_listens() -> None:
    locked = "proxy: {server: {basicAuth: {username: a, password: b}}}"
    assert "open-proxy" not in items(text=locked, listening=listening(proxy=("0.0.0.0",)))


def test_large_pages_are_no_harm_to_a_dfdaemon_that_runs_nor_on_another_processor() -> None:
    assert items(arch="aarch64", page_bytes=65536) == set()
    assert items(runs=False, arch="x86_64", page_bytes=65536) == set()
    assert items(runs=False, arch="aarch64", page_bytes=4096) == set()


@pytest.mark.parametrize("restart", ["always", "on-failure"])
def test_a_unit_that_starts_it_again_is_right(restart: str) -> None:
    assert items(restart=restart) == set()


def test_a_dfdaemon_in_a_container_is_its_runtimes_to_start_again() -> None:
    report = seen(unit="", restart="")
    assert (report.findings, report.untold) == ((), ())
    assert "unit" in {one.item for one in report.not_looked}


@pytest.mark.parametrize(
    ("item", "changes"),
    [
        ("configuration", {"text": Unknown("it is not there")}),
        ("open-proxy", {"listening": listening(proxy=Unknown("the kernel did not tell"))}),
        ("unit", {"restart": Unknown("no bus")}),
        ("refused", {"metrics": Unknown("refused")}),
        ("log-level", {"log_level": Unknown("not to be seen")}),
        ("dfdaemon", {"runs": False}),
    ],
)
def test_what_could_not_be_read_is_untold_and_never_taken_for_right(item: str, changes: dict[str, Any]) -> None:
    assert item in untold(**changes)
    assert items(**changes) == set()


def test_a_running_dfdaemons_file_that_it_could_not_read_is_told_by_key() -> None:
    found = report(replace(WELL, text="proxy: {prefetch: 3}"), Config())
    assert isinstance(found, tuple)
    assert isinstance(found[0], Problem)
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
        ("", "", "info", ""),
        ("--config /a.yaml --console", "HOME=/root", "info", ""),
        ("--log-level warn", "", "warn", "--log-level"),
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
    assert log_level(["dfdaemon", *options.split()], environment_of(block)) == LogLevel(level, source)


@pytest.mark.parametrize(
    ("level", "told"),
    [("error", False), ("warn", False), ("WARN", False), ("1", False), ("2", False), ("info", True), ("3", True),
     ("Debug", True), ("trace", True), ("dragonfly_client=info", True)],
)  # fmt: skip
def test_credentials_are_written_at_info_and_beyond(level: str, *, told: bool) -> None:
    assert LogLevel(level, "").tells_headers is told


def test_of_an_environment_only_what_dfdaemon_itself_reads_is_kept() -> None:
    assert environment_of(b"TOKEN=secret\0DFDAEMON_CONFIG=/a=b\0") == {"DFDAEMON_CONFIG": "/a=b"}


@pytest.mark.parametrize(
    ("unit", "level", "change"),
    [
        ("dfdaemon.service", LogLevel("info", ""), "mkdir -p /etc/systemd/system/dfdaemon.service.d && nydus-agent"),
        ("dfdaemon.service", LogLevel("info", "DFDAEMON_LOG_LEVEL"), "mkdir -p /etc/systemd/system/"),
        ("d.service", LogLevel("info", "--log-level"), "take --log-level out of d.service; mkdir -p"),
        ("", LogLevel("info", "--log-level"), "set client.config.log.level: warn in the chart's values"),
    ],
)
def test_how_the_log_is_made_quieter_goes_by_what_made_it_tell(unit: str, level: LogLevel, change: str) -> None:
    (one,) = seen(unit=unit, log_level=level).findings
    assert one.change.startswith(change)
    whose = level.source or "dfdaemon's default"
    assert one.value == f"info ({whose})"


@pytest.mark.parametrize(
    ("directory", "command"),
    [
        ("/var/lib/dragonfly/", "render dfdaemon-unit >"),
        ("/var/lib/dragonfly", "render dfdaemon-unit >"),
        ("/srv/pieces", "render dfdaemon-unit --storage /srv/pieces >"),
        ("/srv/a b", "render dfdaemon-unit --storage '/srv/a b' >"),
    ],
)
@pytest.mark.parametrize(
    "changes",
    [
        {"writes_anywhere": True}, {"restart": "no"}, {"gives_up": "after 5 starts within 10 s"},
        {"log_level": LogLevel("info", "")},
    ],
)  # fmt: skip
def test_the_drop_in_that_mends_a_unit_lets_it_write_where_this_dfdaemon_has_its_pieces(
    changes: dict[str, Any], directory: str, command: str
) -> None:
    """Without, dfdaemon would not start any more."""
    (one,) = seen(text=OURS.replace("dir: /var/lib/dragonfly/", f"dir: {directory}"), **changes).findings
    assert command in one.change


@pytest.mark.parametrize(
    ("text", "file"),
    [
        (WELL.text, "/etc/ssl/certs/ca-certificates.crt"),
        ("", ""),
        ("proxy: {registryMirror: {cert: }}", ""),
        ("proxy: {registryMirror: {cert: 7}}", ""),
        ("proxy: [", ""),
    ],
)
def test_the_file_of_cas_is_the_one_that_the_configuration_names(text: str, file: str) -> None:
    assert ca_of(text) == file
