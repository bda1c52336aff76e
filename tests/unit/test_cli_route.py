"""The 3 a.m. lever: a pin has an end, is written whole, and is confirmed by the daemon or says that it was
not.
"""

from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.unit.published import Answer, PublishedNode, Run, as_json
from tests.unit.test_schema import complaints

PIN = "var/lib/nydus-agent/pin.json"


class Route(Run):
    """`route`; what a machine gets is as described."""

    def __init__(self, node: PublishedNode, *argv: str, user: str = "", uid: int = 0) -> None:
        environment = {"SUDO_USER": user} if user else {}
        super().__init__(node.root, "route", *argv, uid=uid, environment=environment)
        assert "--format" not in argv or complaints(self.json) == []


def pin_of(node: PublishedNode) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((node.root / PIN).read_text())
    return document


@contextmanager
def daemon(node: PublishedNode, publish: Callable[[dict[str, Any] | None], None]) -> Iterator[None]:
    """Something that publishes what it sees in pin.json, as the daemon does; `publish` gets the pin or
    None.
    """
    over, path = threading.Event(), node.root / PIN

    def watch() -> None:
        while not over.wait(0.02):
            document = json.loads(path.read_text()) if path.exists() else None
            publish(None if document is None or document["route"] == "auto" else document)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(5)


def obedient(node: PublishedNode) -> Callable[[dict[str, Any] | None], None]:
    def publish(pin: dict[str, Any] | None) -> None:
        node.status |= {"pin": pin, "route": pin["route"] if pin else "mirror"}
        node.write_status()

    return publish


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("caf\udce9 au lait", "caf au lait"),
        ("two\nlines\x1b[31m\x00", "two lines [31m"),
        ("x" * 10_000_000, "x" * 200),
    ],
    ids=["no-text", "lines", "long"],
)
def test_a_reason_of_any_bytes_is_kept_as_one_line_that_can_be_told(
    node: PublishedNode, given: str, kept: str
) -> None:
    node.write()
    Route(node, "pin", "origin", "--reason", given, "--wait", "1s")
    assert pin_of(node)["reason"] == kept


def test_a_pin_is_written_for_the_daemon_and_confirmed_by_it(node: PublishedNode) -> None:
    before = time.time()
    with daemon(node, obedient(node)):
        run = Route(node, "pin", "origin", "--for", "2h", "--reason", "dragonfly  upgrade\n", user="mo")
        pin = pin_of(node)
        assert Route(node, "pin", "mirror", "--format", "json").json["confirmed"]
    assert (run.code, run.err) == (0, "")
    assert run.out == "reads are pinned to the origin for 2 h; route now: origin\n"
    assert (pin["route"], pin["reason"], pin["by"]) == ("origin", "dragonfly upgrade", "mo")
    assert before + 7198 < pin["until"] < time.time() + 7202
    assert stat.S_IMODE((node.root / PIN).stat().st_mode) == 0o644
    second = pin_of(node)
    assert second["route"] == "mirror"
    assert abs(second["until"] - time.time() - 3600) < 60, "an hour, where no time is given"
    assert [path.name for path in (node.root / "var/lib/nydus-agent").iterdir() if "tmp" in path.name] == []


def test_auto_gives_the_route_back_to_the_agent_and_leaves_who_asked_for_its_log(node: PublishedNode) -> None:
    with daemon(node, obedient(node)):
        Route(node, "pin", "origin", user="mo")
        run = Route(node, "auto", user="jo")
    assert (run.code, run.out) == (0, "the agent judges the route again; route now: mirror\n")
    assert (pin_of(node)["route"], pin_of(node)["by"]) == ("auto", "jo")
    assert as_json(node)["pin"] is None
    assert Route(node, "auto").code == 0  # nothing to release is no error


def test_a_pin_ends_after_its_duration_even_where_the_clock_is_stepped_back(node: PublishedNode) -> None:
    with daemon(node, obedient(node)):
        Route(node, "pin", "origin", "--for", "10m")
    pin = pin_of(node)
    assert pin["seconds"] == 600
    assert 0 < pin["boottime"] <= time.clock_gettime(time.CLOCK_BOOTTIME)
    node.kill()  # the daemon is gone: what root has written is judged
    node.boot("a")
    later = {"at": node.now + 7200, "until": node.now + 7800, "boot": "a"}
    node.put(PIN, {**pin, **later, "boottime": pin["boottime"] - 500})
    left = as_json(node)["pin"]["until"] - time.time()
    assert 50 < left <= 100
    node.put(PIN, {**pin, **later, "boottime": pin["boottime"] - 600})
    assert as_json(node)["pin"] is None


