"""`status --why` tells cause, evidence and what the return waits for, `events` the story.

What nobody has told is unknown.
"""

from __future__ import annotations

import io
import json
import time
from typing import Any

from agent.__main__ import main
from tests.unit.published import Answer, PublishedNode


class Why:
    words: tuple[str, ...] = ("status", "--why")

    def __init__(self, node: PublishedNode, *options: str) -> None:
        out, err = io.StringIO(), io.StringIO()
        where = ["--config", str(node.root / "agent.toml"), "--conf-d", str(node.root / "conf.d")]
        argv = [*self.words, *where, *options]
        self.code = main(argv, environment={}, out=out, err=err, uid=65534, root=str(node.root))
        self.text, self.err = out.getvalue(), err.getvalue()

    def rows(self, name: str) -> list[str]:
        """The rows under a name: its own, and those that go on without one."""
        found: list[str] = []
        inside = False
        for line in self.text.splitlines()[2:]:
            inside = line.split("  ")[0] == name or (inside and line.startswith("  "))
            found += [" ".join(line.removeprefix(name).split())] if inside else []
        return found

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.text)
        return document


def story_time(at: float) -> str:
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(at)))
    return f"{whole}.{int((at - int(at)) * 1000):03}"


def outage(node: PublishedNode) -> None:
    """The mirror has died 12 s ago."""
    entry = {"at": node.now - 12.25, "from": "healthy", "to": "suspect", "route_from": "mirror",
             "route": "origin",
             "cause": "refused", "reason": "ping refused",
             "evidence": "127.0.0.1:4003: Connection refused"}  # fmt: skip
    node.status |= {
        "health_state": "suspect", "health_since": node.now - 12, "health_reason": "ping refused",
        "health_cause": "refused", "route": "origin", "route_since": node.now - 12,
        "route_reason": "ping refused",
        "history": [entry], "window_ms": 640, "canary_window_ms": 1300,
        "penalty": {"value": 1999.6, "held": True, "reuse": 750.0},
        "return": {"waits_for": ["10 answers in succession", "a clean canary"], "seconds": 8.0},
        "symptoms": {"watching": True, "problem": "", "counts": {"cut": 2, "status": 0, "decode": 1},
                     "last": {"kind": "cut", "detail": "ended early", "at": node.now - 13}},
    }  # fmt: skip
    node.write()


def test_after_an_outage_it_tells_why_and_what_brings_reads_back(node: PublishedNode) -> None:
    outage(node)
    why = Why(node)
    assert why.err == ""
    assert why.text.splitlines()[0] == Answer(node).headline
    assert why.code == Answer(node).code == 3
    assert why.rows("route") == ["origin since 12 s: ping refused"]
    assert why.rows("cause") == ["refused"]
    assert why.rows("evidence") == ["127.0.0.1:4003: Connection refused"]
    assert why.rows("waits for") == ["10 answers in succession", "a clean canary"]
    assert why.rows("time left") == ["6 s at least"], "8 s, published 1 s ago"
    assert why.rows("penalty") == ["2000, the mirror is held back until it has fallen below 750"]
    assert why.rows("symptoms") == [
        "cut 2, decode 1 since the agent was started",
        "the last 13 s ago: cut: ended early",
    ]
    assert why.rows("windows") == ["ping 640 ms, canary 1300 ms"]
    story = why.text.splitlines()[-1]
    at = node.now - 12.25
    assert story_time(at) in story
    assert " ".join(story.split()[2:]) == (
        "healthy -> suspect mirror -> origin refused ping refused (127.0.0.1:4003: Connection refused)"
    )


def test_on_a_well_node_nothing_is_waited_for(node: PublishedNode) -> None:
    node.status["symptoms"] = {"watching": True, "problem": "", "counts": {}, "last": None}
    node.write()
    why = Why(node)
    assert why.code == 0
    assert why.rows("waits for") == ["nothing: reads go to the mirror"]
    assert why.rows("symptoms") == ["none seen"]
    assert "no transition since the agent was started" in why.text


def test_what_the_agent_does_not_tell_is_unknown(node: PublishedNode) -> None:
    node.status |= {"route": "origin", "health_state": "down"}
    node.write()
    why = Why(node)
    for name in ("waits for", "time left", "penalty", "symptoms"):
        assert why.rows(name) == ["unknown"], name
    assert why.rows("windows") == ["ping unknown, canary unknown"]
    document = Why(node, "--format", "json").json
    told = [document[name] for name in ("waits_for", "seconds_left", "penalty", "symptoms", "health_cause")]
    assert told == [None] * 5


