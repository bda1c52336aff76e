"""How often the picture is published: at once when something is other than before, seldom while nothing goes
on.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.daemon import metrics, publish
from agent.documents.status import Change
from tests.fakes.event_loop import go, until
from tests.unit.daemon_node import Node, healthy
from tests.unit.views import DOWN, VIEW


async def publications(node: Node, count: int) -> list[float]:
    """The times of the next ones."""
    found: list[float] = [node.status["at"]]
    while len(found) <= count:
        await until(lambda: node.status["at"] != found[-1])
        found.append(node.status["at"])
    return found[1:]


def apart(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


async def test_a_node_that_is_well_is_published_every_few_seconds_and_lives_all_the_time(
    tmp_path: Path,
) -> None:
    async with healthy(tmp_path) as node:
        await until(lambda: node.status["origins"] == [] and node.status["mirror"]["canary_ok"] is True)
        assert max(apart(await publications(node, 3))) > 3
        assert (await node.get("/livez"))[0] == 200


async def test_while_reads_are_fenced_the_lease_can_be_followed(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        await node.mirror.die()
        await until(node.is_("down", "origin"))
        assert max(apart(await publications(node, 4))) < 2


async def test_what_is_other_than_before_is_published_at_once(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        await publications(node, 2)
        now = time.time()
        node.put(
            node.places.pin,
            {"route": "mirror", "until": now + 60, "reason": "test", "by": "root", "at": now},
        )
        took = await until(lambda: node.status["pin"] is not None)
        assert took < 2, "the daemon looks for a pin once a second"


def hold_up() -> None:
    """The daemon, for so long that its next tick has chores too, which publish."""
    time.sleep(1.1)


def test_a_health_state_is_never_published_without_its_place_in_the_history_and_the_time_since_when_it_holds(
    tmp_path: Path,
) -> None:
    without: list[dict[str, Any]] = []

    async def work() -> None:
        async with healthy(tmp_path) as node:

            def look(sent: str) -> None:
                status = node.status
                last = status["history"][-1]
                if (last["to"], last["at"]) != (status["health_state"], status["health_since"]):
                    without.append(
                        {
                            "last": last,
                            "health_state": status["health_state"],
                            "since": status["health_since"],
                        }
                    )
                if "probation" in (status["health_state"], sent):
                    hold_up()

            node.fakes.notify.heard = look
            await node.mirror.die()
            await until(node.is_("down", "origin"))
            await node.mirror.revive()
            await until(node.is_("healthy", "mirror"))
            node.fakes.notify.heard = lambda _: None

    go(work())
    assert without == []


async def test_the_sockets_tell_what_is_now_and_not_what_was_published(tmp_path: Path) -> None:
    async with healthy(tmp_path) as node:
        await publications(node, 2)
        pings = "nydus_agent_ping_duration_seconds_count"
        first = await metric(node, pings)
        await until(lambda: time.time() - node.status["mirror"]["ping_at"] > 0.3)
        assert await metric(node, pings) > first
        status = json.loads((await node.get_local("/status"))[1])
        assert status["at"] > node.status["at"]
        assert status.keys() == node.status.keys()
        told, drawn = await node.get_local("/metrics"), metrics.render(VIEW)
        assert series(told[1]) == series(drawn)


def series(exposition: str) -> set[str]:
    """Without those of origins, which have come to be asked one after the other."""
    lines = (line.rpartition(" ")[0] for line in exposition.splitlines() if not line.startswith("#"))
    return {line for line in lines if "_origin_up{" not in line}


async def metric(node: Node, name: str) -> float:
    lines = (await node.get_local("/metrics"))[1].splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def test_the_kept_text_of_the_history_is_that_of_the_history() -> None:
    encoder = publish.Encoder()
    entry = DOWN.history[0]
    for history in ((), (entry,), (entry, replace(entry, at=1001.0)), (replace(entry, at=1001.0),), ()):
        view = replace(VIEW, history=history)
        for _ in range(2):
            told = json.loads(encoder.encode(view))["history"]
            assert [item["at"] for item in told] == [item.at for item in history]


def test_a_full_history_costs_next_to_nothing_once_it_is_known() -> None:
    entry = Change(1.0, "healthy", "suspect", "origin", "r" * 100, "e" * 100)
    full = replace(VIEW, history=tuple(replace(entry, at=float(number)) for number in range(100)))
    encoder = publish.Encoder()
    assert cheapest(lambda: encoder.encode(full)) < 3 * cheapest(lambda: publish.Encoder().encode(VIEW))
    assert cheapest(lambda: publish.Encoder().encode(full)) > 3 * cheapest(
        lambda: publish.Encoder().encode(VIEW)
    )


def cheapest(work: Callable[[], object]) -> int:
    """Nanoseconds of processor time of the best of some rounds: what the machine does besides does not
    count.
    """
    found = []
    for _ in range(20):
        started = time.thread_time_ns()
        work()
        found.append(time.thread_time_ns() - started)
    return min(found)
