"""An audit finds what is wrong in a file that has it, and not in one that has not; a file that is no sound
one is told whole, by key and value.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.model import Config, MirrorConfig, RegistriesConfig, RegistryHost, Scheme, Switch
from agent.dragonfly import checks
from agent.dragonfly.audit import FileKind, audit
from agent.dragonfly.render import FileForm
from agent.dragonfly.settings import AuditFinding, AuditReport, Severity
from agent.dragonfly.site import Wishes
from tests.unit.published import Run
from tests.unit.test_dragonfly_render import FULL, GOLDEN, document
from tests.unit.test_schema import complaints

DFDAEMON, HELM = FileKind.DFDAEMON, FileKind.HELM_VALUES
OURS = {DFDAEMON: document(FileForm.DFDAEMON).text(), HELM: document(FileForm.HELM_VALUES).text()}


def found(text: str, kind: FileKind | None = None, config: Config | None = None) -> tuple[AuditFinding, ...]:
    report = audit("FILE", text, config or Config(), kind)
    assert isinstance(report, AuditReport), report
    return report.findings


def items(
    text: str, kind: FileKind | None = None, config: Config | None = None, prefix: str = ""
) -> set[str]:
    return {one.item for one in found(text, kind, config) if one.key.startswith(prefix)}


def problems(text: str, kind: FileKind | None = None) -> list[str]:
    wrong = audit("FILE", text, Config(), kind)
    assert not isinstance(wrong, AuditReport), wrong
    return [str(one) for one in wrong]


# Four files

BANDWIDTHS = {"bandwidth", "upload-bandwidth", "back-to-source-bandwidth", "prefetch-bandwidth"}
SLOW = {"piece-timeout", "collected-piece-timeout", "write-piece-timeout"}


def test_dfdaemons_own_defaults() -> None:
    traps = {"prefetch", "keep", "certificate", "rules", "open-proxy", "stats-address"}
    advice = {*BANDWIDTHS, *SLOW, "names", "health-address", "metrics-address"}
    assert items("") == items("{}") == traps | advice
    assert {one.item for one in found("") if one.severity is Severity.TRAP} == traps
    assert all("dfdaemon's default" in one.value for one in found(""))


def test_the_pages_values() -> None:
    text = (GOLDEN / "charts-config.yaml").read_text()
    traps = {"peers", "open-proxy", "stats-address", "request-rate", "tls-rule", "certificate", "log-level"}
    assert {one.item for one in found(text) if one.severity is Severity.TRAP} == traps
    assert items(text) == traps | BANDWIDTHS | {"disk-high"}


@pytest.mark.parametrize("kind", OURS, ids=str)
def test_ours_has_no_trap_and_with_the_networks_bandwidth_nothing_at_all(kind: FileKind) -> None:
    assert found(OURS[kind]) == ()
    form = FileForm.DFDAEMON if kind is DFDAEMON else FileForm.HELM_VALUES
    without = document(form, Wishes()).text()
    assert items(without) == BANDWIDTHS
    assert {one.severity for one in found(without)} == {Severity.ADVICE}


# Each finding by itself: what must be in our own file for it

WRONG = {
    "request-rate": "requestRateLimit: 4000 -> requestRateLimit: 50",
    "prefetch": "prefetch: true -> prefetch: false",
    "keep": "keep: true -> keep: false",
    "back-to-source": "prefetch: true -> prefetch: true\n  disableBackToSource: true",
    "piece-timeout": "pieceTimeout: 40s -> pieceTimeout: 41s",
    "collected-piece-timeout": "collectedPieceTimeout: 5s -> collectedPieceTimeout: 1m",
    "write-piece-timeout": "writePieceTimeout: 30s -> writePieceTimeout: 6m",
    "concurrency": "pieceTimeout: 40s -> pieceTimeout: 40s\n  concurrentPieceCount: 2",
    "proxy-buffer": "prefetch: true -> prefetch: true\n  readBufferSize: 4194304",
    "write-buffer": "keep: true -> keep: true\n  writeBufferSize: 4194304",
    "read-buffer": "keep: true -> keep: true\n  readBufferSize: 4194304",
    "bandwidth": "bandwidthLimit: 1250MB -> bandwidthLimit: 50GB",
    "starved": "bandwidthLimit: 1250MB -> bandwidthLimit: 0",
    "back-to-source-starved": "backToSourceBandwidthLimit: 625MB -> backToSourceBandwidthLimit: 9MB",
    "upload-bandwidth": "bandwidthLimit: 1250MB -> bandwidthLimit: 50GB",
    "back-to-source-bandwidth": "backToSourceBandwidthLimit: 625MB -> backToSourceBandwidthLimit: 60 GB",
    "prefetch-bandwidth": "prefetchBandwidthLimit: 625MB -> prefetchBandwidthLimit: 10GB",
    "disk-high": "diskHighThresholdPercent: 80 -> diskHighThresholdPercent: 90",
    "disk-low": "diskLowThresholdPercent: 60 -> diskLowThresholdPercent: 80",
    "storage": "dir: /var/lib/dragonfly/ -> dir: /run/dragonfly",
    "task-id": "enableTaskIDBasedBlobDigest: true -> enableTaskIDBasedBlobDigest: false",
    "names": "enableHickoryDNS: false -> enableHickoryDNS: true",
    "certificate": "cert: /etc/ssl/certs/ca-certificates.crt -> addr: https://registry.test",
    "rules": "regex: blobs/sha256.* -> regex: ^http://other/",
    "tls-rule": "useTLS: true -> useTLS: false",
    "open-proxy": "ip: 127.0.0.1\n    port: 4001 -> port: 4001",
    "stats-address": 'ip: 127.0.0.1\n    port: 4004 -> ip: "::"',
    "health-address": "ip: 127.0.0.1\n    port: 4003 -> ip: 10.0.0.2",
    "metrics-address": "ip: 127.0.0.1\n    port: 4002 -> ip: 0.0.0.0",
}
"""What makes our dfdaemon.yaml wrong: old text -> new."""


def changed(item: str) -> str:
    old, _, new = WRONG[item].partition(" -> ")
    text = OURS[DFDAEMON]
    head, mark, tail = text.partition("\ndownload:") if item in ("bandwidth", "starved") else ("", "", text)
    assert old in tail, item
    return head + mark + tail.replace(old, new, 1)


@pytest.mark.parametrize("item", WRONG)
def test_each_thing_is_found_in_a_file_that_has_it_and_not_in_one_that_has_not(item: str) -> None:
    assert item not in items(OURS[DFDAEMON])
    wrong = found(changed(item))
    assert {one.item for one in wrong} == {item}
    assert all(one.key and one.value and one.recommended and one.why and one.change for one in wrong)


def test_every_rule_and_listener_has_such_a_file() -> None:
    known = {rule.item for rule in checks.RULES}
    known |= {item for _, item, _ in checks.LISTENERS.values()}
    assert known <= set(WRONG)


def test_a_proxy_that_wants_a_password_is_not_open() -> None:
    text = "proxy: {server: {ip: 0.0.0.0, basicAuth: {username: a, password: b}}}"
    assert "open-proxy" not in items(text)
    assert "open-proxy" in items("proxy: {server: {ip: 0.0.0.0}}")


def test_a_rule_that_asks_the_scheduler_for_small_pieces_too_makes_up_for_prefetch() -> None:
    """Client v1.5.10: schedulingPolicy."""
    text = "proxy: {prefetch: false, rules: [{regex: 'blobs/sha256.*', schedulingPolicy: %s}]}"
    assert "prefetch" in items(text % "auto")
    assert "prefetch" not in items(text % "always")


def test_what_a_file_cannot_tell_is_said_to_be_untold() -> None:
    report = audit("FILE", "", Config())
    assert isinstance(report, AuditReport)
    assert [one.item for one in report.not_looked] == ["unit, log-level"]
    report = audit("FILE", OURS[HELM], Config())
    assert isinstance(report, AuditReport)
    assert "Update, Load limit" in next(one.why for one in report.not_looked if one.item == "load-limit")


@pytest.mark.parametrize(("enabled", "told"), [("true", {"dfinit"}), ("false", set()), ("null", set())])
def test_a_chart_that_edits_containerds_files_itself_at_each_start_is_told(
    enabled: str, told: set[str]
) -> None:
    text = OURS[HELM].replace("\nclient:\n", f"\nclient:\n  dfinit: {{enable: {enabled}}}\n")
    assert items(text) == told


# Registries


def registries(*hosts: tuple[str, Scheme], include: tuple[str, ...] = ("*",)) -> Config:
    return Config(
        registries=RegistriesConfig(include, tuple(RegistryHost(host, scheme) for host, scheme in hosts))
    )


PLAIN = ("10.0.0.9:5000", Scheme.HTTP)
RULE = "proxy: {rules: [{regex: 'blobs/sha256.*', useTLS: %s}]}"


@pytest.mark.parametrize(
    ("text", "config", "wanted"),
    [
        (RULE % "false", registries(), {"tls-rule"}),
        (RULE % "true", registries(), set()),
        (RULE % "true", registries(PLAIN), {"http-rule"}),
        (RULE % "false", registries(PLAIN), {"tls-rule"}),
        (RULE % "false", registries(PLAIN, include=("10.0.0.9:5000",)), set()),
        (RULE % "false", registries(include=("ghcr.io",)), {"tls-rule"}),
        (
            "proxy: {rules: [{regex: ghcr}]}",
            registries(include=("ghcr.io", "quay.io")),
            {"rules", "tls-rule"},
        ),
        ("proxy: {rules: [{useTLS: true}]}", registries(), set()),
        ("proxy: {rules: []}", registries(), {"rules"}),
    ],
)
def test_rules_are_judged_by_the_registries_of_agent_toml(
    text: str, config: Config, wanted: set[str]
) -> None:
    assert items(text, config=config) & {"rules", "tls-rule", "http-rule"} == wanted


def test_our_rules_fit_registries_of_both_kinds() -> None:
    config = registries(PLAIN, ("my-plain.test:80", Scheme.HTTP), ("b.test", Scheme.HTTPS))
    assert found(document(FileForm.DFDAEMON, FULL, config).text(), config=config) == ()


@pytest.mark.parametrize("regex", ["(?<x", "(0+)+x"], ids=["wrong", "without end"])
def test_an_expression_that_cannot_be_judged_is_said_to_be_untold(tmp_path: Path, regex: str) -> None:
    file = tmp_path / "dfdaemon.yaml"
    file.write_text(OURS[DFDAEMON].replace("blobs/sha256.*", f"'{regex}'"))
    run = Run(tmp_path, "dragonfly", "audit", str(file))
    assert run.code == 4, run.out
    assert "nothing found, but 1 thing could not be told" in run.out
    assert f"cannot tell what proxy.rules {regex}" in run.out


def test_a_constant_health_url_is_a_trap_where_nothing_else_judges() -> None:
    native = Config(mirror=MirrorConfig(switch=Switch.NATIVE))
    assert items(OURS[DFDAEMON], config=native) == {"health"}
    assert items(OURS[DFDAEMON]) == set()


# Files that are none

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("proxy: [", "is not YAML: "),
        ("host: {ip: 1.2.3.4}\nhost: {ip: 1.2.3.5}\n", "host stands twice; keep one of them"),
        ("- a", "is not a mapping of keys to values"),
        ("a: &a [*a]", "holds too much"),
        ("a: " + "[" * 5000 + "]" * 5000, "nests too deep"),
        ("storage: {dir: !!python/object/apply:os.system [ls]}", "for the tag"),
        (BOMB, "holds too much"),
        ("proxy: {prefetch: yes}", "proxy.prefetch = yes: must be true or false; write true or false"),
        ("proxy: {server: 7}", "proxy.server = 7: must be a table; put its keys below it"),
        ("proxy: {rules: [{regex: 1}]}", "must be a list of rules"),
        ("proxy: {rules: [{schedulingPolicy: never}]}", "schedulingPolicy (auto, always)"),
        ("download: {pieceTimeout: 40}", "download.pieceTimeout = 40: must be a duration such as 40s"),
        ("download: {bandwidthLimit: fast}", "download.bandwidthLimit = fast: must be a size such as 10GB"),
        ("health: {server: {ip: node}}", "health.server.ip = node: must be an IP address"),
        ("client: 1", "client = 1: must be a table"),
        ("client: {enable: 1}", "client.enable = 1: must be true or false"),
        (
            "client: {config: {proxy: {prefetch: 1}}}",
            "client.config.proxy.prefetch = 1: must be true or false",
        ),
        (
            "client: {}\nscheduler: {config: {scheduler: {retryLimit: many, retryInterval: 3}}}",
            "scheduler.config.scheduler.retryLimit = many: must be a whole number",
        ),
        (
            "client: {config: {log: {level: quiet}}}",
            "client.config.log.level = quiet: must be one of error, warn, info, debug, trace; write one of",
        ),
        ("client: {config: {log: warn}}", "client.config.log = warn: must be a table"),
    ],
    ids=range(20),
)
def test_a_file_that_is_no_sound_one_is_refused_by_key_and_value(text: str, told: str) -> None:
    assert told in "\n".join(problems(text))


def test_a_line_that_is_no_yaml_is_told_by_its_place_and_not_by_its_words() -> None:
    (told,) = problems("proxy:\n  basicAuth:\n    password: S3cret: x\n", DFDAEMON)
    assert "line 3" in told
    assert "S3cret" not in told


def test_all_problems_come_at_once_with_exit_2(tmp_path: Path) -> None:
    file = tmp_path / "dfdaemon.yaml"
    file.write_text("proxy: {prefetch: 1, rules: x}\nstorage: {keep: maybe}\n")
    run = Run(tmp_path, "dragonfly", "audit", str(file), "--format", "json")
    assert (run.code, run.json["code"]) == (2, "NNA1501")
    assert [one["key"] for one in run.json["problems"]] == [
        "proxy.prefetch",
        "proxy.rules",
        "storage.keep",
    ]


@pytest.mark.parametrize("what", ["nothing", "directory", "bytes", "long"])
def test_a_file_that_cannot_be_read_ends_with_2_and_its_name(tmp_path: Path, what: str) -> None:
    file = tmp_path / "dfdaemon.yaml"
    if what == "directory":
        file.mkdir()
    elif what != "nothing":
        file.write_bytes(b"\xff\xfe" if what == "bytes" else b"# " * (1 << 20))
    run = Run(tmp_path, "dragonfly", "audit", str(file))
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith(f"error[NNA1501]: {file} cannot be read\nseen:  {file}: ")


def test_a_command_line_that_cannot_be_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, "dragonfly", "audit", "--live", "FILE")
    assert (run.code, run.out) == (2, "")
    assert "--live looks at the running dfdaemon's own file" in run.err


# What is printed


def test_the_exit_code_says_whether_something_was_found(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(OURS[DFDAEMON])
    bad.write_text("")
    assert Run(tmp_path, "dragonfly", "audit", str(good)).code == 0
    run = Run(tmp_path, "dragonfly", "audit", str(bad))
    assert run.code == 3
    assert run.out.splitlines()[:3] == [
        f"{bad} (dfdaemon): 6 traps, 10 missed practices", "", "trap: prefetch  proxy.prefetch"
    ]  # fmt: skip


def test_a_machine_gets_each_finding_in_fields(tmp_path: Path) -> None:
    for name, text in (
        ("good.yaml", OURS[HELM]),
        ("bad.yaml", "client: {config: {proxy: {prefetch: false}}}"),
    ):
        (tmp_path / name).write_text(text)
        answer = Run(tmp_path, "dragonfly", "audit", str(tmp_path / name), "--format", "json").json
        assert complaints(answer) == []
    prefetch = next(one for one in answer["findings"] if one["item"] == "prefetch")
    assert (prefetch["severity"], prefetch["key"], prefetch["value"]) == (
        "trap", "client.config.proxy.prefetch", "false"
    )  # fmt: skip
