"""The proof: each check fails for its own reason, and nothing is called ok that was not shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent import paths
from agent.config.model import Dialect
from agent.documents.status import CheckState
from agent.errors import Exit, FileError, NydusdError
from agent.facts.node import FenceAbility
from agent.node.observe import observe
from agent.node.waits import before_change
from agent.plan import decide
from agent.ports import Trial
from agent.proof import checks_mirror, inspection
from agent.proof.checks_mirror import daemon_status
from agent.proof.checks_nydusd import backend_of, difference_of
from agent.proof.inspection import CHECKS
from agent.proof.proofs import Proof, body, failed
from tests.fakes.containerd import STOCK_PLUGINS, nydus_plugin
from tests.fakes.http import answer
from tests.fakes.units import unit
from tests.unit import plan_node
from tests.unit.proved_node import CANARY, CONFIG, MIB, READ, ROOT, ProvedNode, first_wrong, proved


@pytest.fixture
def node() -> ProvedNode:
    return proved()


def test_a_node_that_is_as_it_should_be_is_proved_on_all_checks(node: ProvedNode) -> None:
    proof = node.proof()
    assert [(check.number, check.state) for check in proof.checks] == [
        (n, CheckState.OK) for n in range(1, len(CHECKS) + 1)
    ]
    assert proof.exit is Exit.OK
    assert proof.drift == ()
    assert proof.checks[9].detail == "5.0 MiB of an image of plain.example:5000, 100 % through the mirror"


def test_without_an_image_the_two_checks_that_need_one_are_not_called_ok() -> None:
    made = ProvedNode()
    made.apply()
    states = {check.number: check.state for check in made.proof().checks}
    assert (states[8], states[10]) == (CheckState.NOT_PROVED, CheckState.NOT_PROVED)
    assert made.proof().exit is Exit.OK


def _other_architecture(made: ProvedNode) -> None:
    made.node.files.put("/usr/local/bin/nydusd", plan_node.ARM64, mode=0o755)


def _few_open_files(made: ProvedNode) -> None:
    made.node.files.put("/proc/sys/fs/nr_open", b"65536\n")


def _no_unit(made: ProvedNode) -> None:
    del made.node.units.units[paths.SNAPSHOTTER_UNIT]


def _kills_nydusd(made: ProvedNode) -> None:
    made.unit(kill_mode="control-group", drop_in_paths=("/etc/systemd/system/x.d/50-kill.conf",))


def _unreachable_snapshotter(made: ProvedNode) -> None:
    made.node.snapshotter.answering.clear()


def _containerd_down(made: ProvedNode) -> None:
    made.node.containerd.up = False


def _plugins(*entries: tuple[str, str]) -> Callable[[ProvedNode], None]:
    def change(made: ProvedNode) -> None:
        made.node.containerd.plugin_facts = (*STOCK_PLUGINS, *(nydus_plugin(*entry) for entry in entries))

    return change


def _init_err(plugin: str) -> Callable[[ProvedNode], None]:
    return lambda made: made.node.containerd.set_init_err(plugin, "it broke")


def _other_root(made: ProvedNode) -> None:
    made.node.containerd.mountpoints = ("/var/lib/elsewhere",)


def _not_ready(made: ProvedNode) -> None:
    made.node.containerd.status["RuntimeReady"] = "false"


def _dead_backend(made: ProvedNode) -> None:
    made.node.containerd.backend_alive = lambda _name: False


def _template(text: bytes) -> Callable[[ProvedNode], None]:
    return lambda made: made.node.files.put(paths.NYDUSD_TEMPLATE, text)


def _other_mirror_in_template(made: ProvedNode) -> None:
    template = json.loads(made.node.files.files[paths.NYDUSD_TEMPLATE].content)
    template["device"]["backend"]["config"]["proxy"]["url"] = "http://127.0.0.1:4999"
    made.node.files.put(paths.NYDUSD_TEMPLATE, json.dumps(template).encode())


def _deaf_nydusd(made: ProvedNode) -> None:
    made.node.nydusd.deaf.add(f"{ROOT}/socket/d1/api.sock")


def _foreign_listener(made: ProvedNode) -> None:
    made.node.tables.held[4001] = 1000


def _agent(state: str, restarts: int, ago_s: int, result: str = "") -> Callable[[ProvedNode], None]:
    def change(made: ProvedNode) -> None:
        begun = round((made.node.clock.monotonic() - ago_s) * 1e6)
        made.node.units.units[paths.AGENT_UNIT] = replace(
            unit(paths.AGENT_UNIT),
            active_state=state,
            n_restarts=restarts,
            inactive_exit_us=begun,
            result=result,
        )

    return change


def _http(url: str, status: int, content: bytes = b"", via: str = "") -> Callable[[ProvedNode], None]:
    return lambda made: made.node.http.on(url, answer(status, content), via=via)


def _no_fence(made: ProvedNode) -> None:
    made.node.fence.ability = FenceAbility(usable=False, reason="a connect was not refused")


def _native_daemon(made: ProvedNode) -> None:
    made.say(mode="native", mode_reason="nft is gone")


def _trial(**values: object) -> Callable[[ProvedNode], None]:
    def change(made: ProvedNode) -> None:
        made.node.trials.result = replace(READ, **values)  # type: ignore[arg-type]  # a test names the fields

    return change


def _no_mount(made: ProvedNode) -> None:
    made.node.trials.result = NydusdError("NNA0731", "a private nydusd could not mount", cause="exit code 1")


def _other_mirrors_counter(made: ProvedNode) -> None:
    made.traffic_step = 0


@pytest.mark.parametrize(
    ("number", "code", "told", "broken"),
    [
        (1, "NNA0201", "arm64", _other_architecture),
        (1, "NNA0205", "fs.nr_open is 65536", _few_open_files),
        (2, "NNA0405", "no such unit", _no_unit),
        (2, "NNA0405", "failed", lambda made: made.unit(active_state="failed", result="exit-code")),
        (2, "NNA0405", "start limit", lambda made: made.unit(active_state="failed",
            result="start-limit-hit")),
        (2, "NNA0714", "50-kill.conf", _kills_nydusd),
        (2, "NNA0714", "NO_PROXY", lambda made: made.unit(environment=("HTTP_PROXY=http://10.0.0.1:3128",))),
        (2, "NNA0714", "has not read", lambda made: made.unit(needs_reload=True)),
        (3, "NNA0405", paths.SNAPSHOTTER_SOCKET, _unreachable_snapshotter),
        (4, "NNA0405", "containerd", _containerd_down),
        (5, "NNA0653", "not registered", _plugins()),
        (5, "NNA0653", "elsewhere.sock", _plugins(("/run/elsewhere.sock", ROOT))),
        (5, "NNA0653", "it broke", _init_err("nydus")),
        (6, "NNA0607", "it broke", _init_err("cri")),
        (6, "NNA0653", "/var/lib/elsewhere", _other_root),
        (6, "NNA0607", "RuntimeReady", _not_ready),
        (7, "NNA0653", "Prepare failed", _dead_backend),
        (8, "NNA0741", "no JSON", _template(b"{")),
        (8, "NNA0741", "no answer", _deaf_nydusd),
        (8, "NNA0741", "4999", _other_mirror_in_template),
        (9, "NNA1019", "uid 1000", _foreign_listener),
        (9, "NNA1010", "again 57 times, 2 s ago", _agent("active", 57, 2)),
        (9, "NNA1010", "again 3 times", _agent("activating", 3, 70)),
        (9, "NNA1010", "result: resources", _agent("failed", 0, 70, "resources")),
        (9, "NNA0812", "503", _http(CONFIG.mirror.ping_url, 503)),
        (9, "NNA0812", "status 429", _http(CANARY, 429, via=CONFIG.mirror.url)),
        (9, "NNA0812", "other content", _http(CANARY, 200, b"zeroes", via=CONFIG.mirror.url)),
        (9, "NNA0803", "not refused", _no_fence),
        (9, "NNA0803", "nft is gone", _native_daemon),
        (10, "NNA0731", "exit code 1", _no_mount),
        (10, "NNA0734", "bytes", _trial(error="a read failed: Input/output error")),
        (10, "NNA0734", "2.0 MiB of 5.0 MiB", _trial(relayed=2 * MIB, tasks=2 * MIB)),
        (10, "NNA0734", "0 KiB of 0 KiB", _trial(fetched=0, relayed=0, tasks=0)),
        (10, "NNA0735", "name a Dragonfly task", _trial(tasks=MIB)),
        (10, "NNA0734", "grew by", _other_mirrors_counter),
    ],
)  # fmt: skip
def test_each_fault_fails_its_own_check_with_its_own_code(
    node: ProvedNode, number: int, code: str, told: str, broken: Callable[[ProvedNode], None]
) -> None:
    broken(node)
    proof = node.proof()
    check = proof.headline
    assert check is not None
    assert (check.number, check.code) == (number, code)
    assert told in " ".join([check.detail, check.cause, *check.evidence])
    assert check.try_
    assert check is first_wrong(proof)
    assert proof.exit is Exit.NOT_AS_WANTED


def test_an_agent_that_crashed_once_upon_a_time_is_well(node: ProvedNode) -> None:
    _agent("active", 57, 600)(node)
    assert node.proof().headline is None


def test_what_stands_on_a_failed_check_is_not_proved_instead_of_failed_again(node: ProvedNode) -> None:
    _containerd_down(node)
    states = {check.number: (check.state, check.detail) for check in node.proof().checks}
    for number in (5, 6, 7):
        assert states[number] == (CheckState.NOT_PROVED, "check 4 (containerd answers) failed")
    assert states[3][0] is CheckState.OK
    assert states[10][0] is CheckState.OK


def test_while_reads_go_to_the_origin_no_read_through_the_mirror_is_claimed(node: ProvedNode) -> None:
    node.say(route="origin", route_reason="fenced: canary failed")
    checks = {check.number: check for check in node.proof().checks}
    assert checks[9].state is CheckState.NOT_PROVED
    assert checks[10].state is CheckState.NOT_PROVED
    assert "canary failed" in checks[10].detail
    assert node.node.trials.configs == []


def test_a_byte_counter_that_does_not_answer_is_never_ok(node: ProvedNode) -> None:
    node.node.http.on(CONFIG.mirror.metrics_url, answer(404))
    check = node.proof().checks[9]
    assert check.state is CheckState.NOT_PROVED
    assert "404" in check.detail


def test_reads_of_others_at_the_same_time_cannot_prove_ours(node: ProvedNode) -> None:
    node.traffic_step = 900 * MIB
    _trial(relayed=MIB, tasks=MIB)(node)
    check = node.proof().checks[9]
    assert (check.state, check.code) == (CheckState.FAILED, "NNA0734")


def test_the_private_nydusd_cannot_fall_back_unseen_and_its_cache_is_its_own(node: ProvedNode) -> None:
    node.proof()
    config = json.loads(node.node.trials.configs[0])
    proxy = config["device"]["backend"]["config"]["proxy"]
    assert proxy["url"] == "http://127.0.0.1:9"
    assert proxy["fallback"] is False
    assert config["device"]["cache"]["config"]["work_dir"] == "/run/trial/cache"
    assert config["fs_prefetch"] == {"enable": False}
    assert config["device"]["backend"]["config"]["auth"] == "c2VjcmV0"


def test_no_credential_of_a_registry_reaches_what_everyone_can_read(node: ProvedNode) -> None:
    assert "c2VjcmV0" not in json.dumps(body(node.proof()))


def test_in_the_mirrors_dialect_the_mirror_is_the_relay() -> None:
    config = {
        "device": {
            "backend": {"config": {"mirrors": [{"host": "http://a", "headers": {"X": "y"}}]}},
            "cache": {},
        }
    }
    made = json.loads(checks_mirror.trial_config(config, "http://relay", "/work"))
    assert made["device"]["backend"]["config"]["mirrors"] == [{"host": "http://relay", "headers": {"X": "y"}}]


def test_a_registry_that_is_not_accelerated_is_told_with_its_reason(node: ProvedNode) -> None:
    record = json.loads(node.node.files.files[f"{paths.GENERATIONS}/1.json"].content)
    record["effective"]["not_accelerated"] = ["plain.example:5000: goes direct, because there is no TLS rule"]
    node.node.files.put(f"{paths.GENERATIONS}/1.json", json.dumps(record).encode())
    check = node.proof().checks[9]
    assert check.state is CheckState.NOT_PROVED
    assert "no TLS rule" in check.detail


def test_a_status_that_is_old_or_damaged_is_no_word_about_now(node: ProvedNode) -> None:
    node.say(route="origin")
    node.node.clock.advance(60)
    assert node.proof().checks[9].state is CheckState.OK
    node.node.files.put(paths.STATUS, b"[" * 100_000)
    assert node.proof().checks[9].state is CheckState.OK


def test_unreadable_files_make_a_check_unknown_and_the_exit_code_says_so(node: ProvedNode) -> None:
    node.node.files.unreadable[paths.NYDUSD_TEMPLATE] = FileError(
        "NNA0427", "cannot read", cause="Input/output error"
    )
    checks = {check.number: check.state for check in node.proof().checks}
    assert checks[8] is CheckState.UNKNOWN


def test_a_restarted_containerd_counts_only_with_a_new_process(node: ProvedNode) -> None:
    facts_of = before_change(node.node.ports, frozenset({paths.CONTAINERD_UNIT, paths.SNAPSHOTTER_UNIT}))
    facts = observe(node.config, node.node.ports)
    chosen = decide.effective(node.config, facts)
    proof = inspection.run_checks(
        node.config, node.node.ports, facts, chosen, before=facts_of, top=inspection.LAST_THAT_DECIDES
    )  # fmt: skip
    codes = {check.number: check.code for check in proof.checks if check.state is CheckState.FAILED}
    assert codes == {2: "NNA0405", 4: "NNA0405"}


def test_figures_are_told_in_words() -> None:
    check = checks_mirror.judge_trial(
        Trial("v2.2.0", 4 * MIB, 5 * MIB, 5 * MIB, 4 * MIB, (("206", 4), ("503", 1))), 6 * MIB, "", "r"
    )
    assert check.state is CheckState.FAILED
    assert "4 x 206, 1 x 503" in check.evidence[1]


@pytest.mark.parametrize("at", ["NaN", "1" + "0" * 400, "1e999", "true"])
def test_a_time_of_the_agents_that_is_none_breaks_no_change_of_roots(at: str) -> None:
    node = ProvedNode()
    node.say(at=4711, route="origin")
    told = node.node.files.files[paths.STATUS].content.replace(b"4711", at.encode())
    node.node.files.put(paths.STATUS, told, uid=990)
    assert daemon_status(node.node.ports) is None


def test_what_everyone_may_read_holds_no_signed_address_and_no_credential() -> None:
    line = 'ERROR GET https://blobs.test/a?X-Amz-Signature=hunter2 "Authorization: Bearer hunter2"'
    told = json.dumps(body(Proof(0.0, (failed("NNA0734", line, cause=line, evidence=(line,), try_=""),))))
    assert "https://blobs.test/a" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"backend": None},
        {"backend": "x"},
        {"backend": {"registry": []}},
        {"device": None},
        {"device": []},
    ],
)
def test_a_nydusd_whose_configuration_is_odd_is_told_of_and_ends_no_check(config: dict[str, object]) -> None:
    assert difference_of(backend_of(config), {}, Dialect.PROXY) == "it has no registry backend"
