"""`status` answers without root; its first line is the state in words, then the details, then what is
wrong.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.published import MIRROR, PID, Answer, PublishedNode, as_json


@pytest.fixture
def node(tmp_path: Path) -> PublishedNode:
    return PublishedNode(tmp_path)


def test_a_well_node_says_by_what_it_was_proved(node: PublishedNode) -> None:
    answer = Answer(node)
    assert answer.headline == f"serving from mirror, proved 40 s ago by 3.1 MB through {MIRROR}"
    assert answer.code == 0
    assert "problem" not in answer.text


def test_the_details_are_in_an_aligned_table(node: PublishedNode) -> None:
    answer = Answer(node)
    assert answer.row("route") == "route mirror since 1 h 56 min: the mirror is healthy"
    assert answer.row("state") == "state healthy since 1 h 56 min: a canary answered"
    assert answer.row("mode") == "mode fence the self-test passed"
    assert answer.row("fence") == "fence not raised self-test ok"
    assert answer.row("mirror").startswith(
        f"mirror {MIRROR} ping ok in 0.4 ms, 1 s ago; canary ok in 1.9 ms, 3 s ago"
    )
    assert answer.row("origin") == "origin registry.example.org:5000 ok, 40 s ago"
    assert answer.row("pin") == "pin none"
    assert answer.row("agent").startswith(f"agent running pid {PID}, since 2 h 1 min, published 1 s ago")
    assert answer.row("applied") == "applied fence, proxy generation 3"
    assert "nft can be used" in [line.strip() for line in answer.text.splitlines()], (
        "each reason has its own line"
    )
    table = [
        line for line in answer.text.splitlines() if line.startswith(("route", "state", "mode", "agent"))
    ]
    assert len({line.index(line.split()[1]) for line in table}) == 1


def test_every_check_of_the_last_proof_is_listed(node: PublishedNode) -> None:
    node.proof["checks"][9] |= {"state": "not-proved", "detail": "no nydus image on the node yet"}
    node.write()
    answer = Answer(node)
    assert (
        " ".join(answer.text.splitlines()[-1].split())
        == "10 not proved a real read no nydus image on the node yet"
    )
    assert (
        answer.headline
        == "serving from mirror, a lazy read is not proved yet: no nydus image on the node yet"
    )
    assert answer.code == 0


def test_the_origin_is_named_with_since_when_and_why(node: PublishedNode) -> None:
    node.status |= {
        "health_state": "down", "health_since": node.now - 12, "health_reason": "ping silent",
        "route": "origin", "route_since": node.now - 12, "route_reason": "ping silent",
        "history": [{"at": node.now - 12, "from": "healthy", "to": "down", "route": "origin",
                     "reason": "ping silent",
                     "evidence": "no answer for 612 ms"}],
    }  # fmt: skip
    node.status["fence"] |= {"active": True, "lease_left_ms": 9400, "refused_connects": 44}
    node.write()
    answer = Answer(node)
    assert (
        answer.headline
        == "reads go to the origin since 12 s: mirror down: ping silent (no answer for 612 ms)"
    )
    assert answer.code == 3
    assert "raised at 127.0.0.1:4001, lease ends in 9400 ms, 44 connects refused" in answer.row("fence")
    assert "problem[NNA1014]: the mirror is down" in answer.text
    assert "seen:  12 s ago: healthy -> down: no answer for 612 ms" in answer.text


@pytest.mark.parametrize(
    ("health_state", "said"),
    [("down", "mirror is down since 12 s: canary status (HTTP 429 for the canary); both bad"),
     ("suspect", "mirror is suspected since 12 s: canary status (HTTP 429 for the canary)")],
)  # fmt: skip
def test_the_evidence_is_in_the_first_line_where_the_reason_does_not_hold_it(
    node: PublishedNode, health_state: str, said: str
) -> None:
    change = {"at": node.now - 12, "from": "healthy", "to": health_state, "route": "mirror",
              "reason": "canary status",
              "evidence": "HTTP 429 for the canary"}  # fmt: skip
    node.status |= {
        "health_state": health_state,
        "health_since": node.now - 12,
        "health_reason": "canary status",
    }
    node.status |= {"route_reason": "both bad", "history": [change]}
    node.write()
    headline = Answer(node).headline
    assert headline.replace("reads stay on the mirror: ", "") == said
    node.status["health_reason"] = "canary status: HTTP 429 for the canary"
    node.write()
    assert Answer(node).headline.count("429") == 1


def test_long_evidence_does_not_fill_the_first_line(node: PublishedNode) -> None:
    node.status |= {
        "health_state": "down", "health_reason": "a read failed", "route": "origin",
        "route_reason": "a read failed",
        "history": [{"at": node.now, "from": "healthy", "to": "down", "route": "origin",
                     "reason": "a read failed",
                     "evidence": "x" * 400}],
    }  # fmt: skip
    node.write()
    assert Answer(node).headline.endswith("(" + "x" * 119 + "…)")


def test_a_mirror_around_which_reads_go_is_not_said_to_serve(node: PublishedNode) -> None:
    held = {"type": "ReadsGoAround", "status": "True", "since": node.now - 30, "reason": "NydusdFallsBack",
            "message": "nydusd takes reads to the origin by itself"}  # fmt: skip
    node.status["conditions"] = [held]
    node.write()
    answer = Answer(node)
    assert (
        answer.headline == "reads go around the mirror since 30 s: nydusd takes reads to the origin by itself"
    )
    assert answer.code == 3
    held["status"] = "False"
    node.write()
    assert Answer(node).headline.startswith("serving from mirror")


def test_reads_that_the_mirror_refuses_and_that_fail_as_wanted_are_said(node: PublishedNode) -> None:
    node.status["conditions"] = [{"type": "ReadsRefused", "status": "True", "since": node.now - 30,
                                  "reason": "Honoured",
                                  "message": "reads fail: blob sha256:00 of r/a"}]  # fmt: skip
    node.write()
    answer = Answer(node)
    assert answer.headline == "the mirror refuses reads since 30 s: reads fail: blob sha256:00 of r/a"
    assert answer.code == 3


def test_a_pin_shows_who_why_and_when_it_ends(node: PublishedNode) -> None:
    node.status["pin"] = {
        "route": "origin",
        "until": node.now + 4801,
        "reason": "dragonfly upgrade",
        "by": "mo",
    }
    node.status["route"] = "origin"
    node.write()
    answer = Answer(node)
    assert answer.headline.startswith("reads are pinned to the origin by mo for another 1 h ")
    assert "(dragonfly upgrade)" in answer.headline
    assert answer.code == 3
    assert answer.row("pin").startswith("pin origin for another 1 h ")


@pytest.mark.parametrize(("health_state", "code"), [("healthy", 0), ("down", 3), ("unknown", 3)])
def test_a_pin_to_a_bad_mirror_is_not_called_fine(node: PublishedNode, health_state: str, code: int) -> None:
    node.status |= {
        "pin": {"route": "mirror", "until": node.now + 60, "reason": "", "by": "mo"},
        "health_state": health_state,
    }
    node.write()
    assert Answer(node).code == code


def test_a_pin_without_a_fence_is_not_called_one(node: PublishedNode) -> None:
    pin = {"route": "origin", "until": node.now + 600, "reason": "", "by": "mo"}
    node.status |= {"mode": "native", "mode_reason": "no nft", "pin": pin}
    node.effective["switch"] = "native"
    node.write()
    answer = Answer(node)
    assert answer.headline.startswith("serving from mirror")
    assert "problem[NNA1004]: the pin to the origin has no effect" in answer.text
    assert answer.code == 3


def test_in_mode_native_the_origin_is_told_with_the_mirrors_fault(node: PublishedNode) -> None:
    node.status |= {
        "mode": "native", "health_state": "down", "health_reason": "ping refused", "route": "origin",
        "route_since": node.now - 12, "route_reason": "native: nydusd's own ping decides",
    }  # fmt: skip
    node.write()
    said = "reads go to the origin since 12 s: mirror down: ping refused; native: nydusd's own ping decides"
    assert Answer(node).headline == said


def test_in_mode_native_a_dead_mirror_is_told_and_so_is_what_protects_reads(node: PublishedNode) -> None:
    node.status |= {
        "mode": "native",
        "health_state": "down",
        "health_reason": "connection refused",
        "route_reason": "",
    }
    node.effective["switch"] = "native"
    node.write()
    answer = Answer(node)
    assert "mirror is down since" in answer.headline
    assert "nydusd's own fallback protects reads" in answer.headline
    assert answer.code == 3


def test_a_fence_that_was_applied_but_does_not_work_any_more_is_a_problem(node: PublishedNode) -> None:
    node.status |= {"mode": "native", "mode_reason": "the self-test failed"}
    node.write()
    answer = Answer(node)
    assert answer.code == 3
    assert "the mode is native although the node was set up for the fence" in answer.text


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


def test_a_check_that_could_not_be_told_is_never_fine(node: PublishedNode) -> None:
    node.proof["checks"][7] |= {"state": "unknown", "detail": "nydusd did not answer", "code": "NNA0721"}
    node.write()
    answer = Answer(node)
    assert answer.code == 4
    assert "problem[NNA0721]: check 8 (running nydusd) could not be told" in answer.text


def test_an_old_proof_proves_nothing_about_now(node: PublishedNode) -> None:
    node.proof["at"] = node.now - 7200
    node.write()
    answer = Answer(node)
    assert answer.code == 4
    assert "problem[NNA1017]: the proof is old" in answer.text


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"health_state": "suspect", "health_reason": "a read was cut"}, 3, "mirror is suspected"),
        ({"health_state": "unknown", "health_reason": "nothing was seen"}, 4,
         "could not tell yet: nothing was seen"),
        ({"origins": [{"host": "a", "ok": False}]}, 3, "problem[NNA1016]: the origin does not answer: a"),
        ({"mirror": {"owner": "foreign", "owner_detail": "uid 1000"}}, 3, "problem[NNA1019]"),
        ({"conditions": [{"type": "Drift", "status": "True", "message": "the template was edited"}]}, 3,
         "problem[NNA1018]: Drift: the template was edited"),
        ({"conditions": [{"type": "EndpointPortTaken", "status": "True",
                          "message": "14003 is held by nobody"}]}, 3,
         "problem[NNA1018]: EndpointPortTaken: 14003 is held by nobody"),
        ({"conditions": [{"type": "Drift", "status": "Unknown", "message": "not readable"}]}, 4,
         "problem[NNA1017]"),
        ({"conditions": [{"type": "Drift", "status": "False", "message": "x"}]}, 0, "serving from mirror"),
    ],
)  # fmt: skip
def test_what_the_agent_found_reaches_the_exit_code(
    node: PublishedNode, change: dict[str, object], code: int, told: str
) -> None:
    node.status |= change
    node.write()
    answer = Answer(node)
    assert told in answer.text
    assert answer.code == code


@pytest.mark.parametrize(
    ("kind", "change", "code"),
    [
        ("ForeignListener", {"mirror": {"owner": "foreign", "owner_detail": "uid 1000"}}, "NNA1019"),
        ("BothBad", {"origins": [{"host": "a", "ok": False}]}, "NNA1016"),
    ],
)
def test_what_the_agent_holds_as_a_condition_is_not_told_twice(
    node: PublishedNode, kind: str, change: dict[str, object], code: str
) -> None:
    node.status |= change | {"conditions": [{"type": kind, "status": "True", "message": "so it is"}]}
    node.write()
    assert Answer(node).text.count("problem[") == 1
    assert f"problem[{code}]: {kind}: so it is" in Answer(node).text


def test_a_configuration_that_was_refused_at_reload_is_told_once_with_its_problems(
    node: PublishedNode,
) -> None:
    node.status["conditions"] = [{"type": "ConfigInvalid", "status": "True", "message": "1 problem"}]
    node.write()
    assert "problem[NNA0101]: ConfigInvalid: 1 problem" in Answer(node).text
    (node.root / "agent.toml").write_text("[mirror]\nurll = 1")
    assert Answer(node).text.count("NNA0101") == 1
    assert "mirror.urll" in Answer(node).text


def test_a_probe_that_fails_says_why(node: PublishedNode) -> None:
    node.status["mirror"] |= {"canary_ok": False, "canary_detail": "answered 429"}
    node.write()
    assert "canary failed (answered 429), 3 s ago" in Answer(node).row("mirror")


def test_drift_is_in_the_first_line_and_each_finding_has_its_command(node: PublishedNode) -> None:
    one = {"kind": "file-edited", "subject": "/etc/nydus/x", "what": "/etc/nydus/x was edited",
           "evidence": [],
           "remedy": "repair", "try": "sudo nydus-agent repair"}  # fmt: skip
    other = one | {
        "kind": "unit-down",
        "subject": "a.service",
        "what": "a.service does not run",
        "try": "look at it",
    }
    node.status["drift"] = [one, other]
    node.status["conditions"] = [{"type": "Drift", "status": "True", "message": "/etc/nydus/x was edited; …"}]
    node.write()
    answer = Answer(node)
    assert answer.code == 3
    assert answer.headline == "serving from mirror, but not as applied: /etc/nydus/x was edited, and 1 more"
    assert "file-edited" in answer.text
    assert "[NNA0441]" in answer.text
    assert "sudo nydus-agent repair" in answer.text
    assert "look at it" in answer.text
    assert "Drift:" not in answer.text


def test_drift_that_root_saw_is_told_when_the_agent_does_not_run(node: PublishedNode) -> None:
    finding = {"kind": "unit-down", "subject": "a.service", "what": "a.service does not run", "evidence": [],
               "remedy": "repair", "try": "sudo nydus-agent repair"}  # fmt: skip
    node.put("var/lib/nydus-agent/drift.json", {"findings": [finding, "rubbish", {"kind": "of tomorrow"}]})
    assert "a.service does not run" not in Answer(node).text  # the agent knows better
    node.kill()
    assert "a.service does not run" in Answer(node).text


def test_what_could_not_be_looked_at_is_told_as_unknown_with_the_reason(node: PublishedNode) -> None:
    node.proof["unseen"] = ["/usr/local/bin/nydusd could not be looked at: Permission denied"]
    node.write()
    answer = Answer(node)
    assert answer.code == 4
    assert "[NNA1017]: it is not known whether all is as it was applied" in answer.text
    assert "/usr/local/bin/nydusd could not be looked at: Permission denied" in answer.text
    assert as_json(node)["proof"]["unseen"] == node.proof["unseen"]


def test_registries_that_go_direct_are_named(node: PublishedNode) -> None:
    node.effective["not_accelerated"] = ["registry.example.org: no useTLS rule"]
    node.write()
    assert "not accelerated  registry.example.org: no useTLS rule" in Answer(node).text


def test_a_machine_gets_everything_as_fields(node: PublishedNode) -> None:
    node.fail(6, detail="x", code="NNA0607", **{"try": "y"})
    document = as_json(node)
    assert document["apiVersion"] == "nydus-agent/v1"
    assert (document["kind"], document["exit"]) == ("Status", 3)
    assert document["headline"] == Answer(node).headline
    assert document["agent"]["state"] == "running"
    assert document["daemon"]["route"] == "mirror"
    assert document["proof"]["checks"][5]["try"] == "y"
    assert document["effective"]["generation"] == 3
    assert [problem["code"] for problem in document["problems"]] == ["NNA0607"]


def test_the_fields_of_the_json_status_are_the_ones_that_were_promised(node: PublishedNode) -> None:
    """Within v1 fields are only added: a line removed here breaks somebody's monitoring."""
    document = as_json(node)
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
