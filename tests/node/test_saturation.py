"""A dfdaemon that is busy is no dfdaemon that is ill: under full load nothing moves."""

from __future__ import annotations

from tests.bench import report, saturation
from tests.node.dragonfly import staged


def test_a_saturated_dfdaemon_on_a_node_without_a_free_core_is_not_switched_away_from() -> None:
    with staged(saturation.IMAGE) as stage:
        seen = saturation.saturate(stage, saturation.QUICK_SECONDS)
    print(report.table(saturation.rows(seen)))
    assert seen.load["statuses"].get("206", 0) > 100, "there was load"
    assert seen.errors == []
    assert seen.switches == []
