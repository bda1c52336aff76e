"""Files that concern us: root is asked to look once, and a change is told only where no proof has seen it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import paths
from agent.daemon.documents import LastProof
from agent.daemon.drift import Drift
from agent.daemon.settings import Places
from agent.health.state import HealthState
from tests.fakes.daemon import FakeWatch
from tests.fakes.ledger import FakeLedger


class Watched:
    def __init__(self, root: Path) -> None:
        self.watch = FakeWatch()
        self.places = Places.below(str(root))
        self.requests = Path(self.places.requests)
        self.requests.parent.mkdir(parents=True)
        self.ledger = FakeLedger()
        self.drift = Drift(self.watch, self.ledger.holder, "/etc/containerd/config.toml", self.places)
        self.drift.refresh(0.0)

    def touch(self, now: float, *changed: str) -> None:
        for path in changed:
            self.watch.touch(path)
        self.drift.read_changes(now, 1_000_000 + now)

    def asked(self) -> list[str]:
        return [entry.name for entry in self.requests.iterdir()] if self.requests.exists() else []


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.watch.close()


def test_every_directory_of_ours_is_watched(watched: Watched) -> None:
    assert watched.watch.directories >= {
        "/etc/nydus",
        "/etc/systemd/system",
        "/etc/containerd",
        paths.CERTS_D,
    }


def test_a_group_of_changes_makes_one_request_when_they_have_settled(watched: Watched) -> None:
    watched.touch(10.0, paths.NYDUSD_TEMPLATE)
    assert watched.drift.ask(10.5) is False
    watched.touch(10.9, "/etc/containerd/certs.d/registry.test/hosts.toml")
    assert watched.drift.ask(11.8) is False
    assert watched.drift.ask(11.9) is True
    assert watched.asked() == ["drift"]
    assert watched.drift.ask(100.0) is False


def test_files_of_others_in_the_same_directories_are_none_of_our_business(watched: Watched) -> None:
    watched.touch(10.0, "/etc/systemd/system/other.service", "/etc/nydus/nydusd-config.json~")
    assert watched.drift.ask(100.0) is False
    assert watched.asked() == []


def test_a_change_that_a_proof_saw_soon_after_is_not_told(watched: Watched) -> None:
    watched.touch(10.0, paths.NYDUSD_TEMPLATE)
    watched.drift.ask(12.5)
    watched.drift.proved(1_000_014.0)
    watched.drift.ask(100.0)
    assert watched.drift.changed == ()


def test_a_change_that_no_proof_saw_is_told_until_one_did(watched: Watched) -> None:
    watched.touch(10.0, paths.NYDUSD_TEMPLATE)
    watched.drift.proved(1_000_009.0)  # a proof from before
    watched.drift.ask(60.0)
    assert watched.drift.changed == (paths.NYDUSD_TEMPLATE,)
    watched.drift.proved(1_000_061.0)
    assert watched.drift.changed == ()


def test_what_an_apply_writes_is_not_told_while_it_works_as_long_as_it_may(
    watched: Watched,
) -> None:
    with watched.ledger.lock("apply"):
        watched.touch(10.0, paths.NYDUSD_TEMPLATE)
        for now in range(11, 60):
            watched.drift.ask(float(now))
        assert watched.drift.changed == ()
    watched.drift.ask(59.9)
    assert watched.drift.changed == (), "there is a moment to notice its proof in"
    watched.drift.ask(60.0)
    assert watched.drift.changed == (paths.NYDUSD_TEMPLATE,), "it ended without one"


def test_a_check_that_failed_while_the_mirror_was_down_is_run_anew_once_it_is_well(watched: Watched) -> None:
    failed = LastProof(1_000_000.0, "check 9 (mirror) failed: no answer", failed=True)
    for now in (20.0, 20.5, 60.0):
        watched.drift.judged(HealthState.HEALTHY, 1_000_015.0, failed, now)
    assert watched.drift.ask(20.9) is False
    assert watched.drift.ask(21.0) is True
    watched.drift.judged(HealthState.HEALTHY, 1_000_015.0, failed, 79.0)
    assert watched.drift.ask(79.9) is False, "that proof has a minute"
    watched.drift.judged(HealthState.HEALTHY, 1_000_015.0, failed, 80.0)
    assert watched.drift.ask(81.0) is True


@pytest.mark.parametrize(
    "health_state", [HealthState.UNKNOWN, HealthState.SUSPECT, HealthState.DOWN, HealthState.PROBATION]
)
def test_while_the_mirror_is_not_well_no_proof_is_asked_for(
    watched: Watched, health_state: HealthState
) -> None:
    watched.drift.judged(
        health_state,
        1_000_015.0,
        LastProof(1_000_000.0, "check 9 (mirror) failed: no answer", failed=True),
        20.0,
    )
    assert watched.drift.ask(100.0) is False


@pytest.mark.parametrize(
    "proof",
    [
        LastProof(1_000_016.0, "check 9 (mirror) failed: no answer", failed=True),
        LastProof(1_000_000.0, "check 8 (nydusd) unknown: no container runs", failed=False),
        LastProof(1_000_000.0, ""),
        LastProof(),
    ],
    ids=["failed since", "could not be told", "proved", "nobody ran them"],
)
def test_what_a_mirror_that_is_well_cannot_have_mended_asks_for_no_proof(
    watched: Watched, proof: LastProof
) -> None:
    watched.drift.judged(HealthState.HEALTHY, 1_000_015.0, proof, 20.0)
    assert watched.drift.ask(100.0) is False
