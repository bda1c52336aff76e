"""What a new nydusd is told about mirror and origin."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.config.model import Config, Dialect, Scheme, Switch
from agent.facts.node import Effective
from agent.plan.render.nydusd import document, template
from tests.unit.plan_node import GOLDEN, config

FENCE = Effective(Switch.FENCE, Dialect.PROXY, use_http=False)
PAGE_REGISTRY = "https://index.docker.io"

# What the snapshotter's own structs hold, 0.13.4 and 0.16.1 alike; it drops every other key.
SURVIVES = {
    "device.backend.type", "device.backend.config.scheme", "device.backend.config.skip_verify",
    "device.backend.config.timeout", "device.backend.config.connect_timeout",
    "device.backend.config.retry_limit",
    "device.backend.config.proxy.url", "device.backend.config.proxy.fallback",
    "device.backend.config.proxy.ping_url",
    "device.backend.config.proxy.check_interval", "device.backend.config.proxy.use_http",
    "device.backend.config.mirrors", "device.cache.type", "device.cache.config.work_dir",
    "mode", "digest_validate", "iostats_files", "enable_xattr", "fs_prefetch.enable",
    "fs_prefetch.prefetch_all",
    "fs_prefetch.threads_count", "fs_prefetch.merging_size", "fs_prefetch.bandwidth_rate",
}  # fmt: skip


def backend(wanted: Config, effective: Effective) -> dict[str, Any]:
    found: dict[str, Any] = document(wanted, effective)["device"]["backend"]["config"]
    return found


def keys(value: Any, above: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {above}
    return {key for name, inner in value.items() for key in keys(inner, f"{above}.{name}" if above else name)}


def test_native_mirrors_is_the_page_field_for_field_but_verifies_the_origin() -> None:
    page = json.loads((GOLDEN / "page.json").read_text())
    assert page["device"]["backend"]["config"]["skip_verify"] is True
    page["device"]["backend"]["config"]["skip_verify"] = False
    wanted = config(registry=PAGE_REGISTRY)
    rendered = json.loads(template(wanted, Effective(Switch.NATIVE, Dialect.MIRRORS, use_http=False)))
    assert rendered == page


def test_native_proxy_has_the_page_s_other_fields_and_the_operator_s_ping_url() -> None:
    page = json.loads((GOLDEN / "page.json").read_text())
    native = document(Config(), Effective(Switch.NATIVE, Dialect.PROXY, use_http=False))
    proxy = native["device"]["backend"]["config"].pop("proxy")
    assert proxy["ping_url"] == "http://127.0.0.1:4003/healthy"
    assert {key for key in keys(page) if ".mirrors" not in key} <= keys(native)


def test_a_clock_that_steps_back_cannot_abort_nydusd_because_nothing_pings_in_fence_mode() -> None:
    assert "ping_url" not in backend(Config(), FENCE)["proxy"]


@pytest.mark.parametrize("switch", [Switch.FENCE, Switch.NATIVE])
def test_a_dead_mirror_never_ends_a_read_because_fallback_is_written_out(switch: Switch) -> None:
    found = backend(Config(), Effective(switch, Dialect.PROXY, use_http=False))
    assert found["proxy"]["fallback"] is True
    assert found["retry_limit"] == 3


def test_a_mirror_that_died_is_left_after_one_failed_read() -> None:
    wanted = config(registry="https://registry.example")
    (mirror,) = backend(wanted, Effective(Switch.FENCE, Dialect.MIRRORS, use_http=False))["mirrors"]
    assert mirror == {
        "host": "http://127.0.0.1:4001",
        "headers": {"X-Dragonfly-Registry": "https://registry.example"},
        "ping_url": "http://127.0.0.1:4003/healthy",
        "health_check_interval": 1,
        "failure_limit": 1,
    }


@pytest.mark.parametrize("dialect", [Dialect.PROXY, Dialect.MIRRORS])
@pytest.mark.parametrize("switch", [Switch.FENCE, Switch.NATIVE])
@pytest.mark.parametrize("use_http", [True, False])
def test_the_origin_s_certificate_is_always_verified(
    switch: Switch, dialect: Dialect, use_http: bool
) -> None:
    assert backend(Config(), Effective(switch, dialect, use_http))["skip_verify"] is False


@pytest.mark.parametrize("dialect", [Dialect.PROXY, Dialect.MIRRORS])
@pytest.mark.parametrize("switch", [Switch.FENCE, Switch.NATIVE])
def test_nothing_is_rendered_that_the_snapshotter_would_drop(switch: Switch, dialect: Dialect) -> None:
    assert keys(document(Config(), Effective(switch, dialect, use_http=True))) <= SURVIVES


def test_mirror_and_proxy_are_never_both_there_because_nydusd_refuses_that() -> None:
    for dialect in (Dialect.PROXY, Dialect.MIRRORS):
        found = backend(Config(), Effective(Switch.FENCE, dialect, use_http=False))
        assert len({"proxy", "mirrors"} & set(found)) == 1


def test_an_https_registry_is_asked_for_in_plain_http_only_where_that_was_proved() -> None:
    proved = Effective(Switch.FENCE, Dialect.PROXY, use_http=True)
    assert [backend(Config(), one)["proxy"]["use_http"] for one in (FENCE, proved)] == [False, True]


def test_plain_http_registries_are_spoken_to_in_plain_http() -> None:
    plain = Effective(Switch.FENCE, Dialect.PROXY, use_http=False, scheme=Scheme.HTTP)
    assert backend(Config(), plain)["scheme"] == "http"


def test_the_first_start_of_an_image_does_not_load_all_of_it() -> None:
    assert document(Config(), FENCE)["fs_prefetch"]["prefetch_all"] is False


def test_the_template_on_a_fresh_node_is_the_golden_one() -> None:
    assert template(Config(), FENCE) == (GOLDEN / "node/nydusd-config.json").read_bytes()
