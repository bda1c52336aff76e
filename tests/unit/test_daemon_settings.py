"""What a session makes of the configuration and of what was applied."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.config.model import Config
from agent.daemon.documents import applied
from agent.daemon.settings import settings


@pytest.mark.parametrize(
    ("url", "loopback"),
    [("http://127.0.0.1:4001", True), ("http://[::1]:4001", True), ("http://10.0.0.5:30401", False)],
)
def test_only_a_mirror_on_the_loopback_is_judged_by_the_nodes_sockets_from_the_first_look(
    url: str, loopback: bool
) -> None:
    config = Config()
    config = replace(config, mirror=replace(config.mirror, url=url))
    assert settings(config, applied(None), "node").policy.loopback is loopback
