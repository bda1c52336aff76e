"""`status` answers without root; its first line is the state in words, then the details, then what is
wrong.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.published import MIRROR, PID, Answer, PublishedNode, as_json

AGO = 12.0
DOWN = {"health_state": "down", "health_since": -AGO, "health_reason": "ping silent", "route": "origin",
        "route_since": -AGO, "route_reason": "ping silent"}  # fmt: skip
STEP = {"at": -AGO, "from": "healthy", "to": "down", "route": "origin", "reason": "ping silent",
        "evidence": "no answer for 612 ms"}  # fmt: skip
CANARY = {"health_state": "down", "health_since": -AGO, "health_reason": "canary status",
          "route_reason": "both bad"}  # fmt: skip
REFUSED = STEP | {"route": "mirror", "reason": "canary status", "evidence": "HTTP 429 for the canary"}
PIN = {"route": "origin", "until": 4801.0, "reason": "dragonfly upgrade", "by": "mo"}
NATIVE = {"mode": "native", "mode_reason": "no nft"}
FOREIGN = {"owner": "foreign", "owner_detail": "uid 1000"}
BAD_ORIGIN = {"origins": [{"host": "a", "ok": False}]}
FINDING = {"kind": "file-edited", "subject": "/etc/nydus/x", "what": "/etc/nydus/x was edited",
           "evidence": [], "remedy": "repair", "try": "sudo nydus-agent repair"}  # fmt: skip
OTHER = FINDING | {"kind": "unit-down", "subject": "a.service", "what": "a.service does not run",
                   "try": "look at it"}  # fmt: skip


def condition(kind: str, status: str = "True", message: str = "so it is") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "message": message, "since": -AGO}]}


@pytest.mark.parametrize(
    ("change", "code", "headline"),
    [
        ({}, 0, f"serving from mirror, proved 40 s ago by 3.1 MB through {MIRROR}"),
        (DOWN, 3, "reads go to the origin since 12 s: mirror down: ping silent"),
        (DOWN | {"history": [STEP]}, 3,
         "reads go to the origin since 12 s: mirror down: ping silent (no answer for 612 ms)"),
        (CANARY | {"history": [REFUSED]}, 3,
         "mirror is down since 12 s: canary status (HTTP 429 for the canary); "
         "reads stay on the mirror: both bad"),
        (CANARY | {"health_state": "suspect", "history": [REFUSED | {"to": "suspect"}]}, 3,
         "mirror is suspected since 12 s: canary status (HTTP 429 for the canary)"),
        (CANARY | {"health_state": "suspect", "health_reason": "status: HTTP 429 for the canary",
                   "history": [REFUSED | {"to": "suspect"}]}, 3,
         "mirror is suspected since 12 s: status: HTTP 429 for the canary"),
        (DOWN | {"history": [STEP | {"evidence": "x" * 400}]}, 3,
         f"reads go to the origin since 12 s: mirror down: ping silent ({'x' * 119}…)"),
        (condition("ReadsGoAround"), 3, "reads go around the mirror since 12 s: so it is"),
        (condition("ReadsGoAround", "False"), 0, "serving from mirror"),
        (condition("ReadsRefused"), 3, "the mirror refuses reads since 12 s: so it is"),
        ({"pin": PIN, "route": "origin"}, 3, "reads are pinned to the origin by mo for another 1 h "),
        ({"pin": PIN | {"route": "mirror"}}, 0, "reads are pinned to the mirror"),
        ({"pin": PIN | {"route": "mirror"}, "health_state": "down"}, 3, "reads are pinned to the mirror"),
        ({"pin": PIN | {"route": "mirror"}, "health_state": "unknown"}, 3, "reads are pinned to the mirror"),
        (NATIVE | {"pin": PIN}, 3, "serving from mirror"),
        (DOWN | NATIVE | {"route_reason": "native: nydusd's own ping decides"}, 3,
         "reads go to the origin since 12 s: mirror down: ping silent; native: nydusd's own ping decides"),
        (CANARY | NATIVE | {"route_reason": ""}, 3,
         "mirror is down since 12 s: canary status; nydusd's own fallback protects reads"),
        ({"health_state": "unknown", "health_reason": "nothing was seen"}, 4,
         "could not tell yet: nothing was seen"),
        ({"drift": [FINDING, OTHER]}, 3,
         "serving from mirror, but not as applied: /etc/nydus/x was edited, and 1 more"),
        ({"at": -4000.0}, 4, f"could not tell: the agent (pid {PID}) lives but has published nothing for 1"),
    ],
)  # fmt: skip
def test_the_first_line_says_where_reads_go_and_why(
    node: PublishedNode, change: dict[str, Any], code: int, headline: str
) -> None:
    """Times of `change` are relative to now."""
    node.change(change)
    answer = Answer(node)
    assert answer.headline.startswith(headline)
    assert answer.code == code


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (DOWN | {"history": [STEP]}, ("problem[NNA1014]: the mirror is down",
                                      "seen:  12 s ago: healthy -> down: no answer for 612 ms")),
        ({"pin": PIN} | NATIVE, ("problem[NNA1004]: the pin to the origin has no effect",)),
        (NATIVE, ("problem[NNA1018]: the mode is native although the node was set up for the fence",)),
        (BAD_ORIGIN, ("problem[NNA1016]: the origin does not answer: a",)),
        (BAD_ORIGIN | condition("BothBad"), ("problem[NNA1016]: BothBad: so it is",)),
        ({"mirror": FOREIGN}, ("problem[NNA1019]: the listener on the mirror's port is not the mirror's",)),
        ({"mirror": FOREIGN} | condition("ForeignListener"), ("problem[NNA1019]: ForeignListener: so it",)),
        (condition("EndpointPortTaken"), ("problem[NNA1018]: EndpointPortTaken: so it is",)),
        (condition("ConfigInvalid"), ("problem[NNA0101]: ConfigInvalid: so it is", "nydus-agent check")),
        (condition("Drift", "Unknown"), ("problem[NNA1017]: Drift: so it is",)),
        (condition("Drift"), ("problem[NNA1018]: Drift: so it is",)),
        ({"drift": [FINDING]} | condition("Drift"), ("problem[NNA0441]: /etc/nydus/x was edited",
                                                     "file-edited", "sudo nydus-agent repair")),
    ],
)  # fmt: skip
def test_what_the_agent_found_is_a_problem_and_is_told_once(
    node: PublishedNode, change: dict[str, Any], told: tuple[str, ...]
) -> None:
    node.change(change)
    text = Answer(node).text
    assert [one for one in told if one not in text] == []
    pin_and_mode = 2 if change.get("pin") else 1  # both have the same cause
    assert text.count("problem[") == pin_and_mode


def test_the_details_are_in_an_aligned_table(node: PublishedNode) -> None:
    node.status["mirror"] |= {"canary_ok": False, "canary_detail": "answered 429"}
    node.effective["not_accelerated"] = ["registry.example.org: no useTLS rule"]
    node.change({"pin": PIN})
    answer = Answer(node)
    assert answer.row("route") == "route mirror since 1 h 56 min: the mirror is healthy"
    assert answer.row("state") == "state healthy since 1 h 56 min: a canary answered"
    assert answer.row("mode") == "mode fence the self-test passed"
    assert answer.row("fence") == "fence not raised self-test ok"
    assert answer.row("mirror").startswith(
        f"mirror {MIRROR} ping ok in 0.4 ms, 1 s ago; canary failed (answered 429), 3 s ago"
    )
    assert answer.row("origin") == "origin registry.example.org:5000 ok, 40 s ago"
    assert answer.row("pin").startswith("pin origin for another 1 h ")
    assert answer.row("pin").endswith("by mo: dragonfly upgrade")
    assert answer.row("agent").startswith(f"agent running pid {PID}, since 2 h 1 min, published 1 s ago")
    assert answer.row("applied") == "applied fence, proxy generation 3"
    assert answer.row("not accelerated") == "not accelerated registry.example.org: no useTLS rule"
    assert "nft can be used" in [line.strip() for line in answer.text.splitlines()]
    table = [line for line in answer.text.splitlines() if line.startswith(("route", "state", "mode"))]
    assert len({line.index(line.split()[1]) for line in table}) == 1


def test_a_fence_that_is_raised_is_told_with_its_lease(node: PublishedNode) -> None:
    node.status["fence"] |= {"active": True, "lease_left_ms": 9400, "refused_connects": 44}
    node.change(DOWN)
    told = "raised at 127.0.0.1:4001, lease ends in 9400 ms, 44 connects refused"
    assert told in Answer(node).row("fence")


def test_the_first_check_that_fails_is_the_headline_with_its_way_out(node: PublishedNode) -> None:
    node.fail(6, detail="the plugin did not start", code="NNA0607", cause="init error", evidence=["a", "b"],
              **{"try": "ctr plugins ls"})  # fmt: skip
    node.fail(7, detail="no such snapshotter", code="NNA0601")
    answer = Answer(node)
    assert answer.headline == "not proved: check 6 (CRI) failed: the plugin did not start"
    assert answer.code == 3
    foot = answer.text[answer.text.index("problems") :]
    assert "problem[NNA0607]: check 6 (CRI) failed: the plugin did not start" in foot
    assert "cause: init error\n  seen:  a\n  seen:  b\n  try:   ctr plugins ls" in foot
    assert "NNA0601" not in foot  # it follows from the first; the proof lists it


def test_a_lazy_read_that_could_not_be_tried_is_not_claimed(node: PublishedNode) -> None:
    node.proof["checks"][9] |= {"state": "not-proved", "detail": "no nydus image on the node yet"}
    node.write()
    answer = Answer(node)
    assert " ".join(answer.text.splitlines()[-1].split()) == (
        "10 not proved a real read no nydus image on the node yet"
    )
    assert answer.headline.endswith("a lazy read is not proved yet: no nydus image on the node yet")
    assert answer.code == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"at": -7200.0}, "problem[NNA1017]: the proof is old"),
        ({"unseen": ["/usr/bin/nydusd could not be looked at: Permission denied"]},
         "problem[NNA1017]: it is not known whether all is as it was applied\n"
         "  cause: not all could be looked at\n  seen:  /usr/bin/nydusd could not be looked at"),
        ({"checks": [{"number": 8, "name": "running nydusd", "state": "unknown", "code": "NNA0721"}]},
         "problem[NNA0721]: check 8 (running nydusd) could not be told"),
    ],
)  # fmt: skip
def test_what_could_not_be_proved_is_never_fine(
    node: PublishedNode, change: dict[str, Any], told: str
) -> None:
    node.proof |= node.at(change)
    node.write()
    answer = Answer(node)
    assert answer.code == 4
    assert told in answer.text


@pytest.mark.parametrize("rolled_back_to", [1, None])
def test_what_is_pending_is_told_with_the_way_to_see_it(
    node: PublishedNode, rolled_back_to: int | None
) -> None:
    node.effective["rolled_back_to"] = rolled_back_to
    node.proof["pending"] = ["replace /etc/nydus/snapshotter.toml: how the snapshotter runs"]
    node.write()
    answer = Answer(node)
    assert answer.code == 3
    assert "[NNA1013]: the configuration wants other than is in force" in answer.text
    assert "seen:  replace /etc/nydus/snapshotter.toml" in answer.text
    assert "try:   sudo nydus-agent plan" in answer.text
    assert ("cause: the node was rolled back to generation 1" in answer.text) is (rolled_back_to == 1)
    assert ("rolled back to 1: it holds until" in answer.row("applied")) is (rolled_back_to == 1)


def test_the_fields_of_the_json_status_are_the_ones_that_were_promised(node: PublishedNode) -> None:
    """Within v1 fields are only added: a line removed here breaks somebody's monitoring."""
    node.fail(6, detail="x", code="NNA0607", **{"try": "y"})
    document = as_json(node)
    assert (document["kind"], document["exit"]) == ("Status", 3)
    assert document["headline"] == Answer(node).headline
    assert (document["agent"]["state"], document["daemon"]["route"]) == ("running", "mirror")
    assert [problem["code"] for problem in document["problems"]] == ["NNA0607"]
    promised = {
        "": {"apiVersion", "kind", "headline", "exit", "agent", "daemon", "effective", "proof", "pin",
             "problems"},
        "agent": {"state", "age_s"},
        "daemon": {
            "pid", "at", "started_at", "mode", "mode_reason", "health_state", "health_since", "health_reason",
            "route",
            "route_since", "route_reason", "fence", "mirror", "origins", "pin", "conditions", "history",
        },
        "effective": {"at", "generation", "switch", "dialect", "use_http", "reasons", "not_accelerated"},
        "proof": {"at", "checks", "versions", "drift"},
    }  # fmt: skip
    for name, fields in promised.items():
        assert fields <= set(document[name] if name else document), name
    assert {"number", "name", "state", "detail", "code", "cause", "evidence", "try"} <= set(
        document["proof"]["checks"][0]
    )
