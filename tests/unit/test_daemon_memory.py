"""What is known of the mirror outlives a reload, another set of origins, a restart and a crash; what is known
of the origins does not grow old while reads depend on them. The whole daemon, on real sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.model import FleetConfig, RegistriesConfig, RegistryHost, Scheme
from agent.daemon.memory import Memory, MemoryFile, Reach, known_to
from agent.health.policy import Policy, return_delay_s
from agent.health.state import Cause, Flap, HealthState, State
from agent.node.machine import node_identity
from tests.fakes.event_loop import until
from tests.fakes.mirror import SmallMirror, Way
from tests.fakes.registry import SmallRegistry
from tests.unit.daemon_node import HEALTH, Node, fresh, running, until_killed

LIVES = ("reload", "origins", "restart", "crash")
STAYS_S = 3.0
"""Long enough for a mirror whose pings are well to be believed by them: `rise` and `dwell_ms` are over in 0.5
s.
"""


def next_run(node: Node) -> Node:
    """The node as the next run of the daemon finds it."""
    again = Node(node.root, node.mirror)
    again.config, again.fakes.fence = node.config, node.fakes.fence
    again.fakes.tables.held = node.fakes.tables.held
    return again


@asynccontextmanager
async def lived(node: Node, life: str, reached: list[str]) -> AsyncIterator[Node]:
    """The daemon after `life`, which begins as soon as `reached` was brought about (see `bring`)."""
    if life in ("reload", "origins"):
        async with running(node):
            await bring(node, reached)
            if life == "reload":
                node.fakes.notify.sent.clear()
                os.kill(os.getpid(), signal.SIGHUP)
                await until(lambda: "READY=1" in node.fakes.notify.sent)
            else:
                # its port accepts: that is all that is asked of https
                seen = f"127.0.0.1:{node.mirror.ping_port}"
                node.apply("fence", origins=[seen])
                await until(lambda: any(one["host"] == seen for one in node.status["origins"]))
            yield node
        return
    node.fakes.processes.on("systemctl", "list-jobs", stdout="123 nydus-agent.service restart running\n")
    async with running(node) if life == "restart" else until_killed(node):
        await bring(node, reached)
    again = next_run(node)
    async with running(again):
        yield again


async def bring(node: Node, reached: list[str]) -> None:
    await until(node.is_("healthy", "mirror"))
    for step in reached:
        if step == "data path fails":
            node.mirror.proxy_way = Way.ERROR
            await until(node.is_("down", "origin"))
        elif step == "suspected":
            node.mirror.all_fail(Way.HANG)
            await until(node.is_("suspect", "origin"))
            node.mirror.all_fail(Way.WELL)
        elif step == "waits for its turn":
            node.mirror.all_fail(Way.RESET)
            await until(node.is_("down", "origin"))
            node.mirror.all_fail(Way.WELL)
            await until(node.is_("probation", "origin"))
        elif step == "flaps":
            for _ in range(3):
                node.mirror.all_fail(Way.RESET)
                await until(node.is_("down", "origin"))
                node.mirror.all_fail(Way.WELL)
                if not node.status["penalty"]["held"]:
                    await until(node.is_("healthy", "mirror"))
            assert node.status["penalty"]["held"]
        elif step.startswith("pin "):
            node.put(node.places.pin, {"route": step[4:], "until": 4e9, "reason": "upgrade", "by": "root"})
            await until(lambda: node.status["pin"] is not None)
            await until(lambda: node.status["route"] == node.status["pin"]["route"])


@pytest.mark.parametrize("life", LIVES)
async def test_a_mirror_elsewhere_whose_data_path_fails_gets_no_reads_for_its_pings_alone(
    tmp_path: Path, life: str
) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        node.fakes.tables.held.clear()  # it is not on this node
        async with lived(node, life, ["data path fails"]) as after:
            end = asyncio.get_running_loop().time() + STAYS_S
            while asyncio.get_running_loop().time() < end:
                assert (after.status["health_state"], after.status["route"]) == ("down", "origin")
                assert after.fenced()
                await asyncio.sleep(0.02)
            mirror.proxy_way = Way.WELL
            await until(after.is_("healthy", "mirror"))


@pytest.mark.parametrize("life", LIVES)
async def test_a_mirror_that_is_held_back_by_its_penalty_stays_held_back(tmp_path: Path, life: str) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        async with lived(node, life, ["flaps"]) as after:
            await asyncio.sleep(STAYS_S)
            assert after.is_("down", "origin")()
            assert after.status["penalty"]["held"]
            assert after.status["penalty"]["value"] > 2000


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("route", ["origin", "mirror"])
async def test_a_pin_holds_the_route_and_the_health_state_beside_it_is_kept(
    tmp_path: Path, life: str, route: str
) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        reached = ["data path fails"] if route == "mirror" else []
        health_state = "down" if route == "mirror" else "healthy"
        async with lived(node, life, [*reached, f"pin {route}"]) as after:
            await until(after.is_(health_state, route))
            await asyncio.sleep(1.0)
            assert after.is_(health_state, route)()
            assert after.fenced() is (route == "origin")
            moves = [entry for entry in after.status["history"] if entry["route_from"] != entry["route"]]
            assert (moves[-1]["route"], moves[-1]["cause"]) == (route, "pin"), "nothing moved since"


@pytest.mark.parametrize("life", LIVES)
async def test_a_mirror_that_is_well_keeps_its_reads(tmp_path: Path, life: str) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        async with lived(node, life, []) as after:
            await until(after.is_("healthy", "mirror"))
            assert not after.fenced()
            moves = [(entry["route_from"], entry["route"]) for entry in after.status["history"]]
            assert ("mirror", "origin") not in moves
            await mirror.die()
            await until(after.fenced)


def with_a_return_window(node: Node) -> float:
    """Seconds that this node waits for its turn."""
    node.config = replace(node.config, fleet=FleetConfig(return_window_s=30))
    return return_delay_s(node_identity(), 30)


@pytest.mark.parametrize("life", ["restart", "crash"])
@pytest.mark.parametrize(("was", "more_s"), [("suspected", 10.0), ("waits for its turn", 1.0)])
async def test_a_mirror_that_was_bad_gets_no_reads_before_this_nodes_turn_and_then_at_once(
    tmp_path: Path, life: str, was: str, more_s: float
) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        slot_s = with_a_return_window(node)
        async with lived(node, life, [was]) as after:
            began = asyncio.get_running_loop().time()
            assert (after.status["route"], after.fenced()) == ("origin", True)
            await until(after.is_("probation", "origin"))
            await until(after.is_("healthy", "mirror"), slot_s + 10)
            assert slot_s - 5 < asyncio.get_running_loop().time() - began < slot_s + more_s


async def test_a_first_look_that_fails_moves_no_reads_to_a_mirror_that_was_found_bad(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        async with until_killed(node):
            await bring(node, ["data path fails"])
        again = next_run(node)
        again.fakes.tables.bug = "a bug"

        def cure(sent: str) -> None:
            if sent == "READY=1":  # the first looks are done
                again.fakes.tables.bug = ""

        again.fakes.notify.heard = cure
        async with running(again):
            for _ in range(50):
                assert again.fenced()
                await asyncio.sleep(0.05)
            assert again.is_("down", "origin")()
            assert "nydus_agent_internal_errors_total 1" in (await again.get_local("/metrics"))[1]


def with_origin(node: Node, registry: SmallRegistry) -> None:
    host = RegistryHost(host=registry.origin.name, scheme=Scheme.HTTP)
    node.config = replace(node.config, registries=RegistriesConfig(hosts=(host,)))


async def test_an_origin_that_dies_while_a_well_mirror_is_held_back_costs_reads_ten_seconds_at_most(
    tmp_path: Path,
) -> None:
    async with SmallMirror() as mirror, SmallRegistry() as registry:
        node = Node(fresh(tmp_path), mirror)
        with_origin(node, registry)
        health = replace(HEALTH, dwell_ms=600_000)
        node.config = replace(node.config, mirror=replace(node.config.mirror, health=health))
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            mirror.all_fail(Way.HANG)
            await until(node.is_("down", "origin"))
            mirror.all_fail(Way.WELL)
            port = registry.origin.port
            registry.close()
            assert await until(lambda: not node.fenced()) < 10
            assert node.status["route"] == "mirror"
            registry.server = await asyncio.start_server(registry.serve, "127.0.0.1", port)
            assert await until(node.fenced) < 10


async def test_other_registries_after_a_restart_do_not_bring_a_mirror_back_for_its_pings_alone(
    tmp_path: Path,
) -> None:
    async with SmallMirror() as mirror, SmallRegistry() as former, SmallRegistry() as registry:
        node = Node(fresh(tmp_path), mirror)
        with_origin(node, former)
        node.fakes.tables.held.clear()
        mirror.cannot_reach, mirror.forwards = f":{node.config.endpoint.port}/", True
        async with until_killed(node):
            await until(lambda: node.status.get("mirror", {}).get("canary_ok") is True)
            mirror.all_fail(Way.RESET)
            await until(node.is_("down", "origin"))
            mirror.proxy_way, mirror.ping_way = Way.ERROR, Way.WELL
        with_origin(node, registry)
        async with running(next_run(node)) as again:
            for _ in range(60):
                assert (again.status["health_state"], again.fenced()) == ("down", True)
                await asyncio.sleep(0.05)
            mirror.proxy_way = Way.WELL
            await until(again.is_("healthy", "mirror"))


async def test_a_read_that_fails_behind_the_fence_has_the_origin_asked_at_once(tmp_path: Path) -> None:
    async with SmallMirror() as mirror, SmallRegistry() as registry:
        node = Node(fresh(tmp_path), mirror)
        with_origin(node, registry)
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            mirror.all_fail(Way.HANG)
            await until(node.is_("down", "origin"))
            registry.close()
            line = "Read from backend failed: Registry(Request(Http(reqwest::Error { kind: Request })))"
            node.fakes.journal.write(line)
            # 2 s since the last question, and one repetition.
            assert await until(lambda: not node.fenced()) < 4.5


async def test_under_a_pin_no_origin_is_asked_more_often(tmp_path: Path) -> None:
    async with SmallMirror() as mirror, SmallRegistry() as registry:
        node = Node(fresh(tmp_path), mirror)
        with_origin(node, registry)
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            node.put(node.places.pin, {"route": "origin", "until": 4e9, "reason": "upgrade", "by": "root"})
            await until(node.fenced)
            before = registry.asked
            line = "Read from backend failed: Registry(Request(Http(reqwest::Error {})))"
            for _ in range(200):  # in 10 s
                node.fakes.journal.write(line)
                await asyncio.sleep(0.05)
            assert registry.asked - before <= 1, "its own round, which is rare"


async def test_a_mirror_that_moves_off_the_node_is_used_again(tmp_path: Path) -> None:
    async with SmallMirror() as mirror, SmallRegistry() as registry:
        node = Node(fresh(tmp_path), mirror)
        with_origin(node, registry)
        mirror.forwards = True
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            await mirror.die()
            node.fakes.tables.held.clear()
            await until(node.is_("down", "origin"))
            mirror.cannot_reach = f":{node.config.endpoint.port}/"  # its loopback is another one now
            await mirror.revive()
            assert await until(node.is_("healthy", "mirror"), 50) < 30
            assert any(registry.origin.name in target for target in mirror.targets)


class TestMemoryFile:
    STATE = State(
        health_state=HealthState.PROBATION, since=100.0, reason="it answers again", cause=Cause.RECOVERED,
        was_well=True, local=True, origin=True, flap=Flap(3000.0, 90.0, suppressed=True), return_at=130.0,
    )  # fmt: skip
    MEMORY = Memory(
        "127.0.0.1:4001", "127.0.0.1:4003/healthy", STATE, True, Reach(True, 2, frozenset({"r.test"}))
    )
    POLICY = Policy(return_delay_s=60.0)

    def test_what_was_known_is_known_again(self, tmp_path: Path) -> None:
        path = str(tmp_path / "memory.json")
        MemoryFile(path).save(self.MEMORY)
        assert os.stat(path).st_mode & 0o777 == 0o600
        found = MemoryFile(path).load(110.0, self.POLICY)
        assert found is not None
        state = found.state
        assert (found.canary, found.reach) == (True, self.MEMORY.reach)
        assert (state.health_state, state.since, state.return_at) == (HealthState.PROBATION, 100.0, 130.0)
        assert (state.flap, state.local, state.was_well) == (self.STATE.flap, True, True)

    def test_what_found_no_room_is_written_when_there_is_room(self, tmp_path: Path) -> None:
        kept = MemoryFile(str(tmp_path / "run" / "memory.json"))
        kept.save(self.MEMORY)
        (tmp_path / "run").mkdir()
        kept.save(self.MEMORY)
        assert kept.load(110.0, self.POLICY) is not None

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("boot", "another boot"), ("kind", "Proof"), ("health_state", "fine"), ("since", 1e9), ("since",
                "x"),
            ("flap", [1, 2]), ("flap", [-1, 2, False]), ("flap", [float("nan"), 2, False]), ("was_local", 1),
            ("failures", 10**9), ("proved", "x"), ("doubted", ["nobody"]), ("return_at", 1e300),
            ("reason", None),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_means_that_nothing_is_known(
        self, tmp_path: Path, key: str, value: object
    ) -> None:
        path = tmp_path / "memory.json"
        MemoryFile(str(path)).save(self.MEMORY)
        path.write_text(json.dumps({**json.loads(path.read_bytes()), key: value}))
        assert MemoryFile(str(path)).load(110.0, self.POLICY) is None

    def test_a_damaged_file_means_that_nothing_is_known(self, tmp_path: Path) -> None:
        path = tmp_path / "memory.json"
        for content in (b"", b"{", b"[]", b"\0" * 100):
            path.write_bytes(content)
            assert MemoryFile(str(path)).load(110.0, self.POLICY) is None

    def test_another_mirror_starts_fresh(self) -> None:
        assert known_to(self.MEMORY, "10.0.0.1:4001", "", frozenset()).state == State()

    def test_registries_that_are_gone_vouch_no_more_and_canaries_are_asked_for_all_the_same(self) -> None:
        state = State(health_state=HealthState.DOWN, was_well=True)
        remote = replace(self.MEMORY, state=state, reach=Reach(False, 5, self.MEMORY.reach.proved))
        found = known_to(remote, remote.mirror, remote.ping, frozenset({"new.test"}))
        assert (found.canary, found.reach.proved) == (True, frozenset())
