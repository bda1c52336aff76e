"""What every test on nodes gets: the journals of its nodes when it fails, and a failure when our units
warned.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.node import boot, change, scene
from tests.node.boot import Node, NodeError

LOGS = Path(__file__).parents[2] / "build" / "node-logs"
OUR_UNITS = ("nydus-agent*", "nydus-snapshotter.service")

_seen: dict[str, str] = {}  # node name -> cursor of the last journal entry that was looked at
_kept: set[Path] = set()  # logs that this run has written to
_stopped_with: list[str] = []  # warnings of nodes that the running test has stopped itself


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "allow_warnings(*patterns): regular expressions for journal lines of our units that may be warnings",
    )
    boot.before_stop.append(_look_before_stop)


@pytest.fixture
def node_factory() -> Iterator[Callable[..., Node]]:
    """Boots nodes, as many as a test wants; they end with the test."""
    with ExitStack() as nodes:

        def make(**settings: Any) -> Node:
            return nodes.enter_context(Node(**settings))

        yield make


@pytest.fixture
def node(node_factory: Callable[..., Node]) -> Node:
    """A plain node: containerd, the nydus programs, snapshotter 0.16.1, nothing of ours."""
    return node_factory()


@pytest.fixture
def bare() -> Iterator[Node]:
    """A node for one test alone, with our package and nothing applied."""
    with change.installed() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with change.installed() as made:
        yield made


@pytest.fixture
def plain(shared: Node) -> Iterator[Node]:
    """One node for many tests, with our package and nothing applied: each leaves it as it was."""
    before = change.state(shared)
    yield shared
    assert change.state(shared) == before


@pytest.fixture(scope="module")
def stage() -> Iterator[scene.Stage]:
    """A node with our package applied that has pulled the image of the reader."""
    with scene.staged("reader-nydus") as made:
        scene.pull(made.node, made.ref("reader-nydus"))
        yield made


@pytest.fixture
def reader(stage: scene.Stage) -> Iterator[scene.Reader]:
    """A reader on a cold image, an agent that remembers no outage, the route at the mirror.

    No read may fail.
    """
    scene.fresh_agent(stage.node, 120)
    with scene.cold_reader(stage.node, stage.ref("reader-nydus")) as made:
        yield made
        made.wait_for(5)
        assert made.errors() == []


@pytest.fixture(scope="session")
def deb() -> Path:
    """The package under test."""
    return scene.deb()


@pytest.fixture(autouse=True)
def no_unexpected_warnings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test during which a unit of ours logged at priority warning or worse what the test did not
    allow.
    """
    _stopped_with.clear()
    yield
    lines = [*_stopped_with, *(line for node in boot.living for line in _new_warnings(node))]
    allowed = [pattern for mark in request.node.iter_markers("allow_warnings") for pattern in mark.args]
    unexpected = [line for line in lines if not any(re.search(pattern, line) for pattern in allowed)]
    if unexpected:
        pytest.fail(
            "units of ours logged what this test does not allow:\n" + "\n".join(unexpected), pytrace=False
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for node in boot.living:
            _keep_journal(node, item.nodeid)
    return report


def _look_before_stop(node: Node, error: BaseException | None) -> None:
    if error is not None:
        _keep_journal(node, os.environ.get("PYTEST_CURRENT_TEST", "unknown").rpartition(" ")[0])
    else:
        _stopped_with.extend(_new_warnings(node))


def _keep_journal(node: Node, test: str) -> None:
    try:
        text = node.journal(output="short-precise")
    except (NodeError, OSError) as error:  # the node is already dead: its console is all there is
        text = f"{error}\n{node.console()}"
    LOGS.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.\[\]-]+", "_", test.removeprefix("tests/node/"))
    path = LOGS / f"{name}.log"
    with open(path, "a" if path in _kept else "w") as log:
        log.write(f"==== {node.name}\n{text}\n")
    _kept.add(path)


def _new_warnings(node: Node) -> list[str]:
    # Each entry is looked at once, in the test in which it was first there.
    cursor = [f"--after-cursor={_seen[node.name]}"] if node.name in _seen else []
    units = [f"--unit={unit}" for unit in OUR_UNITS]
    try:
        listed = node.run(["journalctl", "--quiet", "--output=json", "--priority=warning", *units, *cursor])
    except NodeError as error:
        return [f"{node.name}: the journal cannot be read: {error}"]
    entries = [json.loads(line) for line in listed.stdout.splitlines()]
    if entries:
        _seen[node.name] = entries[-1]["__CURSOR"]
    return [
        f"{entry.get('_SYSTEMD_UNIT', entry.get('UNIT', '?'))}: {_text(entry['MESSAGE'])}"
        for entry in entries
    ]


def _text(message: object) -> str:
    return bytes(message).decode(errors="replace") if isinstance(message, list) else str(message)
