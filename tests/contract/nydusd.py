"""What every implementation of the Nydusd port does."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import cast

import pytest

from agent.errors import NydusdError
from agent.ports import Nydusd


class NydusdWorld(abc.ABC):
    """A snapshotter's root with a daemon "alive" that has one mount on "/", and "deaf", which does not
    answer.

    The mount's registry is 127.0.0.1:5000 and its proxy http://127.0.0.1:4001.
    """

    port: Nydusd
    root: str
    alive: str
    deaf: str
    pid: int


class NydusdContract:
    """Run by a class that has a fixture `world`."""

    def test_the_sockets_of_all_daemons_are_found(self, world: NydusdWorld) -> None:
        assert world.port.sockets(world.root) == (world.alive, world.deaf)
        assert world.port.sockets(world.root + "/none") == ()

    def test_a_daemon_tells_state_pid_and_effective_configuration(self, world: NydusdWorld) -> None:
        info = world.port.info(world.alive, deadline_s=5)
        assert (info.socket, info.id, info.state, info.pid) == (world.alive, "alive", "RUNNING", world.pid)
        assert info.version
        ((mountpoint, config),) = info.backends
        assert mountpoint == "/"
        registry = _at(config, "backend", "registry")
        assert registry["host"] == "127.0.0.1:5000"
        assert _at(registry, "proxy")["url"] == "http://127.0.0.1:4001"
        assert registry["auth"] is None

    def test_a_daemon_tells_its_counters(self, world: NydusdWorld) -> None:
        metrics = world.port.backend_metrics(world.alive, deadline_s=5)
        assert isinstance(metrics["read_amount_total"], int)
        assert isinstance(metrics["read_errors"], int)

    def test_a_daemon_that_does_not_answer_is_an_error_in_time(self, world: NydusdWorld) -> None:
        for ask in (world.port.info, world.port.backend_metrics):
            with pytest.raises(NydusdError) as caught:
                ask(world.deaf, deadline_s=0.3)
            assert caught.value.code == "NNA0721"
            with pytest.raises(NydusdError):
                ask(world.root + "/socket/gone/api.sock", deadline_s=0.3)


def _at(value: Mapping[str, object], *keys: str) -> Mapping[str, object]:
    for key in keys:
        inner = value[key]
        assert isinstance(inner, dict)
        value = cast("dict[str, object]", inner)
    return value
