"""What an operator would be misled by at night: a restart that nobody mentions, a journal full of one
sentence.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import structlog
from structlog.testing import capture_logs

from agent import paths
from agent.commands.internal.inspect import is_news
from agent.config.model import ContainerdConfig, ContainerdMode
from agent.daemon.record import Record
from agent.documents.drift import Finding, Kind, Remedy
from agent.documents.status import CheckResult, CheckState
from agent.errors import Exit
from agent.health.evidence import Mode
from agent.health.machine import transition
from agent.health.state import HealthState, State
from agent.proof import proofs
from tests.fakes.http import answer
from tests.unit.proved_node import CONFIG, ROOT, ProvedNode, proved


@pytest.mark.parametrize(
    ("mode", "level"), [(Mode.UNKNOWN, "info"), (Mode.FENCE, "warning"), (Mode.NATIVE, "warning")]
)
def test_a_node_on_which_nothing_was_applied_is_not_warned_of_a_mirror_that_it_lacks(
    mode: Mode, level: str
) -> None:
    before = replace(State(), mode=mode)
    change = transition(before, replace(before, health_state=HealthState.DOWN))
    assert change is not None
    record = Record()
    with capture_logs() as logs:
        record.log = structlog.get_logger()
        record.transition(change)
    assert [entry["log_level"] for entry in logs] == [level]


FINDING = Finding(Kind.FILE_EDITED, "/etc/nydus/x", "a file was edited", Remedy.REPAIR, "nydus-agent repair")


def _cri(made: ProvedNode) -> CheckResult:
    return made.proof().checks[5]


def test_a_containerd_that_still_runs_with_the_former_mode_is_told_until_somebody_restarts_it() -> None:
    made = proved()
    made.config = replace(CONFIG, containerd=ContainerdConfig(mode=ContainerdMode.PLUGIN_ONLY))
    made.apply()
    made.node.containerd.mountpoints = (ROOT,)
    check = _cri(made)
    assert check.state is CheckState.NOT_PROVED
    assert "a restart of containerd is due" in check.detail
    assert check.try_ == "systemctl restart containerd.service"
    made.node.containerd.mountpoints = ("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs",)
    assert _cri(made).state is CheckState.OK


def test_a_default_that_is_the_operators_own_choice_is_no_due_restart() -> None:
    made = proved()
    assert b'snapshotter = "nydus"' in made.node.files.files[CONFIG.containerd.config].content
    made.config = replace(CONFIG, containerd=ContainerdConfig(mode=ContainerdMode.PLUGIN_ONLY))
    assert _cri(made).state is CheckState.OK


def test_an_inspection_tells_what_changed_and_is_quiet_about_what_stays() -> None:
    made = proved()
    files = made.node.files
    files.drop(paths.PROOF)
    good = made.proof()
    assert is_news(files, good)
    proofs.publish(files, good)
    assert not is_news(files, made.proof())
    made.node.http.on(made.config.mirror.ping_url, answer(503))
    bad = made.proof()
    assert bad.exit is Exit.NOT_AS_WANTED
    assert is_news(files, bad)
    proofs.publish(files, bad)
    assert not is_news(files, made.proof())
    assert is_news(files, replace(bad, findings=(FINDING,)))
    files.put(paths.PROOF, b"not JSON")
    assert is_news(files, bad)
