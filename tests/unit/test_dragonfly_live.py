"""An audit of the dfdaemon that runs: what kernel, systemd and metrics say beside its file, and what they do
not.
"""

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
from agent.dragonfly.live import DfdaemonFile, LiveFacts, report
from agent.dragonfly.render import FileForm
from agent.dragonfly.service import DfdaemonService
from agent.dragonfly.settings import AuditReport, Severity
from agent.errors import Problem
from agent.facts.node import Confinement, Unknown
from tests.unit.test_dragonfly_render import document

LOOPBACK = ("127.0.0.1",)
METRICS = """\
# TYPE dragonfly_client_version gauge
dragonfly_client_version{build_platform="x",git_commit="y",git_version="1.5.10"} 1
dragonfly_client_proxy_request_total 90
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
    listening=dict.fromkeys(("proxy", "health", "metrics", "stats"), LOOPBACK),
    service=SERVICE,
    metrics=METRICS,
    native=False,
    log_level=DfdaemonLogLevel("warn", "DFDAEMON_LOG_LEVEL"),
)


def seen(**changes: Any) -> AuditReport:
    """`text`: what its file holds; `restart`, `gives_up`, `name`, `held`: changes of its unit."""
    if "text" in changes:
        changes["settings"] = DfdaemonFile.of(DEFAULT_CONFIG, changes.pop("text"))
    names = {"restart": "restart", "gives_up": "gives_up", "name": "name", "held": "confinement"}
    of_unit = {names[key]: changes.pop(key) for key in tuple(changes) if key in names}
    if of_unit:
        changes["service"] = replace(SERVICE, **of_unit)
    made = report(replace(WELL, **changes), Config())
    assert isinstance(made, AuditReport), made
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
        ("log-level", {"log_level": DfdaemonLogLevel("info", "")}),
        ("root-writes", {"held": Confinement()}),
        ("unit", {"gives_up": "after 5 starts within 10 s"}),
        ("certificate", {"lost_ca": "/nowhere.pem"}),
        (
            "prefetch",
            {"text": document(FileForm.DFDAEMON).text().replace("prefetch: true", "prefetch: false")},
        ),
    ],
)
def test_each_thing_is_found_where_it_is_seen(item: str, changes: dict[str, Any]) -> None:
    assert items(**changes) == {item}


def test_what_the_kernel_says_counts_and_not_what_the_file_says() -> None:
    """The file may have been edited since the start."""
    assert items(text="proxy: {server: {ip: 0.0.0.0}}").isdisjoint({"open-proxy", "stats-address"})


def test_a_proxy_that_wants_a_password_is_not_open_wherever_it_listens() -> None:
    locked = "proxy: {server: {basicAuth: {username: a, password: b}}}"
    assert "open-proxy" not in items(text=locked, listening=listening(proxy=("0.0.0.0",)))


@pytest.mark.parametrize("restart", ["always", "on-failure"])
def test_a_unit_that_starts_it_again_is_right(restart: str) -> None:
    assert items(restart=restart) == set()


def test_a_dfdaemon_in_a_container_is_its_runtimes_to_start_again() -> None:
    report = seen(service=None)
    assert (report.findings, report.untold) == ((), ())
    assert "unit" in {one.item for one in report.not_looked}


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
    assert item in untold(**changes)
    assert items(**changes) == set()


def test_a_running_dfdaemons_file_that_it_could_not_read_is_told_by_key() -> None:
    found = report(replace(WELL, settings=DfdaemonFile.of(DEFAULT_CONFIG, "proxy: {prefetch: 3}")), Config())
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
    assert log_level(["dfdaemon", *options.split()], environment_of(block)) == DfdaemonLogLevel(level, source)


@pytest.mark.parametrize(
    ("level", "told"),
    [("error", False), ("warn", False), ("WARN", False), ("1", False), ("2", False), ("info", True), ("3",
        True),
     ("Debug", True), ("trace", True), ("dragonfly_client=info", True)],
)  # fmt: skip
def test_credentials_are_written_at_info_and_beyond(level: str, *, told: bool) -> None:
    assert DfdaemonLogLevel(level, "").tells_headers is told


def test_of_an_environment_only_what_dfdaemon_itself_reads_is_kept() -> None:
    assert environment_of(b"TOKEN=secret\0DFDAEMON_CONFIG=/a=b\0") == {"DFDAEMON_CONFIG": "/a=b"}


@pytest.mark.parametrize(
    ("unit", "level", "change"),
    [
        (
            "dfdaemon.service",
            DfdaemonLogLevel("info", ""),
            "mkdir -p /etc/systemd/system/dfdaemon.service.d && nydus-agent",
        ),
        ("dfdaemon.service", DfdaemonLogLevel("info", "DFDAEMON_LOG_LEVEL"), "mkdir -p /etc/systemd/system/"),
        ("d.service", DfdaemonLogLevel("info", "--log-level"), "take --log-level out of d.service; mkdir -p"),
        (
            "",
            DfdaemonLogLevel("info", "--log-level"),
            "set client.config.log.level: warn in the chart's values",
        ),
    ],
)
def test_how_the_log_is_made_quieter_goes_by_what_made_it_tell(
    unit: str, level: DfdaemonLogLevel, change: str
) -> None:
    (one,) = seen(service=replace(SERVICE, name=unit) if unit else None, log_level=level).findings
    assert one.change.startswith(change)
    whose = level.source or "dfdaemon's default"
    assert one.value == f"info ({whose})"


OTHER = {
    "storage: {dir: /var/lib/dragonfly}": "render dfdaemon-unit >",
    "storage: {dir: /srv/pieces}": "render dfdaemon-unit --dfdaemon /etc/dragonfly/dfdaemon.yaml >",
    "server: {cacheDir: /srv/cache}": "render dfdaemon-unit --dfdaemon /etc/dragonfly/dfdaemon.yaml >",
    "download: {server: {socketPath: /run/peer/d.sock}}":
        "render dfdaemon-unit --dfdaemon /etc/dragonfly/dfdaemon.yaml >",
    "download: {server: {socketPath: /var/run/dragonfly/other.sock}}": "render dfdaemon-unit >",
}  # fmt: skip


@pytest.mark.parametrize(("text", "command"), OTHER.items(), ids=str)
@pytest.mark.parametrize(
    "changes",
    [
        {"held": Confinement()}, {"restart": "no", "held": Confinement()},
        {"log_level": DfdaemonLogLevel("info", "")},
        {"gives_up": "after 5 starts within 10 s", "held": Confinement()},
    ],
)  # fmt: skip
def test_the_drop_in_that_mends_a_unit_lets_dfdaemon_write_where_this_one_has_its_files(
    changes: dict[str, Any], text: str, command: str
) -> None:
    """Without, dfdaemon would not start any more."""
    mended = [
        one.change for one in seen(text=text, **changes).findings if "render dfdaemon-unit" in one.change
    ]
    assert mended
    assert [one for one in mended if command not in one] == []


def test_the_drop_in_that_mends_a_unit_knows_its_log_s_directory_and_whose_the_directories_are_to_be() -> (
    None
):
    (one,) = seen(held=Confinement(user="dragonfly"), logs="/srv/logs").findings
    assert "render dfdaemon-unit --log-dir /srv/logs --user dragonfly >" in one.change


def test_a_dfdaemon_that_is_not_root_is_told_to_write_as_its_user_and_where() -> None:
    """It cannot make files below /etc, so it is no trap; what its user has is open to all."""
    (one,) = seen(held=Confinement(user="dragonfly")).findings
    assert (one.item, one.severity) == ("user-writes", Severity.ADVICE)
    assert "makes as user dragonfly, wherever that user may write" in one.why
    assert "root" not in one.why
    (one,) = seen(held=Confinement(user="dynamic")).findings
    assert "makes as its dynamic user" in one.why
    assert items(held=Confinement(user="root")) == {"root-writes"}
    assert items(held=replace(HELD, user="dragonfly")) == set()


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
def test_a_unit_that_is_strict_and_leaves_what_makes_whoever_asks_root_is_found_with_the_setting(
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
    assert "Read-only file system" in one.why


def test_a_cache_directory_that_dfdaemon_does_not_touch_keeps_nobody_from_starting() -> None:
    assert items(text=f"{OURS}\nserver: {{cacheDir: /srv/cache}}") == set()


@pytest.mark.parametrize(
    ("text", "file"),
    [
        (OURS, "/etc/ssl/certs/ca-certificates.crt"),
        ("", ""),
        ("proxy: {registryMirror: {cert: }}", ""),
        ("proxy: {registryMirror: {cert: 7}}", ""),
        ("proxy: [", ""),
    ],
)
def test_the_file_of_cas_is_the_one_that_the_configuration_names(text: str, file: str) -> None:
    assert DfdaemonFile.of("", text).ca == file
