"""What root's verbs leave for the daemon is believed only where it is root's, and whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.config.model import RegistryHost, Scheme
from agent.daemon.documents import Document, applied, climb, pin
from agent.daemon.origins import origins
from agent.health.evidence import Mode, Route

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


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "x.json").symlink_to("real.json")
    assert Document(str(tmp_path / "x.json"), ME).load() is None


def test_a_pipe_in_its_place_does_not_stop_the_daemon(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    assert Document(str(tmp_path / "x.json"), ME).load() is None


def test_the_mode_is_what_apply_has_set_up() -> None:
    assert applied(None).mode is Mode.UNKNOWN
    found = applied(
        {"switch": "fence", "reasons": ["a", "b"], "mirror_url": "http://127.0.0.1:4001", "origins": ["r:5000"]}
    )
    assert (found.mode, found.reason, found.mirror_url, found.origins) == (
        Mode.FENCE, "a", "http://127.0.0.1:4001", ("r:5000",),
    )  # fmt: skip
    assert applied({"switch": "native"}).mode is Mode.NATIVE
    assert applied({"switch": "magic"}).mode is Mode.UNKNOWN
    assert applied({"switch": "fence", "reasons": 7, "origins": "r", "mirror_url": None}).origins == ()


def test_a_pin_holds_until_its_end() -> None:
    document = {"route": "origin", "until": 1000.0, "reason": "upgrade", "by": "root", "at": 1.0}
    found = pin(document, 999.0)
    assert found is not None
    assert (found.route, found.until, found.reason) == (Route.ORIGIN, 1000.0, "upgrade")
    assert pin(document, 1000.0) is None
    assert pin(None, 0.0) is None


@pytest.mark.parametrize("change", [{"route": "auto"}, {"until": "tomorrow"}, {"until": True}, {"until": float("nan")}])
def test_a_pin_that_makes_no_sense_holds_nothing(change: dict[str, object]) -> None:
    assert pin({"route": "origin", "until": 1000.0, **change}, 0.0) is None


def test_a_climb_is_as_good_as_its_worst_rung() -> None:
    rungs = [{"number": 1, "name": "binaries", "state": "ok"}, {"number": 2, "name": "unit", "state": "not-proved"}]
    good = climb({"at": 5.0, "rungs": rungs, "drift": []})
    assert (good.at, good.problem) == (5.0, "")
    bad = climb(
        {"at": 5.0, "rungs": [*rungs, {"number": 3, "name": "socket", "state": "failed", "detail": "no answer"}]}
    )
    assert bad.problem == "rung 3 (socket) failed: no answer"
    assert climb(None).problem
    assert climb(json.loads('{"rungs": []}')).problem


def test_origins_are_the_operators_and_those_in_use_each_once() -> None:
    hosts = (RegistryHost("registry.test:5000", Scheme.HTTP), RegistryHost("private.test"))
    found = origins(hosts, ("registry.test:5000", "other.test", "[2001:db8::1]:5000"))
    assert [(origin.host, origin.port, origin.tls, origin.name) for origin in found] == [
        ("registry.test", 5000, False, "registry.test:5000"),
        ("private.test", 443, True, "private.test"),
        ("other.test", 443, True, "other.test"),
        ("2001:db8::1", 5000, True, "[2001:db8::1]:5000"),
    ]
