"""`doctor` on a node while somebody changes it, or rehearses the mirror's failure."""

from __future__ import annotations

import io
import json

import pytest

from agent import paths
from agent.commands import doctor
from agent.commands.context import Context
from agent.console import Console, Format
from agent.errors import Exit, FileError, HttpError
from agent.proof import drift
from tests.unit.proved_node import ProvedNode, in_use, proved, with_programs
from tests.unit.small_registries import SmallRegistries

DRILL = "process 4711 (nydus-agent drill mirror-down 30s) holds /var/lib/nydus-agent/lock"


@pytest.fixture
def node() -> ProvedNode:
    return proved()


def examined(node: ProvedNode, format_: Format = Format.TEXT) -> tuple[Exit, str, str]:
    """The exit code, the answer, and what was said beside it."""
    out, err = io.StringIO(), io.StringIO()
    context = Context(Console(out, err, format_), uid=0)
    registries = SmallRegistries(node.node.files).ports
    return doctor.examine(context, node.config, node.node.ports, registries), out.getvalue(), err.getvalue()


def dead(node: ProvedNode) -> None:
    """Nobody answers for the mirror."""
    node.node.http.on(
        node.config.mirror.ping_url, HttpError("NNA0821", "no answer", cause="Connection refused")
    )


def test_a_drill_is_named_instead_of_blaming_the_mirror_that_it_makes_look_dead(node: ProvedNode) -> None:
    before = node.node.files.files[paths.PROOF].content
    node.node.ledger.held = DRILL
    dead(node)
    exit_, answer, beside = examined(node)
    assert node.node.files.files[paths.PROOF].content == before, "what was seen meanwhile is not published"
    assert exit_ is Exit.UNKNOWN
    last = answer.splitlines()[-1]
    assert last == f"could not tell: what is wrong may be the doing of {DRILL}; try again when that is over"
    assert DRILL in beside
    _, answer, _ = examined(node, Format.JSON)
    assert json.loads(answer)["under_way"] == DRILL


def test_what_is_proved_meanwhile_is_proved(node: ProvedNode) -> None:
    node.node.ledger.held = DRILL
    exit_, answer, _ = examined(node)
    assert (exit_, answer.splitlines()[-1]) == (Exit.OK, "proved: all checks")


def test_status_shows_from_then_on_what_doctor_has_proved(node: ProvedNode) -> None:
    del node.node.files.files[paths.PROOF]
    examined(node)
    published = json.loads(node.node.files.files[paths.PROOF].content)
    assert {check["state"] for check in published["checks"]} == {"ok"}


def test_where_it_cannot_be_published_doctor_says_so_and_answers_all_the_same(node: ProvedNode) -> None:
    node.node.faults.at(
        1, FileError("NNA0427", "cannot write", cause="No space left on device"), method="replace"
    )
    exit_, answer, beside = examined(node)
    assert (exit_, answer.splitlines()[-1]) == (Exit.OK, "proved: all checks")
    assert "status goes on showing the proof before this one" in beside
    assert "No space left on device" in beside


def test_without_one_the_check_that_fails_is_the_headline(node: ProvedNode) -> None:
    dead(node)
    exit_, answer, beside = examined(node)
    assert exit_ is Exit.NOT_AS_WANTED
    assert answer.splitlines()[-1].startswith("not proved: check 9 (mirror) failed")
    assert beside == ""
    _, answer, _ = examined(node, Format.JSON)
    assert json.loads(answer)["under_way"] == ""


def test_what_others_changed_is_told_with_both_values_and_the_command_to_try(node: ProvedNode) -> None:
    files, config = node.node.files, node.config.containerd.config
    files.put(
        config, files.files[config].content.replace(b'snapshotter = "nydus"', b'snapshotter = "overlayfs"')
    )
    exit_, answer, _ = examined(node)
    assert exit_ is Exit.NOT_AS_WANTED
    assert f"keys-contradicted: {config} says otherwise than what was applied" in answer
    assert 'snapshotter = "overlayfs", applied was "nydus"' in answer
    assert "try:   sudo nydus-agent plan" in answer


def test_what_could_not_be_looked_at_is_said_with_the_reason_and_nothing_is_called_gone() -> None:
    node = in_use(with_programs(ProvedNode()))
    node.node.processes.cannot_start = "[Errno 13] Permission denied: '/dev/null'"
    exit_, answer, _ = examined(node)
    assert exit_ is Exit.UNKNOWN
    assert (
        "unseen      our own package could not be looked at: [Errno 13] Permission denied: '/dev/null'"
        in answer
    )
    assert "gone" not in answer
    assert "proved: all checks" not in answer


def test_status_tells_no_drift_of_an_older_look_beside_what_doctor_has_just_proved() -> None:
    node = in_use(with_programs(ProvedNode()))
    files, program = node.node.files, "/usr/local/bin/nydusd"
    was = files.files[program]
    files.drop(program)
    drift.tell(node.node.ports, drift.find_drift(node.config, node.node.ports))
    assert b"is gone" in files.files[paths.DRIFT].content
    files.put(program, was.content, mode=was.mode)
    examined(node)
    assert json.loads(files.files[paths.DRIFT].content)["findings"] == []
