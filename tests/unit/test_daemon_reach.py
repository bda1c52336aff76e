"""How canaries come back through the mirror, and which of them are believed.

The whole daemon, on real sockets.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.model import RegistriesConfig, RegistryHost, Scheme
from tests.contract import certificates
from tests.fakes.event_loop import until
from tests.fakes.mirror import SmallMirror, Way
from tests.fakes.registry import SmallRegistry
from tests.unit.daemon_node import Node, fresh, running


async def stays(holds: Callable[[], bool], seconds: float) -> None:
    """It does, for so long."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        assert holds()
        await asyncio.sleep(0.1)


def behind_a_node_port(node: Node) -> None:
    """Its mirror has an address of this node that is none of its loopback, and no socket here."""
    address = "0.0.0.0"  # to connect to it is to connect to this node
    mirror = replace(node.config.mirror, url=f"http://{address}:{node.mirror.proxy_port}")
    node.config = replace(node.config, mirror=mirror)
    node.fakes.tables.address = address
    node.fakes.tables.held.clear()


async def test_a_users_socket_beside_a_node_port_hides_no_data_path_that_fails(tmp_path: Path) -> None:
    async with SmallMirror() as mirror:
        node = Node(fresh(tmp_path), mirror)
        behind_a_node_port(node)
        async with running(node):
            await until(lambda: node.is_("healthy", "mirror")() and len(mirror.targets) > 3)
            node.fakes.tables.held[mirror.proxy_port] = 1000
            mirror.proxy_way = Way.ERROR
            await until(node.is_("down", "origin"), 10)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A registry's, whose certificate nobody here knows."""
    return certificates.server_side(certificates.make(tmp_path_factory.mktemp("tls")))


@pytest.mark.parametrize("way", [Way.ERROR, Way.LIMITED, Way.ZEROS])
async def test_what_a_mirror_elsewhere_makes_of_an_https_registry_is_judged_by_status_and_body(
    tmp_path: Path, tls: ssl.SSLContext, way: Way
) -> None:
    async with SmallMirror() as mirror, SmallRegistry(tls) as registry:
        registry.status, registry.body = 200, b"{}"
        node = Node(fresh(tmp_path), mirror)
        known = (RegistryHost(host=registry.origin.name, scheme=Scheme.HTTPS),)
        node.config = replace(node.config, registries=RegistriesConfig(hosts=known))
        node.fakes.tables.held.clear()
        mirror.cannot_reach, mirror.forwards = f":{node.config.endpoint.port}/", True
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            await until(lambda: node.status["mirror"]["canary_ok"] is True)
            mirror.proxy_way = way
            await until(node.is_("down", "origin"), 90)
            registry.status = 503  # what the mirror gives may be the registry's own from now on
            mirror.proxy_way = Way.WELL
            await stays(lambda: node.status["health_state"] != "healthy", 30)


async def test_a_mirror_elsewhere_that_answers_errors_for_an_https_registry_does_not_return_for_its_pings(
    tmp_path: Path, tls: ssl.SSLContext
) -> None:
    async with SmallMirror() as mirror, SmallRegistry(tls) as registry:
        node = Node(fresh(tmp_path), mirror)
        known = (RegistryHost(host=registry.origin.name, scheme=Scheme.HTTPS),)
        node.config = replace(node.config, registries=RegistriesConfig(hosts=known))
        node.fakes.tables.held.clear()  # the mirror is elsewhere, and has another loopback
        mirror.cannot_reach, mirror.forwards = f":{node.config.endpoint.port}/", True
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            await until(lambda: node.status["mirror"]["canary_ok"] is True)
            mirror.all_fail(Way.RESET)
            await until(node.is_("down", "origin"))
            mirror.all_fail(Way.WELL)
            mirror.proxy_way = Way.ERROR
            await stays(node.is_("down", "origin"), 90)
            mirror.proxy_way = Way.WELL
            await until(node.is_("healthy", "mirror"), 60)


async def test_a_registry_that_vouched_once_and_is_dead_holds_no_well_mirror_back_for_longer_than_a_minute(
    tmp_path: Path,
) -> None:
    async with SmallMirror() as mirror, SmallRegistry() as vouching, SmallRegistry() as other:
        node = Node(fresh(tmp_path), mirror)
        known = tuple(RegistryHost(host=one.origin.name, scheme=Scheme.HTTP) for one in (vouching, other))
        node.config = replace(node.config, registries=RegistriesConfig(hosts=known))
        node.fakes.tables.held.clear()  # the mirror is elsewhere, and has another loopback
        mirror.cannot_reach, mirror.forwards, other.mark = f":{node.config.endpoint.port}/", True, b""
        async with running(node):
            await until(node.is_("healthy", "mirror"))
            await until(lambda: node.status["mirror"]["canary_ok"] is True)
            mirror.all_fail(Way.RESET)
            vouching.close()
            await until(node.is_("down", "origin"))
            mirror.all_fail(Way.WELL)
            assert await until(node.is_("healthy", "mirror"), 200) < 60
