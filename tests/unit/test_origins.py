"""The origins are asked by name, and known addresses outlive a name service that cannot be asked any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.daemon.origins import EVERY_S, Origin, Origins
from agent.health.evidence import AgentInWant, OriginSeen
from tests.fakes.daemon import FakeNames
from tests.fakes.free_port import free_port
from tests.fakes.registry import SmallRegistry
from tests.fakes.turning import clock, go, here, on_time, until


async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


def kept(seen: list[OriginSeen]) -> Callable[[OriginSeen | AgentInWant], None]:
    def keep(event: OriginSeen | AgentInWant) -> None:
        assert isinstance(event, OriginSeen)
        seen.append(event)

    return keep


async def told(origins: Origins, seen: list[OriginSeen]) -> OriginSeen:
    """The answer of one more round."""
    before = len(seen)
    origins.ask()
    async with asyncio.timeout(60):
        while len(seen) == before:
            await asyncio.sleep(0.01)
    return seen[-1]


def test_an_origin_that_was_resolved_once_is_asked_even_where_no_name_can_be_resolved_any_more() -> None:
    async def work() -> None:
        names, seen = FakeNames(), list[OriginSeen]()
        names.known = {"registry.test": ("127.0.0.1",)}
        port = free_port()
        server = await asyncio.start_server(registry, "127.0.0.1", port)
        origins = Origins(here(), (Origin("registry.test", port, tls=False),), names, kept(seen))
        origins.begin()
        assert (await told(origins, seen)).good
        server.close()
        assert not (await told(origins, seen)).good
        names.known.clear()  # as where the node has no task left for the question
        server = await asyncio.start_server(registry, "127.0.0.1", port)
        assert (await told(origins, seen)).good
        names.known = {"registry.test": ("127.0.0.2",)}  # it has moved, which is looked up as soon as it can be
        assert f"connect to 127.0.0.2:{port}" in (await told(origins, seen)).detail
        origins.close()
        assert here().idle
        server.close()

    go(work())


def test_one_that_comes_up_late_is_seen_within_seconds_without_anybody_asking() -> None:
    async def work() -> None:
        names, seen = FakeNames(), list[OriginSeen]()
        names.known = {"registry.test": ("127.0.0.1",)}
        port = free_port()
        origins = Origins(here(), (Origin("registry.test", port, tls=False),), names, kept(seen))
        origins.begin()
        async with asyncio.timeout(60):
            while not seen:
                await asyncio.sleep(0.01)
        assert not seen[0].good
        server = await asyncio.start_server(registry, "127.0.0.1", port)
        async with asyncio.timeout(60):
            while not seen[-1].good:
                await asyncio.sleep(0.01)
        origins.close()
        assert here().idle
        server.close()

    go(work())


def test_one_that_was_never_resolved_is_told_with_the_name_services_words() -> None:
    async def work() -> None:
        seen = list[OriginSeen]()
        origins = Origins(here(), (Origin("nowhere.test", 80, tls=False),), FakeNames(), kept(seen))
        origins.begin()
        answer = await told(origins, seen)
        assert not answer.good
        assert answer.detail == "nowhere.test: nowhere.test was not resolved: unknown name"
        origins.close()
        assert here().idle

    go(work())


def test_one_that_falls_silent_while_reads_depend_on_it_is_told_within_ten_seconds() -> None:
    async def work() -> None:
        seen = list[OriginSeen]()
        async with SmallRegistry() as registry, SmallRegistry() as never:
            never.silent = True
            known = (registry.origin, never.origin)
            origins = Origins(here(), known, FakeNames(), kept(seen), needed=lambda: True)
            origins.begin()
            for _ in range(2):
                await until(lambda: bool(seen and seen[-1].good))
                clock().advance(EVERY_S)  # so all are due
                seen.clear()
                await until(lambda: bool(seen and seen[-1].good))
                clock().advance(EVERY_S)
                registry.silent = True
                assert await until(lambda: not seen[-1].good) < 9.1
                registry.silent = False
            origins.close()
            assert here().idle

    on_time(work)
