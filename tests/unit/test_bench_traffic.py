"""What a bench reads from dfdaemon's counters. The texts were recorded on a test node from dfdaemon 1.5.10;
what stands before and after is left out.
"""

from __future__ import annotations

from agent.bench.cases import Case, Counted, came_from
from agent.commands.bench.mirror import NodeCounters, Traffic, traffic_of

FRESH = """\
# HELP dragonfly_client_disk_space_total Gauge of the disk space in bytes
# TYPE dragonfly_client_disk_space_total gauge
dragonfly_client_disk_space_total 270553174016
"""
"""Nothing was brought yet: the counter is not there."""
COLD_AND_HIT = """\
dragonfly_client_download_task_total{app="",priority="6",tag="",type="0"} 103
# HELP dragonfly_client_download_traffic Counter of the number of the download traffic.
# TYPE dragonfly_client_download_traffic counter
dragonfly_client_download_traffic{type="BACK_TO_SOURCE"} 185200806
dragonfly_client_download_traffic{type="LOCAL_PEER"} 358051481
# HELP dragonfly_client_list_local_tasks_total Counter of the number of the list tasks.
# TYPE dragonfly_client_list_local_tasks_total counter
dragonfly_client_list_local_tasks_total{type="0"} 3
"""
FROM_ANOTHER_PEER = """\
dragonfly_client_download_task_total{app="",priority="6",tag="",type="0"} 1
# HELP dragonfly_client_download_traffic Counter of the number of the download traffic.
# TYPE dragonfly_client_download_traffic counter
dragonfly_client_download_traffic{type="REMOTE_PEER"} 92557008
# HELP dragonfly_client_proxy_request_total Counter of the number of the proxy request.
# TYPE dragonfly_client_proxy_request_total counter
dragonfly_client_proxy_request_total{method="GET",scheme="http"} 1
"""
"""The second peer, after one whole blob through it that the first one had."""
SENT = """\
# HELP dragonfly_client_upload_traffic Counter of the number of the upload traffic.
# TYPE dragonfly_client_upload_traffic counter
dragonfly_client_upload_traffic 92557008
"""
"""The first peer, after that."""


def test_what_a_real_dfdaemon_brought_is_read_by_where_it_came_from() -> None:
    assert traffic_of(FRESH) == Traffic()
    assert traffic_of(COLD_AND_HIT) == Traffic(source=185_200_806, remote=0, local=358_051_481)
    assert traffic_of(FROM_ANOTHER_PEER) == Traffic(source=0, remote=92_557_008, local=0)


def test_what_it_sent_to_others_was_not_brought() -> None:
    assert traffic_of(SENT) == Traffic()


def test_a_start_is_a_hit_on_a_remote_peer_only_where_the_counters_of_a_real_dfdaemon_say_so() -> None:
    def start(before: str, after: str) -> Counted:
        moved = traffic_of(after).since(traffic_of(before))
        assert moved is not None
        return Counted(0, 71_585_488, moved.source, moved.remote, moved.local)

    assert came_from(start(FRESH, FROM_ANOTHER_PEER)) is Case.REMOTE
    assert came_from(start(FRESH, COLD_AND_HIT)) is Case.MIRROR
    assert came_from(start(COLD_AND_HIT, COLD_AND_HIT)) == "only 0.0 MB of 71.6 MB came through the mirror"


def test_a_dfdaemon_that_was_started_anew_tells_no_figure_instead_of_one_below_nothing() -> None:
    assert traffic_of(FRESH).since(traffic_of(COLD_AND_HIT)) is None
    assert traffic_of(FROM_ANOTHER_PEER).since(traffic_of(COLD_AND_HIT)) is None


def test_one_that_has_brought_more_since_its_start_than_before_it_is_known_by_its_start() -> None:
    def told(at: str, size: int) -> Traffic:
        return traffic_of(
            f"process_start_time_seconds {at}\n{SENT}" + COLD_AND_HIT.replace("185200806", str(size))
        )

    assert told("1795800000", 185_200_807).since(told("1795800000", 185_200_806)) == Traffic(
        source=1, started=""
    )
    assert told("1795800900", 985_200_806).since(told("1795800000", 185_200_806)) is None


def counters(nydusd: dict[str, int], source: int, interfaces: dict[str, int]) -> NodeCounters:
    return NodeCounters(nydusd, Traffic(source=source), interfaces)


def test_what_one_program_cannot_tell_is_unknown_and_the_rest_is_told() -> None:
    before = counters({"a": 900, "ends": 700}, 500, {"eth0": 10, "veth1": 20})
    moved = counters({"a": 900, "new": 40}, 560, {"eth0": 110, "veth1": 20, "veth2": 5}).since(before, 7)
    assert (moved.fetched, moved.source, moved.received) == (40, 60, 105)
    moved = counters({"a": 900, "new": 40}, 60, {"eth0": 110}).since(before, 7)
    assert (moved.pulled, moved.fetched, moved.source, moved.remote, moved.received) == (
        7,
        40,
        None,
        None,
        None,
    )
    assert came_from(moved) == "dfdaemon did not tell what it brought, or was started anew"
    moved = counters({"a": 40}, 560, {"eth0": 5, "veth1": 20}).since(before, 7)
    assert (moved.fetched, moved.source, moved.received) == (None, 60, None)
    assert came_from(moved) == "nydusd did not tell what it fetched, or was started anew"
