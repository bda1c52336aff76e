"""What root's verbs leave for the daemon is believed only where it is root's, and whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.codec import from_json, to_json
from agent.config.model import RegistryHost, Scheme
from agent.daemon.documents import RELEASED, Document, applied, pin, pin_change, proof_of
from agent.daemon.settings import origins
from agent.documents.status import PinStatus
from agent.facts.node import Moment
from agent.health.evidence import Mode, Route
from agent.node.machine import present

ME = os.geteuid()


def test_a_document_is_read_again_when_it_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    document = Document(str(path), ME)
    assert document.load() is None
    path.write_text('{"a": 1}')
    assert document.load() == {"a": 1}
    (tmp_path / "new").write_text('{"a": 2}')
    (tmp_path / "new").rename(path)
    assert document.load() == {"a": 2}
    path.unlink()
    assert document.load() is None
    assert document.problem == ""


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": "' + "x" * (1 << 20) + '"}', "[" * 100_000])
def test_a_document_that_makes_no_sense_does_not_count_and_says_why(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    document = Document(str(tmp_path / "x.json"), ME)
    assert document.load() is None
    assert "JSON" in document.problem


def test_a_document_of_another_user_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    document = Document(str(tmp_path / "x.json"), ME + 1)
    assert document.load() is None
    assert "uid" in document.problem


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/os-release"), Path.mkdir, os.mkfifo])
def test_a_link_a_directory_or_a_pipe_in_its_place_does_not_count(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "x.json")
    document = Document(str(tmp_path / "x.json"), ME)
    assert document.load() is None
    assert document.problem


def test_the_mode_is_what_apply_has_set_up() -> None:
    assert applied(None).mode is Mode.UNKNOWN
    wanted = {"switch": "fence", "reasons": ["a", "b"], "mirror_url": "http://a:4001", "origins": ["r:5000"]}
    found = applied({**wanted, "at": "what only people read"})
    assert (found.mode, found.reason, found.mirror_url, found.origins) == (
        Mode.FENCE, "a", "http://a:4001", ("r:5000",),
    )  # fmt: skip
    assert applied({"switch": "native"}).mode is Mode.NATIVE
    assert applied({"switch": "magic"}).mode is Mode.UNKNOWN
    assert applied({**wanted, "origins": "r"}).reason == "effective.json: origins: is no list"


def pinned(**change: object) -> dict[str, object]:
    """A pin for ten minutes, made at 1000 in boot "a", whose clock stood at 50."""
    made = {"route": "origin", "until": 1600.0, "reason": "upgrade", "by": "mo", "at": 1000.0,
            "seconds": 600, "boot": "a", "boottime": 50.0}  # fmt: skip
    return {**made, **change}


def test_a_pin_holds_until_its_end() -> None:
    found = pin(pinned(), Moment(1599.0, 649.0, "a"))
    assert found is not None
    assert (found.route, found.until, found.reason, found.by) == (Route.ORIGIN, 1600.0, "upgrade", "mo")
    assert pin(pinned(), Moment(1600.0, 650.0, "a")) is None
    assert pin(None, Moment(0.0)) is None


def test_a_pin_does_not_outlast_a_clock_that_was_stepped_back() -> None:
    stepped = pin(pinned(), Moment(400.0, 51.0, "a"))
    assert stepped is not None
    assert stepped.until == pytest.approx(400.0 + 599.0), (
        "it ends after its duration, told by the clock of now"
    )
    assert pin(pinned(), Moment(400.0, 650.0, "a")) is None
    assert stepped == pin(pinned(), Moment(1001.0, 51.0, "a")), "it is still the same pin"


def test_a_pin_ends_early_by_a_clock_that_was_stepped_forward() -> None:
    assert pin(pinned(), Moment(1601.0, 52.0, "a")) is None


def test_a_pin_survives_a_reboot_and_not_more_than_its_duration_of_the_new_boot() -> None:
    after = pin(pinned(), Moment(1100.0, 5000.0, "b", up_s=20.0))
    assert after is not None
    assert after.until == 1600.0
    without_a_clock = pin(pinned(), Moment(10.0, 5000.0, "b", up_s=20.0))
    assert without_a_clock is not None
    assert without_a_clock.until == pytest.approx(10.0 + 580.0)
    assert pin(pinned(), Moment(10.0, 5000.0, "b", up_s=600.0)) is None


def test_where_the_boot_is_not_known_the_wall_clock_alone_counts() -> None:
    assert pin(pinned(), Moment(1100.0, 99999.0, "")) is not None
    assert pin(pinned(boot=None), Moment(1100.0, 99999.0, "a")) is not None
    assert pin(pinned(), Moment(1100.0, 99999.0, "b", up_s=None)) is not None


def test_a_pin_of_a_version_that_kept_no_duration_ends_by_its_two_times() -> None:
    old = {"route": "origin", "until": 1600.0, "reason": "", "by": "mo", "at": 1000.0}
    assert pin(old, Moment(1599.0)) is not None
    early = pin(old, Moment(400.0))
    assert early is not None
    assert early.until == 1000.0
    assert early.words == "by mo"


@pytest.mark.parametrize("at", [-1e14, -1, 1e16, float("nan"), "1", True])
def test_a_pin_whose_beginning_makes_no_sense_is_published_without_it(at: object) -> None:
    held = pin(pinned(at=at), Moment(1100.0, 60.0, "a"))
    assert held is not None
    assert from_json(PinStatus, to_json(held)) == held
    assert held.at is None


@pytest.mark.parametrize(
    "change",
    [
        {"route": "auto"},
        {"until": "tomorrow"},
        {"until": True},
        {"until": float("nan")},
        {"until": float("inf")},
    ],
)
def test_a_pin_that_makes_no_sense_holds_nothing(change: dict[str, object]) -> None:
    assert pin(pinned(**change), Moment(0.0)) is None


def test_the_log_tells_who_pinned_who_released_and_what_simply_ended() -> None:
    moment = Moment(1000.0, 50.0, "a")
    held = pin(pinned(), moment)
    assert pin_change(None, held, pinned(), moment) == (
        "reads are pinned to the origin for 10 min, upgrade (by mo); it ends in 10 min"
    )
    assert pin_change(held, None, pinned(), moment) == "the pin to the origin, upgrade (by mo), has ended"
    released = {"route": RELEASED, "by": "jo"}
    assert (
        pin_change(held, None, released, moment)
        == "the pin to the origin, upgrade (by mo), was released by jo"
    )
    assert pin_change(held, None, None, moment).endswith("was taken away")


def test_the_present_is_told_by_the_kernel(tmp_path: Path) -> None:
    now = present()
    assert now.boot
    assert now.up_s is not None
    assert 0 < now.up_s <= now.boottime
    nowhere = present(str(tmp_path))
    assert (nowhere.boot, nowhere.up_s) == ("", None)
    (tmp_path / "1").mkdir()
    (tmp_path / "1/stat").write_text("1 (a) b) S 0 " + "0 " * 30)
    assert present(str(tmp_path)).up_s is not None, "a name may hold brackets"


def test_a_proof_is_as_good_as_its_worst_check() -> None:
    checks = [
        {"number": 1, "name": "binaries", "state": "ok"},
        {"number": 2, "name": "unit", "state": "not-proved"},
    ]
    good = proof_of({"at": 5.0, "checks": checks, "drift": []})
    assert (good.at, good.problem) == (5.0, "")
    bad = proof_of(
        {
            "at": 5.0,
            "checks": [*checks, {"number": 3, "name": "socket", "state": "failed", "detail": "no answer"}],
        }
    )
    assert bad.problem == "check 3 (socket) failed: no answer"
    assert proof_of(None).problem
    assert proof_of(json.loads('{"checks": []}')).problem


def test_origins_are_the_operators_and_those_in_use_each_once() -> None:
    hosts = (RegistryHost("registry.test:5000", Scheme.HTTP), RegistryHost("private.test"))
    found = origins(hosts, ("registry.test:5000", "other.test", "[2001:db8::1]:5000"))
    assert [(origin.host, origin.port, origin.tls, origin.name) for origin in found] == [
        ("registry.test", 5000, False, "registry.test:5000"),
        ("private.test", 443, True, "private.test"),
        ("other.test", 443, True, "other.test"),
        ("2001:db8::1", 5000, True, "[2001:db8::1]:5000"),
    ]
