"""An audit of the Helm chart's values judges what the chart has where nobody wrote anything."""

from __future__ import annotations

import pytest

from tests.unit.test_dragonfly_audit import BANDWIDTHS, HELM, OURS, SLOW, found, items
from tests.unit.test_dragonfly_render import GOLDEN


def test_the_charts_defaults() -> None:
    text = (GOLDEN / "chart-default.yaml").read_text()
    client = items(text, prefix="client.")
    both = {
        "open-proxy",
        "stats-address",
        "health-address",
        "disk-high",
        "write-piece-timeout",
    }
    alone = {"request-rate", "download-request-rate", "certificate", "tls-rule", "volume", "log-level"}
    assert client == {*both, *BANDWIDTHS, *SLOW, *alone}
    assert items(text, prefix="seedClient.") == {*both, *BANDWIDTHS}
    assert items(text, prefix="scheduler.") == {"retry-interval"}


def test_a_null_of_the_scheduler_stands_for_not_written_as_everywhere() -> None:
    (one,) = [
        one
        for one in found("client: {}\nscheduler: {config: {scheduler: {retryLimit: null, retryInterval: ~}}}")
        if one.key.startswith("scheduler.")
    ]
    assert (one.item, one.value) == ("retry-interval", "2s (the chart's default)")


def test_what_is_not_written_is_judged_by_the_charts_defaults_and_said_to_be_those() -> None:
    written = (GOLDEN / "chart-default.yaml").read_text()
    assert {(one.item, one.key) for one in found("{}", HELM)} == {
        (one.item, one.key) for one in found(written)
    }
    values = {one.key: one.value for one in found("{}", HELM)}
    assert values["client.config.proxy.server.requestRateLimit"] == "50 (the chart's default)"


def helm(old: str, new: str) -> str:
    assert old in OURS[HELM]
    return OURS[HELM].replace(old, new)


VOLUME = (
    "    - name: storage\n      hostPath:\n        path: /var/lib/dragonfly/\n        type: "
    "DirectoryOrCreate\n"
)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("volume", helm(VOLUME, "    - name: storage\n      emptyDir: {}\n")),
        ("peers", helm("client:\n  # The page has", "client:\n  enable: false\n  # The page has")),
        ("retry-interval", helm("retryInterval: 100ms", "retryInterval: 2s")),
        ("retries", helm("retryLimit: 5", "retryLimit: 50")),
        ("retries", helm("retryBackToSourceLimit: 3", "retryBackToSourceLimit: 4")),
        ("volume", helm("seedClient:\n", "seedClient:\n  persistence: {enable: false}\n")),
        ("disk-high", helm("distHighThresholdPercent: 80", "distHighThresholdPercent: 90")),
        ("volume", helm("mountPath: /var/lib/dragonfly/", "mountPath: /var/lib/dragonfly-old/")),
        ("volume", helm("    keep: true", "    keep: true\n      dir: /data")),
        ("download-request-rate", helm("requestRateLimit: 4000", "requestRateLimit: 50").replace("latest",
            "v1.4.0")),
        ("log-level", helm("level: warn", "level: info")),
        ("log-level", helm("level: warn", "level: 4")),
        ("log-level", helm("level: warn", "level: ")),
    ],
)  # fmt: skip
def test_what_only_the_charts_values_have_is_found_there(item: str, text: str) -> None:
    assert item not in items(OURS[HELM])
    if "enable: false\n  # The page" in text:
        text = text.replace("  enable: true\n  # As the seed", "  # As the seed")
    assert item in items(text)


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        ("v1.4.0", True),
        ("1.3.6", True),
        ("v1.4.1", False),
        ("v1.5.10", False),
        ("latest", False),
        (None, True),
    ],
)
def test_the_limit_of_dfdaemons_own_server_counts_for_reads_up_to_client_v1_4_0(
    tag: str | None, *, wanted: bool
) -> None:
    """proxy/mod.rs there asks its own server for each; the chart starts v1.4.0 where no tag is given."""
    image = f"image: {{tag: {tag}}}, " if tag else ""
    found = items(
        f"client: {{{image}config: {{proxy: {{server: {{requestRateLimit: 4000}}}}}}}}", prefix="client."
    )
    assert ("download-request-rate" in found) is wanted
    assert "request-rate" not in found


@pytest.mark.parametrize(
    ("volumes", "mounts", "kept"),
    [
        ("[{name: data, hostPath: {path: /d}}]", "[{name: data, mountPath: /var/lib}]", True),
        ("[{name: data, emptyDir: {}}]", "[{name: data, mountPath: /var/lib/dragonfly}]", False),
        ("[{name: storage, hostPath: {path: /d}}]", "[{name: storage, mountPath: /var/lib/drag}]", False),
        ("[{name: a, hostPath: {path: /d}}, {name: b, emptyDir: {medium: Memory}}]",
         "[{name: a, mountPath: /var/lib}, {name: b, mountPath: /var/lib/dragonfly/}]", False),
    ],
)  # fmt: skip
def test_the_cache_is_where_the_mounts_say_and_not_where_a_volume_has_the_name(
    volumes: str, mounts: str, *, kept: bool
) -> None:
    both = f"client: {{extraVolumes: {volumes}, extraVolumeMounts: {mounts}}}"
    assert ("volume" in items(both, prefix="client.")) is not kept


def test_seed_peers_log_as_the_clients_values_say_in_the_chart() -> None:
    """Chart 1.7.4, seed-client-statefulset.yaml: --log-level={{ .Values.client.config.log.level }}."""
    quiet = "{config: {log: {level: warn}}}"
    assert "log-level" in items(f"client: {{enable: false}}\nseedClient: {quiet}")
    assert "log-level" not in items(f"client: {{enable: false, {quiet[1:]}\nseedClient: {{}}")
    assert "log-level" not in items("client: {enable: false}\nseedClient: {enable: false}")
