"""Locks that an attacker, or an old mirror, would like this node to use: refused before anything is fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.artifacts import lock as locks
from agent.artifacts.lock import Lock
from agent.errors import ArtifactError
from tests.hostile.case import PATH
from tests.hostile.conftest import note
from tests.hostile.stage import GOOD, pinned
from tests.unit.artifacts import NOW

LOCK = Lock(2026112702, NOW, NOW + timedelta(days=365), "0.1.0", (pinned(GOOD, f"https://example.org{PATH}"),))


@pytest.mark.parametrize(
    ("name", "lock", "code", "reason"),
    [
        ("an old lock, played back", replace(LOCK, serial=2026112700), "NNA1105", "this node has accepted before"),
        ("a lock that has expired", replace(LOCK, expires=NOW - timedelta(days=1)), "NNA1103", "the lock has expired"),
        ("a lock from the future", replace(LOCK, made=NOW + timedelta(days=30)), "NNA1104", "future of this node's"),
        ("a lock for a newer agent", replace(LOCK, minimum_agent="9.0.0"), "NNA1106", "9.0.0"),
    ],
)  # fmt: skip
def test_a_lock_is_not_used_that_is(name: str, lock: Lock, code: str, reason: str) -> None:
    found = locks.checks(lock, "/lock", now=NOW, floor=LOCK.serial - 1, agent_version="0.1.0")
    assert [objection.code for objection in found] == [code]
    told = str(found[0].problem)
    assert reason in told
    note(name, code, told, 0.0)


_TEXT = locks.render(LOCK).decode()
_WRONG: dict[str, tuple[Callable[[str], str], str, str]] = {
    "a lock with a short digest": (lambda text: text.replace(LOCK.artifacts[0].sha256, "abc"), "NNA1102", "sha256"),
    "a lock with a key that nobody knows": (lambda text: "mirror = 1\n" + text, "NNA1102", "unknown key"),
    "a lock with a negative size": (lambda text: text.replace(f"size = {len(GOOD)}", "size = -1"), "NNA1102", "size"),
    "a lock with a program outside": (lambda text: text.replace('"nydusd"', '"../nydusd"'), "NNA1102", "program"),
    "a lock with a URL of a file": (lambda text: text.replace("https://example.org", "file://"), "NNA1102", "url"),
    "a lock with an artifact twice": (lambda text: text + text[text.index("[[artifact]]") :], "NNA1102", "already"),
    "a lock that is no TOML": (lambda text: "<html>" + text, "NNA1101", "lock"),
    "a lock of two megabytes": (lambda text: text + "#" * (2 << 20), "NNA1101", "longer"),
}


@pytest.mark.parametrize("name", _WRONG)
def test_nothing_is_read_from(name: str) -> None:
    spoil, code, told = _WRONG[name]
    spoiled = spoil(_TEXT)
    assert spoiled != _TEXT
    with pytest.raises(ArtifactError) as caught:
        locks.parse(spoiled.encode(), "/lock")
    shown = f"{caught.value} {' '.join(caught.value.seen)}"
    assert caught.value.code == code
    assert told in shown
    note(name, code, shown, 0.0)


def test_the_lock_that_was_spoiled_is_a_good_one() -> None:
    assert locks.parse(_TEXT.encode(), "/lock") == LOCK
