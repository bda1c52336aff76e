"""The operator's levers on a real node: pins, drills under a reading container, and a story that is told
truly.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node import scene

# What these tests bring about is told once, as a warning.
pytestmark = pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |BothBad: )")

PIN = "/var/lib/nydus-agent/pin.json"


@pytest.fixture
def fresh(stage: scene.Stage) -> scene.Stage:
    """The agent has forgotten the outages of the tests before, and reads go to the mirror."""
    scene.fresh_agent(stage.node, 60)
    stage.node.wait_until(
        lambda: scene.daemon_status(stage.node)["origins"][0]["ok"], 20, "the origin has answered"
    )
    return stage


@pytest.fixture
def reader(fresh: scene.Stage) -> Iterator[scene.Reader]:
    """A reader on a cold image: snapshot, nydusd and cache are made anew."""
    with scene.cold_reader(fresh.node, fresh.ref("reader-nydus")) as made:
        yield made


def said(stage: scene.Stage, text: str) -> bool:
    """Whether the daemon or a drill has told this in the journal."""
    return (
        text in stage.node.run(["journalctl", "--quiet", "--identifier=nydus-agent", "--output=cat"]).stdout
    )


def drills(stage: scene.Stage) -> bool:
    """Whether a table of a drill is there."""
    return "nydus_agent_drill" in stage.node.run(["nft", "list", "tables"]).stdout


@pytest.mark.parametrize("kind", ["mirror-down", "mirror-hang"])
def test_a_drill_switches_a_reading_container_there_and_back(
    stage: scene.Stage, reader: scene.Reader, kind: str
) -> None:
    at = time.time()
    answer = scene.agent_json(stage.node, "drill", kind, "--for", "6s")
    assert answer["kind"] == "Drill", answer
    assert answer["result"] in ("switched", "slow"), answer  # slow: this machine may be busy with other tests
    reader.wait_for(10)
    print(
        f"{kind}: origin after {answer['switched_ms']:.0f} ms, back {answer['returned_s']:.1f} s after the "
        f"mirror; slowest read {reader.slowest_ms(at):.0f} ms of {len(reader.reads())}, "
        f"{answer['destroyed']} destroyed"
    )
    assert reader.errors() == []
    assert reader.slowest_ms(at) < 2500
    assert not drills(stage)
    assert said(stage, f"drill {kind} for 6 s, asked for by root: begins")
    assert said(stage, f"drill {kind} for 6 s, asked for by root: reads switched in ")


# It ends while a ping is out: that one is lost, although the mirror is well again.
@pytest.mark.allow_warnings(r"^nydus-agent.service: PingFails: ")
def test_a_drill_that_is_killed_ends_by_itself_and_leaves_nothing(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    child = stage.node.popen(["nydus-agent", "drill", "mirror-hang", "--for", "10m"])
    scene.wait_for_route(stage.node, "origin", 15)
    assert drills(stage)
    refused = scene.agent(stage.node, "drill", "mirror-down", check=False)
    assert refused.returncode == 75, refused.stdout + refused.stderr
    assert "drill mirror-hang --for 10m" in scene.agent_json(stage.node, "doctor")["under_way"]
    pid = stage.node.run(
        ["pgrep", "--full", "--oldest", "nydus-agent drill mirror-hang --for 10m"]
    ).stdout.strip()
    stage.node.run(["kill", "-KILL", pid])
    child.wait(10)
    assert not drills(stage)
    took = scene.wait_for_route(stage.node, "mirror", 60)
    reader.wait_for(10)
    print(f"killed drill: route mirror again after {took:.1f} s")
    assert reader.errors() == []


@pytest.mark.allow_warnings(r"^nydus-agent.service: PingFails: ")
def test_a_drill_that_is_interrupted_ends_and_tells_how_far_it_came(
    stage: scene.Stage, reader: scene.Reader
) -> None:
    drill = "timeout --preserve-status --signal=INT 4 nydus-agent drill mirror-hang --for 10m"
    done = stage.node.run(drill.split(), check=False)
    assert done.returncode == 130, done.stdout + done.stderr
    assert "reads go to the origin, after " in done.stdout
    assert done.stdout.splitlines()[-1] == "was ended by SIGINT"
    assert not drills(stage)
    scene.wait_for_route(stage.node, "mirror", 60)
    reader.wait_for(10)
    assert reader.errors() == []


def test_a_drill_is_refused_where_the_mirror_is_not_well(fresh: scene.Stage) -> None:
    fresh.mirror.unit.kill("KILL")
    try:
        scene.wait_for_route(fresh.node, "origin", 10)
        refused = scene.agent(fresh.node, "drill", "mirror-down", check=False)
        assert refused.returncode == 4, refused.stdout + refused.stderr
        assert "error[NNA1020]" in refused.stderr
        assert not drills(fresh)
    finally:
        fresh.mirror.start_again()


def test_a_pin_survives_a_restart_of_the_agent_and_ends_in_time(fresh: scene.Stage) -> None:
    node = fresh.node
    scene.agent(node, "route", "pin", "origin", "--for", "10m", "--reason", "dragonfly upgrade")
    assert scene.route(node) == "origin"
    before = scene.daemon_status(node)["pin"]["until"]
    node.run(["systemctl", "restart", "nydus-agent"])
    scene.wait_for_route(node, "origin", 10)
    assert abs(scene.daemon_status(node)["pin"]["until"] - before) < 1
    assert scene.agent(node, "status", check=False).stdout.startswith(
        "reads are pinned to the origin by root for "
    )
    shown = scene.agent(node, "status", "--why", check=False).stdout
    assert "by root: dragonfly upgrade" in shown
    assert "healthy -> healthy" not in shown
    scene.agent(node, "route", "auto")
    scene.wait_for_route(node, "mirror", 30)
    assert said(fresh, "reads are pinned to the origin for 10 min, dragonfly upgrade (by root)")
    assert said(fresh, "the pin to the origin, dragonfly upgrade (by root), was released by root")
    scene.agent(node, "route", "pin", "origin", "--for", "3s")
    node.wait_until(lambda: said(fresh, "the pin to the origin, by root, has ended"), 10, "the pin has ended")
    scene.wait_for_route(node, "mirror", 30)


@pytest.mark.allow_warnings(r"^nydus-agent.service: (mirror \w+ -> |PingFails: )")
def test_a_proof_that_failed_while_the_mirror_was_down_is_made_anew_soon_after_its_return(
    fresh: scene.Stage,
) -> None:
    node = fresh.node
    fresh.mirror.unit.kill("KILL")
    scene.wait_for_route(node, "origin", 10)
    scene.agent(node, "inspect", check=False)
    checks = json.loads(node.read("/var/lib/nydus-agent/proof.json"))["checks"]
    assert "mirror" in [check["name"] for check in checks if check["state"] == "failed"]
    fresh.mirror.start_again()
    scene.wait_for_route(node, "mirror", 60)
    node.wait_until(
        lambda: "not proved" not in scene.agent(node, "status", check=False).stdout, 45, "proved anew"
    )


def story(stage: scene.Stage, *arguments: str) -> list[dict[str, Any]]:
    return list(scene.agent_json(stage.node, *arguments)["history"])


def test_the_story_of_an_outage_is_told_over_a_restart_and_without_the_agent(fresh: scene.Stage) -> None:
    node = fresh.node
    at = time.time()
    fresh.mirror.unit.kill("KILL")
    scene.wait_for_route(node, "origin", 10)
    told = node.run(["nydus-agent", "status", "--why"], user="nobody", check=False)
    assert told.returncode == 3
    assert told.stdout.startswith("reads go to the origin since ")
    assert "mirror -> origin" in told.stdout
    print(told.stdout)
    assert "unknown" not in told.stdout.partition("last transitions")[0]
    why = scene.agent_json(node, "status", "--why")
    print(json.dumps({name: why[name] for name in ("health_cause", "evidence", "waits_for", "seconds_left")}))
    assert why["waits_for"]
    fresh.mirror.start_again()
    scene.wait_for_route(node, "mirror", 60)
    node.run(["systemctl", "restart", "nydus-agent"])
    scene.wait_for_route(node, "mirror", 60)
    history = [entry for entry in story(fresh, "events") if entry["at"] > at]
    routes = [
        (entry["route_from"], entry["route"]) for entry in history if entry["route_from"] != entry["route"]
    ]
    assert routes[:2] == [("mirror", "origin"), ("origin", "mirror")]
    assert any("started anew" in entry["reason"] for entry in history)
    assert history == sorted(history, key=lambda entry: entry["at"])
    assert len(story(fresh, "events", "-n", "2")) == 2
    node.run(["systemctl", "stop", "nydus-agent"])
    try:
        gone = scene.agent(node, "status", "--why", check=False)
        assert gone.returncode == 3
        assert gone.stdout.startswith("agent is not running")
    finally:
        node.run(["systemctl", "start", "nydus-agent"])


def test_a_pin_survives_a_reboot_with_its_end(fresh: scene.Stage) -> None:
    """The last one: the servers around the node do not come back by themselves."""
    node = fresh.node
    scene.agent(node, "route", "pin", "origin", "--for", "10m")
    before = json.loads(node.read(PIN))
    node.reboot()
    node.wait_until(lambda: node.exists("/run/nydus-agent/status.json"), 30, "the agent has published")
    node.wait_until(lambda: scene.daemon_status(node)["pin"], 20, "the pin is taken")
    assert abs(scene.daemon_status(node)["pin"]["until"] - before["until"]) < 1
    assert json.loads(node.read(PIN)) == before
