"""Dragonfly's files: the page's own field for field, and ours, where each difference says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config.model import Config, MirrorConfig, RegistriesConfig, RegistryHost, Scheme
from agent.dragonfly import site as page
from agent.dragonfly.render import PAGE, FileForm, render
from agent.dragonfly.settings import bytes_of, seconds_of
from agent.dragonfly.site import Peers, Site, Wishes, site_of
from agent.dragonfly.yaml_files import YamlDocument, differences
from tests.unit.published import Run
from tests.unit.test_schema import complaints

GOLDEN = Path(__file__).parents[1] / "golden/dragonfly"
PAGES = {
    FileForm.KIND: "kind-config.yaml",
    FileForm.HELM_VALUES: "charts-config.yaml",
    FileForm.PEER_SERVICE: "peer-service-config.yaml",
    FileForm.DFDAEMON: "best-practices.yaml",
}
YAML_FORMS = [form for form in FileForm if form is not FileForm.UNIT]
FULL = Wishes(
    manager="http://10.0.0.1:65003",
    schedulers=("10.0.0.1:8002",),
    advertise="10.0.0.2",
    bandwidth=1_250_000_000,
)
WISHES = {
    "nothing": Wishes(),
    "all": FULL,
    "seed peers": replace(FULL, peers=Peers.SEED),
    "exposed": Wishes(exposed=True),
    "no CA": Wishes(ca=""),
    "another disk": Wishes(storage="/data/dragonfly"),
}


def site(wishes: Wishes = FULL, config: Config | None = None) -> Site:
    made = site_of(config or Config(), wishes)
    assert isinstance(made, Site), made
    return made


def document(form: FileForm, wishes: Wishes = FULL, config: Config | None = None) -> YamlDocument:
    made = render(form, site(wishes, config))
    assert isinstance(made, YamlDocument)
    return made


def loaded(form: FileForm, wishes: Wishes = FULL, config: Config | None = None) -> Any:
    return yaml.safe_load(document(form, wishes, config).text())


def with_hosts(*hosts: tuple[str, Scheme]) -> Config:
    return Config(
        registries=RegistriesConfig(hosts=tuple(RegistryHost(host, scheme) for host, scheme in hosts))
    )


@pytest.mark.parametrize("form", PAGE, ids=str)
def test_the_page_is_printed_field_for_field(form: FileForm, tmp_path: Path) -> None:
    run = Run(tmp_path, "dragonfly", "render", form.value, "--page")
    assert run.code == 0, run.err
    wanted = (GOLDEN / PAGES[form]).read_text()
    assert yaml.safe_load(run.out) == yaml.safe_load(wanted)
    # The order too: it is read beside the page.
    assert run.out.split() == [
        word for line in wanted.splitlines() if line[:1] != "#" for word in line.split()
    ]


@pytest.mark.parametrize("wishes", WISHES.values(), ids=WISHES.keys())
@pytest.mark.parametrize("form", PAGE, ids=str)
def test_each_difference_from_the_page_says_why_in_the_file(form: FileForm, wishes: Wishes) -> None:
    ours = document(form, wishes)
    found = differences(PAGE[form], ours)
    assert found
    assert [one.key for one in found if not one.reason] == []
    flat = " ".join(line.strip().removeprefix("#").strip() for line in ours.text().splitlines())
    assert [one.key for one in found if one.reason not in flat] == []


@pytest.mark.parametrize("wishes", WISHES.values(), ids=WISHES.keys())
@pytest.mark.parametrize("form", YAML_FORMS, ids=str)
def test_what_yaml_reads_is_what_was_meant_and_each_reason_has_its_line(
    form: FileForm, wishes: Wishes
) -> None:
    ours = document(form, wishes)
    assert yaml.safe_load(ours.text()) == yaml.safe_load(yaml.safe_dump(_plain(ours.body)))
    for path in ours.reasons:
        assert _reached(ours.body, path), path


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _reached(value: Any, path: str) -> bool:
    for part in path.replace("[", ".").replace("]", "").split("."):
        value = value[int(part)] if part.isdecimal() else value[part]
    return value is not None


@pytest.mark.parametrize(
    "value",
    ["on", "1:30", "0x10", "007", "2026-11-27", "null", "", "a: b", "# c", "- d", "é\n", "x" * 500, 1, True],
)
def test_a_scalar_comes_back_as_itself_whatever_yaml_might_take_it_for(value: object) -> None:
    assert yaml.safe_load(YamlDocument({"a": {"b": [value, {"c": value}]}}).text()) == {
        "a": {"b": [value, {"c": value}]}
    }


def test_ports_and_addresses_are_those_of_agent_toml() -> None:
    mirror = MirrorConfig(
        "http://127.0.0.1:5001", "http://127.0.0.2:5003/healthy", "http://127.0.0.1:5002/metrics"
    )
    config = Config(mirror=mirror)
    made = loaded(FileForm.DFDAEMON, config=config)
    assert made["proxy"]["server"] == {"ip": "127.0.0.1", "port": 5001, "requestRateLimit": 4000}
    assert made["health"]["server"] == {"ip": "127.0.0.2", "port": 5003}
    assert made["metrics"]["server"] == {"ip": "127.0.0.1", "port": 5002}
    mapped = loaded(FileForm.KIND, config=config)["nodes"][1]["extraPortMappings"]
    assert [entry["hostPort"] for entry in mapped] == [5001, 5003]
    assert [entry["port"] for entry in loaded(FileForm.PEER_SERVICE, config=config)["spec"]["ports"]] == [
        5001,
        5003,
    ]
    client = loaded(FileForm.HELM_VALUES, config=config)["client"]["config"]
    assert (client["proxy"]["server"]["port"], client["health"]["server"]["port"]) == (5001, 5003)


def test_registries_that_speak_http_are_asked_so_and_all_others_by_tls() -> None:
    config = with_hosts(
        ("10.0.0.9:5000", Scheme.HTTP), ("my-plain.test:80", Scheme.HTTP), ("b.test", Scheme.HTTPS)
    )
    assert loaded(FileForm.DFDAEMON, config=config)["proxy"]["rules"] == [
        {"regex": r"^http://10\.0\.0\.9:5000/.*blobs/sha256.*"},
        {"regex": r"^http://my-plain\.test/.*blobs/sha256.*"},
        {"regex": "blobs/sha256.*", "useTLS": True},
    ]


def test_kinds_port_mappings_and_the_service_meet_on_the_same_node_ports() -> None:
    cluster, service = loaded(FileForm.KIND), loaded(FileForm.PEER_SERVICE)
    there = [entry["containerPort"] for entry in cluster["nodes"][1]["extraPortMappings"]]
    assert there == [entry["nodePort"] for entry in service["spec"]["ports"]] == [30950, 30951]


@pytest.mark.parametrize("peers", Peers, ids=str)
def test_the_service_selects_pods_that_the_values_make(peers: Peers) -> None:
    """On the page it selects none: client pods, which its values do not make, by a label that pods have
    not.
    """
    wishes = Wishes(peers=peers)
    values, selector = (
        loaded(FileForm.HELM_VALUES, wishes),
        loaded(FileForm.PEER_SERVICE, wishes)["spec"]["selector"],
    )
    made = ["seed-client"] + (["client"] if values["client"]["enable"] else [])
    assert selector == {"app": "dragonfly", "component": peers.value}
    assert selector["component"] in made


def test_a_peers_proxy_is_for_its_node_alone_unless_that_was_asked() -> None:
    def address(wishes: Wishes, name: str) -> str | None:
        found: str | None = loaded(FileForm.HELM_VALUES, wishes)[name]["config"]["proxy"]["server"].get("ip")
        return found

    assert address(Wishes(), "client") == address(Wishes(), "seedClient") == "127.0.0.1"
    assert address(Wishes(exposed=True), "client") is None
    assert address(Wishes(exposed=True), "seedClient") == "127.0.0.1"
    assert address(Wishes(peers=Peers.SEED), "seedClient") is None


# Values of a peer in chart 1.7.4: those of its values.yaml, the commented ones too. Lists are values.
KNOWN = frozenset(
    {"enable", "image.repository", "image.tag", "metrics.enable", "extraVolumes", "extraVolumeMounts"}
    | {f"config.{name}.server.{key}" for name in ("proxy", "health", "metrics", "stats") for key in ("ip",
        "port")}
    | {
        "config.proxy.server.requestRateLimit", "config.download.server.requestRateLimit",
        "config.proxy.rules",
        "config.proxy.registryMirror.cert",
        "config.proxy.registryMirror.enableTaskIDBasedBlobDigest", "config.proxy.prefetch",
        "config.proxy.prefetchBandwidthLimit", "config.storage.keep", "config.storage.writePieceTimeout",
        "config.download.pieceTimeout", "config.download.collectedPieceTimeout",
        "config.download.bandwidthLimit",
        "config.download.backToSourceBandwidthLimit", "config.upload.bandwidthLimit",
        "config.gc.policy.distHighThresholdPercent", "config.gc.policy.distLowThresholdPercent",
        "config.log.level",
    }
)  # fmt: skip


@pytest.mark.parametrize("wishes", WISHES.values(), ids=WISHES.keys())
def test_the_chart_knows_every_value(wishes: Wishes) -> None:
    """Helm takes an unknown value without a word."""
    values = loaded(FileForm.HELM_VALUES, wishes)
    assert set(values) == {"manager", "scheduler", "seedClient", "client"}
    for peer in ("client", "seedClient"):
        assert [key for key in _keys(values[peer]) if key not in KNOWN] == []
    assert values["scheduler"]["config"] == {"scheduler": page.SCHEDULER}


def _keys(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [prefix.removesuffix(".")]
    return [name for key, item in value.items() for name in _keys(item, f"{prefix}{key}.")]


def test_storage_outlives_the_pod_and_a_limit_leaves_room_for_reads_that_wait() -> None:
    client = loaded(FileForm.HELM_VALUES)["client"]
    assert client["extraVolumes"][0] == {
        "name": "storage", "hostPath": {"path": "/var/lib/dragonfly/", "type": "DirectoryOrCreate"}
    }  # fmt: skip
    config = client["config"]
    assert config["storage"]["keep"] is True
    assert config["log"] == {"level": "warn"}, "at info dfdaemon writes credentials into its log"
    assert bytes_of(config["proxy"]["prefetchBandwidthLimit"]) == FULL.bandwidth // 2
    assert bytes_of(config["download"]["bandwidthLimit"]) == FULL.bandwidth


def test_the_units_drop_in_restarts_dfdaemon_keeps_its_log_quiet_and_lets_it_write_to_its_own_alone() -> None:
    text = render(FileForm.UNIT, site(Wishes(storage='/data/50% "of" $it')))
    assert isinstance(text, str)
    lines = dict(line.partition("=")[::2] for line in text.splitlines() if not line.startswith("#"))
    own = '"/run/dragonfly" "/var/log/dragonfly" "/var/cache/dragonfly"'
    held = {"ProtectSystem": "strict", "ProtectHome": "read-only", "Restart": "always"}
    held |= {"StartLimitIntervalSec": "0", "Environment": "DFDAEMON_LOG_LEVEL=warn"}
    held |= dict.fromkeys(("ProtectKernelTunables", "ProtectControlGroups", "PrivateDevices"), "yes")
    assert {key: lines.get(key) for key in held} == held
    perhaps = own.replace('"/', '"-/')
    assert lines["ReadWritePaths"] == rf'"-/data/50%% \"of\" $it" {perhaps}'
    assert lines["ExecStartPre"] == rf'+/usr/bin/mkdir --parents "/data/50%% \"of\" $$it" {own}'
    assert "ExecStart" not in lines, "it would have to name what the unit starts"


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        ("kind --manager http://m:65003", "--manager is not for kind"),
        ("dfdaemon --manager m:65003", "argument --manager: m:65003 is not the manager's"),
        ("dfdaemon --advertise 0.0.0.0", "argument --advertise: 0.0.0.0 is not the address of one host"),
        ("dfdaemon --storage data", "argument --storage: data"),
        ("dfdaemon --bandwidth 10Gbit", "argument --bandwidth: 10Gbit is no size"),
        ("dynconfig", "dynconfig needs to know where a scheduler is"),
        ("dynconfig --scheduler s", "argument --scheduler: s is not HOST:PORT"),
        ("dynconfig --scheduler 10.0.0.1:8002 --scheduler s.example.org:8002", "one name alone"),
        ("dfdaemon-unit --page", "--page is not for dfdaemon-unit"),
        ("dfdaemon --page --storage /data", "--storage is not for dfdaemon with --page"),
        ("kind --dfdaemon /etc/dragonfly/dfdaemon.yaml", "--dfdaemon is not for kind"),
        ("moon", "argument FORM: invalid choice: 'moon'"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_its_name_and_value(
    tmp_path: Path, argv: str, what: str
) -> None:
    run = Run(tmp_path, "dragonfly", "render", *argv.split())
    assert (run.code, run.out) == (2, "")
    assert what in run.err
    assert run.err.splitlines()[-1].startswith("try:   nydus-agent dragonfly render")


def test_directories_that_would_open_the_node_to_whoever_asks_are_refused_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path, "dragonfly", "render", "dfdaemon-unit", "--storage", "/", "--log-dir", "/home")
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("error[NNA1501]: Dragonfly's files cannot be rendered from this\n")
    assert "dfdaemon: storage = /: holds /etc: dfdaemon would make files there for whoever asks" in run.err
    assert "dfdaemon: log-dir = /home: holds /home" in run.err


@pytest.mark.parametrize(
    ("given", "rendered"),
    [
        (["10.0.0.1:8002", "[fd00::1]:8002"], {"addrs": ["10.0.0.1:8002", "[fd00::1]:8002"]}),
        (["schedulers.example.org:8002"], {"addr": "schedulers.example.org:8002"}),
    ],
)
def test_dfdaemon_finds_schedulers_by_addresses_or_by_one_name(
    tmp_path: Path, given: list[str], rendered: dict[str, object]
) -> None:
    options = [word for one in given for word in ("--scheduler", one)]
    run = Run(tmp_path, "dragonfly", "render", "dynconfig", *options)
    assert yaml.safe_load(run.out) == {"scheduler": rendered}


def test_a_machine_gets_the_file_and_each_difference_with_its_reason(tmp_path: Path) -> None:
    for form in FileForm:
        more = ["--scheduler", "10.0.0.1:8002"] if form is FileForm.DYNCONFIG else []
        document = Run(tmp_path, "dragonfly", "render", form.value, *more, "--format", "json").json
        assert complaints(document) == []
        assert document["text"].endswith("\n")
        assert bool(document["differences"]) == (form in PAGE)


@pytest.mark.parametrize(
    ("text", "count"),
    [("50GB", 50 * 10**9), ("64MiB", 64 << 20), ("1.5 kb", 1500), ("4096", 4096), ("10G", 10**10), ("", None),
     ("10Gbit", None), ("-1GB", None), ("GB", None)],
)  # fmt: skip
def test_sizes_are_read_as_dragonfly_reads_them(text: str, count: int | None) -> None:
    assert bytes_of(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("40s", 40), ("1h 30m", 5400), ("720h", 2_592_000), ("100ms", 0.1), ("30d", 2_592_000), ("", None),
     ("40", None),
     ("s", None), ("1x", None), ("5s 7", None)],
)  # fmt: skip
def test_durations_are_read_as_dragonfly_reads_them(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == (None if seconds is None else pytest.approx(seconds))