def test_a_time_that_cannot_be_told_and_a_journal_that_cannot_be_read_are_unknown_too(
    node: PublishedNode,
) -> None:
    outage(node)
    node.status["return"]["seconds"] = None
    node.status["symptoms"] |= {"problem": "the journal has dropped messages"}
    node.write()
    why = Why(node)
    assert why.rows("time left") == ["unknown"]
    assert why.rows("symptoms")[0] == "unknown: the journal has dropped messages (cut 2, decode 1 before)"
    node.status["symptoms"]["watching"] = False
    node.write()
    assert Why(node).rows("symptoms")[0] == "unknown: real reads are not watched"


def test_a_pin_is_told_with_who_and_why_and_until_when(node: PublishedNode) -> None:
    node.status["pin"] = {
        "route": "origin",
        "until": node.now + 4801,
        "reason": "dragonfly upgrade",
        "by": "mo",
    }
    node.write()
    assert Why(node).rows("pin") == ["to the origin for another 1 h 20 min, by mo: dragonfly upgrade"]


def test_without_the_daemon_the_last_that_is_known_is_told_as_such(node: PublishedNode) -> None:
    outage(node)
    node.kill()
    why = Why(node)
    assert why.code == 3
    assert why.text.splitlines()[0].startswith("agent is not running")
    assert "what follows is 1 s old, the last that the agent has published" in why.text
    assert why.rows("waits for") == []
    assert "healthy -> suspect" in why.text
    node.remove("run/nydus-agent/status.json")
    gone = Why(node)
    assert gone.code == 3
    assert "nothing is known of before" in gone.text
    assert Why(node, "--format", "json").json["history"] == []


def test_a_machine_gets_it_as_fields(node: PublishedNode) -> None:
    outage(node)
    document = Why(node, "--format", "json").json
    assert (document["kind"], document["exit"], document["agent"]["state"]) == ("Why", 3, "running")
    assert (document["health_cause"], document["evidence"]) == (
        "refused",
        "127.0.0.1:4003: Connection refused",
    )
    assert document["waits_for"] == ["10 answers in succession", "a clean canary"]
    assert 5 < document["seconds_left"] <= 7
    assert document["penalty"] == {"value": 1999.6, "held": True, "reuse": 750.0}
    assert document["symptoms"]["counts"] == {"cut": 2, "status": 0, "decode": 1}
    (change,) = document["history"]
    assert (change["from"], change["to"], change["route_from"], change["route"]) == (
        "healthy", "suspect", "mirror", "origin",
    )  # fmt: skip


def numbered(node: PublishedNode, count: int) -> None:
    node.status["history"] = [
        {"at": node.now - 1000 + number, "from": "healthy", "to": "healthy", "route_from": "mirror",
         "route": "origin", "cause": "pin", "reason": f"number {number}"}
        for number in range(count)
    ]  # fmt: skip
    node.write()


class Events(Why):
    words = ("events",)


def test_the_last_transitions_are_part_of_the_reason(node: PublishedNode) -> None:
    numbered(node, 100)
    shown = Why(node).text
    assert shown.count("number ") == 10
    assert [f"number {number}" in shown for number in (89, 90, 99)] == [False, True, True]
    assert "healthy -> healthy" not in shown


def test_as_many_events_are_shown_as_were_asked_for(node: PublishedNode) -> None:
    numbered(node, 100)
    whole = Events(node)
    assert whole.text.count("number ") == 100
    assert whole.text.splitlines()[0] == Answer(node).headline
    assert whole.code == 0
    last = Events(node, "-n", "3").text
    assert [f"number {number}" in last for number in (96, 97, 98, 99)] == [False, True, True, True]
    document = json.loads(Events(node, "-n", "5", "--format", "json").text)
    assert document["kind"] == "Events"
    assert [change["reason"] for change in document["history"]] == [
        f"number {number}" for number in range(95, 100)
    ]
    for wrong in ("0", "101", "x"):
        assert Events(node, "-n", wrong).code == 2


def test_events_that_are_not_there_are_told(node: PublishedNode) -> None:
    assert "no transition since the agent was started" in Events(node).text
    node.remove("run/nydus-agent/status.json")
    node.kill()
    answer = Events(node)
    assert "nothing is known of before" in answer.text
    assert answer.code == 3
