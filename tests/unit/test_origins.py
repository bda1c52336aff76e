"""The origins are asked by name, and known addresses outlive a name service that cannot be asked any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent.daemon.origins import EVERY_S, Origins
from agent.daemon.settings import Origin
from agent.daemon.tasks import task_group
from agent.health.evidence import AgentInWant, OriginSeen
from tests.fakes.daemon import FakeNames
from tests.fakes.event_loop import clock, daemons_tasks, until
from tests.fakes.free_port import free_port
from tests.fakes.registry import SmallRegistry

WATCHED_S = 30.0


async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


@asynccontextmanager
async def asking(
    known: tuple[Origin, ...], seen: list[OriginSeen], names: FakeNames | None = None, *, needed: bool = False
) -> AsyncIterator[Origins]:
    """Origins that are asked again and again inside; what they tell is in `seen`."""

    def keep(event: OriginSeen | AgentInWant) -> None:
        assert isinstance(event, OriginSeen)
        seen.append(event)

    async with task_group() as tasks:
        origins = Origins(tasks, known, names or FakeNames(), keep, lambda: needed)
        tasks.create_task(origins.run(), name="origins")
        yield origins
    assert daemons_tasks() == []


async def told(origins: Origins, seen: list[OriginSeen]) -> OriginSeen:
    """The answer of one more round."""
    before = len(seen)
    origins.ask()
    async with asyncio.timeout(60):
        while len(seen) == before:
            await asyncio.sleep(0.01)
    return seen[-1]


@pytest.mark.real_time
async def test_an_origin_that_was_resolved_once_is_asked_where_no_name_can_be_resolved_now() -> None:
    names, seen = FakeNames(), list[OriginSeen]()
    names.known = {"registry.test": ("127.0.0.1",)}
    port = free_port()
    server = await asyncio.start_server(registry, "127.0.0.1", port)
    async with asking((Origin("registry.test", port, tls=False),), seen, names) as origins:
        assert (await told(origins, seen)).good
        server.close()
        assert not (await told(origins, seen)).good
        names.known.clear()  # as where the node has no task left for the question
        server = await asyncio.start_server(registry, "127.0.0.1", port)
        assert (await told(origins, seen)).good
        # It has moved, which is looked up as soon as it can be.
        names.known = {"registry.test": ("127.0.0.2",)}
        assert f"connect to 127.0.0.2:{port}" in (await told(origins, seen)).detail
    server.close()


@pytest.mark.real_time
async def test_one_that_comes_up_late_is_seen_within_seconds_without_anybody_asking() -> None:
    names, seen = FakeNames(), list[OriginSeen]()
    names.known = {"registry.test": ("127.0.0.1",)}
    port = free_port()
    async with asking((Origin("registry.test", port, tls=False),), seen, names):
        await until(lambda: bool(seen))
        assert not seen[0].good
        server = await asyncio.start_server(registry, "127.0.0.1", port)
        await until(lambda: seen[-1].good is True)
    server.close()


@pytest.mark.real_time
async def test_one_that_was_never_resolved_is_told_with_the_name_services_words() -> None:
    seen = list[OriginSeen]()
    async with asking((Origin("nowhere.test", 80, tls=False),), seen) as origins:
        answer = await told(origins, seen)
        assert not answer.good
        assert answer.detail == "nowhere.test: nowhere.test was not resolved: unknown name"


async def test_one_that_falls_silent_while_reads_depend_on_it_is_told_within_ten_seconds() -> None:
    seen = list[OriginSeen]()
    async with SmallRegistry() as registry, SmallRegistry() as never:
        never.silent = True
        async with asking((registry.origin, never.origin), seen, needed=True):
            for _ in range(2):
                await until(lambda: bool(seen and seen[-1].good))
                clock().advance(EVERY_S)  # so all are due
                seen.clear()
                await until(lambda: bool(seen and seen[-1].good))
                clock().advance(EVERY_S)
                registry.silent = True
                assert await until(lambda: not seen[-1].good) < 9.1
                registry.silent = False


async def passing(seconds: float, each: Callable[[], None] = lambda: None) -> None:
    """Do `each` 20 times a second."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        each()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("silent", [False, True], ids=["error", "silent"])
async def test_while_no_origin_is_good_one_is_asked_at_a_time_and_one_that_comes_back_is_seen_in_ten_seconds(
    *, silent: bool
) -> None:
    seen = list[OriginSeen]()
    async with SmallRegistry() as one, SmallRegistry() as two, SmallRegistry() as three:
        registries = (one, two, three)
        for each in registries:
            each.status, each.silent = 500, silent
        async with asking(tuple(each.origin for each in registries), seen, needed=True):
            await until(lambda: bool(seen))
            before = [each.asked for each in registries]
            await passing(WATCHED_S)
            asked = [each.asked - was for each, was in zip(registries, before, strict=True)]
            assert max(asked) - min(asked) <= 1
            assert WATCHED_S / 5 <= sum(asked) <= WATCHED_S / 2
            for each in registries:
                each.status, each.silent = 401, False
                assert await until(lambda: seen[-1].good is True) < 10
                each.status, each.silent = 500, silent
                assert await until(lambda: not seen[-1].good) < 10


async def test_one_error_of_the_only_good_origin_does_not_send_reads_back_to_a_bad_mirror() -> None:
    seen = list[OriginSeen]()
    async with SmallRegistry() as dead, SmallRegistry() as good:
        dead.status = 500
        async with asking((dead.origin, good.origin), seen, needed=True) as origins:
            await until(lambda: bool(seen))
            good.status = 503
            directly = await origins.status(good.origin)
            good.status = 401
            assert (directly.ok, origins.good()) == (False, ())
            await passing(WATCHED_S)
            assert {each.good for each in seen} == {True}


@pytest.mark.parametrize("status", [401, 500])
async def test_reads_that_fail_again_and_again_have_an_origin_asked_each_two_seconds_at_most(
    status: int,
) -> None:
    seen = list[OriginSeen]()
    async with SmallRegistry() as registry:
        registry.status = status
        async with asking((registry.origin,), seen, needed=True) as origins:
            await until(lambda: bool(seen))
            before = registry.asked
            await passing(WATCHED_S, origins.ask_soon)
            rare = 2  # that all have their turn, whatever is going on
            assert WATCHED_S / 2 - rare <= registry.asked - before <= WATCHED_S / 2 + rare


async def test_an_answer_to_an_older_question_does_not_undo_that_to_a_newer_one() -> None:
    async with SmallRegistry() as registry, task_group() as tasks:
        registry.silent = True
        origins = Origins(tasks, (registry.origin,), FakeNames(), lambda _: None, lambda: False)
        directly = tasks.create_task(origins.status(registry.origin), name="directly")
        await until(lambda: registry.asked == 1)
        registry.silent = False
        tasks.create_task(origins.run(), name="origins")
        await until(lambda: bool(origins.good()))
        assert await directly is not None
        assert origins.good() == (registry.origin,)
