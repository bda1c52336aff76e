"""The quick form of `make bench-switch`: small counts, the same node, faults and readers. No read fails.

Its times are judged here with room for a machine that is busy with other things; the bench itself holds them to the
bounds that are claimed.
"""

from __future__ import annotations

from typing import Any

from tests.bench import quick_form
from tests.node import images

_DEADLINE_S = 540
"""It takes about four minutes; a mirror that is never left makes reads wait for nydusd's own timeouts."""
_ROOM = {"ms": 2000.0, "s": 10.0}
"""Beyond a bound in time."""


def test_no_read_fails_and_no_read_waits_for_long_in_the_quick_form_of_the_switch_bench() -> None:
    images.cold()
    done = quick_form.run("switch", _DEADLINE_S)
    assert done.code in (0, 1), done.said[-3000:]
    goals: list[dict[str, Any]] = done.content["goals"]
    assert len(goals) > 30
    assert [goal for goal in goals if goal["seen"] > goal["limit"] + _ROOM.get(goal["unit"], 0.0)] == []
