"""What a session makes of the configuration and of what was applied."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.config.model import Config
from agent.daemon.documents import applied
from agent.daemon.settings import settings
from agent.health.evidence import Mode


@pytest.mark.parametrize(
    "document",
    [
        {"mirror_url": "http://127.0.0.1:99999"},
        {"mirror_url": "http://[::1"},
        {"ping_url": "http://127.0.0.1:²/healthy"},
        {"mirror_url": "http://127.0.0.1:0"},
    ],
)
def test_an_address_in_effective_json_that_is_none_ends_no_daemon(
    document: dict[str, str],
) -> None:
    found = applied({"switch": "fence", **document})
    assert found.mode is Mode.UNKNOWN
    assert str(*document) in found.reason
    assert settings(Config(), found, "node").proxy.port == 4001


def test_a_registry_in_effective_json_that_is_none_is_not_asked() -> None:
    names = ("a:99999", "b:²", "c:0", "d:" + "9" * 5000, ":5000", "", "e f", "[::1", "ok.test:5000")
    found = settings(Config(), applied({"switch": "fence", "origins": names}), "node")
    assert [origin.name for origin in found.origins] == ["ok.test:5000"]


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
