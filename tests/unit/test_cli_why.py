"""`status --why` tells cause, evidence and what the return waits for, `events` how it came to that.

What nobody has told is unknown.
"""

from __future__ import annotations

import time

from tests.unit.published import Answer, PublishedNode, Run

NOTHING = "nothing is known of before"


def why(node: PublishedNode, *options: str) -> Answer:
    return Answer(node, "--why", *options)


def events(node: PublishedNode, *options: str) -> Run:
    return Run(node.root, "events", *options, uid=65534)


def outage(node: PublishedNode) -> None:
    """The mirror has died 12 s ago."""
    entry = {"at": -12.25, "from": "healthy", "to": "suspect", "route_from": "mirror", "route": "origin",
             "cause": "refused", "reason": "ping refused",
             "evidence": "127.0.0.1:4003: Connection refused"}  # fmt: skip
    node.change({
        "health_state": "suspect", "health_since": -12.0, "health_reason": "ping refused",
        "health_cause": "refused", "route": "origin", "route_since": -12.0, "route_reason": "ping refused",
        "history": [entry], "window_ms": 640, "canary_window_ms": 1300,
        "symptoms": {"watching": True, "problem": "", "counts": {"cut": 2, "status": 0, "decode": 1},
                     "last": {"kind": "cut", "detail": "ended early", "at": -13.0}},
    })  # fmt: skip
    node.status["penalty"] = {"value": 1999.6, "held": True, "reuse": 750.0}
    node.status["return"] = {"waits_for": ["10 answers in succession", "a clean canary"], "seconds": 8.0}
    node.write()


def test_after_an_outage_it_tells_why_and_what_brings_reads_back(node: PublishedNode) -> None:
    outage(node)
    told = why(node)
    assert told.headline == Answer(node).headline
    assert told.code == Answer(node).code == 3
    rows = {
        "route": ["origin since 12 s: ping refused"],
        "cause": ["refused"],
        "evidence": ["127.0.0.1:4003: Connection refused"],
        "waits for": ["10 answers in succession", "a clean canary"],
        "time left": ["6 s at least"],  # 8 s, published 1 s ago
        "penalty": ["2000, the mirror is held back until it has fallen below 750"],
        "symptoms": ["cut 2, decode 1 since the agent was started", "the last 13 s ago: cut: ended early"],
        "windows": ["ping 640 ms, canary 1300 ms"],
    }
    assert {name: told.rows(name) for name in rows} == rows
    last, at = told.text.splitlines()[-1], node.now - 12.25
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(at)))
    assert f"{whole}.{int((at - int(at)) * 1000):03}" in last
    assert " ".join(last.split()[2:]) == (
        "healthy -> suspect mirror -> origin refused ping refused (127.0.0.1:4003: Connection refused)"
    )
    document = why(node, "--format", "json").json
    assert (document["kind"], document["exit"], document["agent"]["state"]) == ("Why", 3, "running")
    assert (document["health_cause"], document["waits_for"]) == ("refused", rows["waits for"])
    assert 5 < document["seconds_left"] <= 7
    (change,) = document["history"]
    assert (change["from"], change["to"], change["route_from"], change["route"]) == (
        "healthy", "suspect", "mirror", "origin",
    )  # fmt: skip


def test_on_a_well_node_nothing_is_waited_for(node: PublishedNode) -> None:
    node.change({"symptoms": {"watching": True, "problem": "", "counts": {}, "last": None}})
    told = why(node)
    assert told.code == 0
    assert told.rows("waits for") == ["nothing: reads go to the mirror"]
    assert told.rows("symptoms") == ["none seen"]
    assert "no transition since the agent was started" in told.text


def test_what_the_agent_does_not_tell_is_unknown(node: PublishedNode) -> None:
    node.change({"route": "origin", "health_state": "down"})
    for name in ("waits for", "time left", "penalty", "symptoms"):
        assert why(node).rows(name) == ["unknown"], name
    assert why(node).rows("windows") == ["ping unknown, canary unknown"]
    document = why(node, "--format", "json").json
    told = [document[name] for name in ("waits_for", "seconds_left", "penalty", "symptoms", "health_cause")]
    assert told == [None] * 5
    outage(node)
    node.status["return"]["seconds"] = None
    node.status["symptoms"] |= {"problem": "the journal has dropped messages"}
    node.write()
    assert why(node).rows("time left") == ["unknown"]
    assert why(node).rows("symptoms")[0] == (
        "unknown: the journal has dropped messages (cut 2, decode 1 before)"
    )
    node.status["symptoms"]["watching"] = False
    node.write()
    assert why(node).rows("symptoms")[0] == "unknown: real reads are not watched"


def test_a_pin_is_told_with_who_and_why_and_until_when(node: PublishedNode) -> None:
    node.change({"pin": {"route": "origin", "until": 4801.0, "reason": "dragonfly upgrade", "by": "mo"}})
    assert why(node).rows("pin") == ["to the origin for another 1 h 20 min, by mo: dragonfly upgrade"]


def test_without_the_daemon_the_last_that_is_known_is_told_as_such(node: PublishedNode) -> None:
    outage(node)
    node.kill()
    told = why(node)
    assert told.code == 3
    assert told.headline.startswith("agent is not running")
    assert "what follows is 1 s old, the last that the agent has published" in told.text
    assert told.rows("waits for") == []
    assert "healthy -> suspect" in told.text
    node.remove("run/nydus-agent/status.json")
    assert (why(node).code, NOTHING in why(node).text) == (3, True)
    assert (events(node).code, NOTHING in events(node).out) == (3, True)
    assert why(node, "--format", "json").json["history"] == []


def test_as_many_transitions_are_shown_as_were_asked_for(node: PublishedNode) -> None:
    assert "no transition since the agent was started" in events(node).out
    step = {"from": "healthy", "to": "healthy", "route_from": "mirror", "route": "origin", "cause": "pin"}
    history = [step | {"at": number - 1000.0, "reason": f"number {number}"} for number in range(100)]
    node.change({"history": history})
    shown = {"why": why(node).out, "all": events(node).out, "3": events(node, "-n", "3").out}
    assert {name: text.count("number ") for name, text in shown.items()} == {"why": 10, "all": 100, "3": 3}
    assert all("number 99" in text for text in shown.values())
    assert "healthy -> healthy" not in shown["all"]
    assert (events(node).headline, events(node).code) == (Answer(node).headline, 0)
    document = events(node, "-n", "2", "--format", "json").json
    assert (document["kind"], [change["reason"] for change in document["history"]]) == (
        "Events", ["number 98", "number 99"],
    )  # fmt: skip
    for wrong in ("0", "101", "x"):
        assert events(node, "-n", wrong).code == 2