def test_a_daemon_that_does_not_take_the_pin_is_told(node: PublishedNode) -> None:
    run = Route(node, "pin", "origin", "--wait", "1s")
    assert run.code == 4
    assert run.err.startswith("error[NNA1003]: the agent did not show the change within 1 s\n")


def test_a_pin_that_the_daemon_took_but_could_not_follow_is_no_success(node: PublishedNode) -> None:
    def powerless(pin: dict[str, Any] | None) -> None:
        node.status |= {
            "pin": pin,
            "route": "mirror",
            "route_reason": "the fence could not be raised: no nft",
        }
        node.write_status()

    with daemon(node, powerless):
        run = Route(node, "pin", "origin", "--wait", "1s")
    assert run.code == 4
    assert "took it, but reads still go to the mirror: the fence could not be raised: no nft" in run.err


def test_where_nothing_can_move_reads_a_pin_is_refused_and_nothing_is_written(node: PublishedNode) -> None:
    node.status |= {"mode": "native", "mode_reason": "no nft"}
    node.write()
    run = Route(node, "pin", "origin")
    assert run.code == 1
    assert "error[NNA1004]" in run.err
    assert "the mode is native: no nft" in run.err
    node.kill()
    node.effective["switch"] = "native"
    node.write()
    assert Route(node, "pin", "origin").code == 1
    node.remove("var/lib/nydus-agent/effective.json")
    assert "nothing was applied on this node yet" in Route(node, "pin", "origin").err
    assert not (node.root / PIN).exists()


def test_without_a_daemon_the_pin_waits_and_the_operator_is_told(node: PublishedNode) -> None:
    node.kill()
    run = Route(node, "pin", "origin")
    assert run.code == 3
    assert run.out.splitlines() == [
        "written, but the agent is gone: it takes effect when the agent starts",
        "until then nydusd's own fallback decides, read by read",
    ]
    assert pin_of(node)["route"] == "origin"
    assert Route(node, "auto", "--format", "json").json["confirmed"] is False


def test_pinning_to_a_mirror_that_is_down_is_possible_but_not_silent(node: PublishedNode) -> None:
    node.status |= {"health_state": "down", "health_reason": "connection refused"}
    node.write()
    with daemon(node, obedient(node)):
        run = Route(node, "pin", "mirror")
    assert run.code == 0
    assert run.err == "warning: the mirror is down: connection refused; reads may hang or fail\n"


@pytest.mark.parametrize(
    ("argv", "uid", "code"),
    [
        (("pin", "origin"), 1000, "NNA1001"),
        (("auto",), 1000, "NNA1001"),
        (("pin", "origin", "--for", "0s"), 0, "NNA1002"),
        (("pin", "origin", "--for", "31d"), 0, "NNA1002"),
        (("pin", "origin", "--for", "soon"), 0, "NNA1002"),
    ],
)
def test_only_root_pins_and_only_for_a_time_in_sight(
    node: PublishedNode, argv: tuple[str, ...], uid: int, code: str
) -> None:
    run = Route(node, *argv, uid=uid)
    assert (run.code, code in run.err) == (2, True)
    assert not (node.root / PIN).exists()


def test_status_shows_a_pin_until_it_has_ended(node: PublishedNode) -> None:
    node.put(PIN, {"route": "origin", "until": node.now - 1, "reason": "", "by": "mo"})
    assert as_json(node)["pin"] is None
    node.put(PIN, {"route": "origin", "until": node.now + 60, "reason": "why", "by": "mo"})
    assert "by mo: why" in Answer(node).row("pin")


def test_a_link_in_the_place_of_the_pin_is_not_written_through(node: PublishedNode) -> None:
    """The state directory is root's; should it ever not be, a pin must not overwrite what a link points
    to.
    """
    victim = node.root / "victim"
    victim.write_text("precious")
    (node.root / "var/lib/nydus-agent").chmod(0o777)
    (node.root / PIN).symlink_to(victim)
    run = Route(node, "pin", "origin")
    assert run.code == 1
    assert victim.read_text() == "precious"
