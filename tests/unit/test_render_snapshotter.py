"""The snapshotter and its unit."""

from __future__ import annotations

import tomllib
from configparser import RawConfigParser
from dataclasses import replace
from typing import Any

import pytest

from agent import paths
from agent.config.model import Config, LogLevel, SnapshotterConfig
from agent.facts.node import Facts
from agent.plan import diff
from agent.plan.render.snapshotter import metrics_port, snapshotter_unit
from tests.fakes.node import FakeNode
from tests.unit.plan_node import GOLDEN, PLAIN, SECURE, carry_out, config, look, node, writes


def rendered(path: str, wanted: Config, made: FakeNode | None = None) -> bytes:
    made = made or node()
    return writes(diff.plan(wanted, look(made, wanted)))[path].content


def settings(wanted: Config, made: FakeNode | None = None) -> dict[str, Any]:
    return tomllib.loads(rendered(paths.SNAPSHOTTER_CONFIG, wanted, made).decode())


def unit(text: bytes) -> RawConfigParser:
    parser = RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read_string(text.decode())
    return parser


def test_what_a_fresh_node_gets_is_the_golden_one() -> None:
    wanted = config(PLAIN)
    assert rendered(paths.SNAPSHOTTER_CONFIG, wanted) == (GOLDEN / "node/snapshotter.toml").read_bytes()
    assert (
        rendered(paths.SNAPSHOTTER_UNIT_FILE, wanted)
        == (GOLDEN / "node/nydus-snapshotter.service").read_bytes()
    )


def test_symptoms_are_in_the_journal_and_pprof_is_not_on_the_network() -> None:
    found = settings(Config())
    assert found["log"]["log_to_stdout"] is True
    assert found["metrics"]["address"].startswith("127.0.0.1:")


def test_running_containers_outlive_the_snapshotter() -> None:
    found = settings(Config())
    assert found["cleanup_on_close"] is False
    assert found["cgroup"]["enable"] is False
    service = unit(snapshotter_unit("/usr/bin/x", ""))["Service"]
    assert (service["KillMode"], service["OOMPolicy"], service["Restart"]) == (
        "process",
        "continue",
        "always",
    )


def test_a_nydusd_that_cannot_hand_over_its_mounts_is_not_asked_to() -> None:
    assert settings(Config())["daemon"]["recover_policy"] == "restart"


def test_the_operator_s_root_and_level_are_used_whatever_characters_they_hold() -> None:
    wanted = Config(snapshotter=SnapshotterConfig(root='/data/"nydus" ü', log_level=LogLevel.DEBUG))
    found = settings(wanted)
    assert (found["root"], found["log"]["level"]) == ('/data/"nydus" ü', "debug")


def test_a_new_version_of_a_program_restarts_the_snapshotter() -> None:
    made = node()
    carry_out(made, diff.plan(Config(), look(made, Config())))
    newer = node(nydusd="v2.3.9")
    newer.files, newer.units = made.files, made.units
    assert paths.SNAPSHOTTER_CONFIG in writes(diff.plan(Config(), look(newer, Config())))


def with_ports(*busy: int) -> Facts:
    return replace(look(node(), Config()), listening=busy)


def test_a_busy_metrics_port_does_not_keep_the_snapshotter_from_starting() -> None:
    assert metrics_port(with_ports()) == 9110
    assert metrics_port(with_ports(9110, 14010)) == 14011


def test_its_own_metrics_port_does_not_count_as_busy() -> None:
    made = node()
    carry_out(made, diff.plan(Config(), look(made, Config())))
    assert metrics_port(replace(look(made, Config()), listening=(9110,))) == 9110


def test_a_port_that_somebody_took_while_it_was_down_is_left_to_them() -> None:
    made = node()
    carry_out(made, diff.plan(Config(), look(made, Config())))
    made.units.job(paths.SNAPSHOTTER_UNIT, "stop", deadline_s=1)
    assert metrics_port(replace(look(made, Config()), listening=(9110,))) == 14010


def test_nydusd_trusts_private_cas_when_it_reads_from_the_origin() -> None:
    made = node()
    made.files.put(SECURE.ca, b"-----BEGIN CERTIFICATE-----\n")
    service = unit(rendered(paths.SNAPSHOTTER_UNIT_FILE, config(SECURE), made))["Service"]
    assert paths.CA_BUNDLE in service["Environment"]
    bundle = rendered(paths.CA_BUNDLE, config(SECURE), made)
    assert bundle.endswith(f"# {SECURE.ca}\n-----BEGIN CERTIFICATE-----\n".encode())


def test_without_private_cas_the_system_s_store_is_left_to_itself() -> None:
    assert b"SSL_CERT_FILE" not in rendered(paths.SNAPSHOTTER_UNIT_FILE, Config())


def test_each_registry_has_its_own_scheme_where_the_snapshotter_can_do_that() -> None:
    made = node(snapshotter="0.16.1")
    wanted = config(PLAIN, SECURE)
    found = settings(wanted, made)
    assert found["remote"]["mirrors_config"]["dir"] == paths.REGISTRIES_D
    plain = tomllib.loads(rendered(f"{paths.REGISTRIES_D}/{PLAIN.host}/hosts.toml", wanted, made).decode())
    secure = tomllib.loads(rendered(f"{paths.REGISTRIES_D}/{SECURE.host}/hosts.toml", wanted, made).decode())
    assert plain == {"host": {f"http://{PLAIN.host}": {}}}
    assert secure == {"host": {f"https://{SECURE.host}": {"ca": SECURE.ca}}}


def test_an_older_snapshotter_gets_no_directory_that_would_replace_the_template_s_mirrors() -> None:
    assert "mirrors_config" not in settings(config(PLAIN))["remote"]


@pytest.mark.parametrize("program", ["/usr/bin/containerd-nydus-grpc", "/opt/100%/grpc"])
def test_the_unit_starts_the_program_that_was_found(program: str) -> None:
    start = unit(snapshotter_unit(program, ""))["Service"]["ExecStart"]
    assert start.replace("%%", "%") == f"{program} --config {paths.SNAPSHOTTER_CONFIG}"


def test_the_mirror_on_the_loopback_is_never_asked_through_another_proxy() -> None:
    text = snapshotter_unit("/usr/bin/x", "").decode()
    assert "NO_PROXY=127.0.0.1,localhost,::1" in text


def test_the_unit_names_where_credentials_are_and_holds_none() -> None:
    def lines(credentials: str) -> list[str]:
        return snapshotter_unit("/usr/bin/x", "", credentials=credentials).decode().splitlines()

    assert not [line for line in lines("") if "DOCKER_CONFIG" in line or "Credential" in line]
    assert "Environment=DOCKER_CONFIG=/etc/registry" in lines("/etc/registry/config.json")
    by_name = lines("pull-secret")
    assert "LoadCredential=config.json:pull-secret" in by_name
    assert "SetCredential=config.json:{}" in by_name, (
        "a credential that is gone must not keep the snapshotter down"
    )
    assert "Environment=DOCKER_CONFIG=%d" in by_name


def test_the_snapshotter_is_up_before_containerd_and_never_gives_up() -> None:
    found = unit(snapshotter_unit("/usr/bin/x", ""))
    assert (found["Unit"]["Before"], found["Unit"]["StartLimitIntervalSec"]) == ("containerd.service", "0")
