"""Others at the mirror's port: a user of the node who is in its way, and somebody who knocks all the time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from tests.node import parts, stock
from tests.node.boot import Node

_NUMBERS = itertools.count()


@contextmanager
def held(node: Node, *arguments: str) -> Iterator[None]:
    """The user nobody holds sockets (inside/sockets.py) until the end of `with`; from now on, but for
    `mirror`.
    """
    argv = ["python3", "-m", "tests.node.inside.sockets", *arguments]
    # A name of its own, because the journal keeps what a former one has said.
    name = f"sockets-{next(_NUMBERS)}"
    unit = parts.start_unit(node, name, argv, user="nobody", env={"PYTHONPATH": stock.PYTHONPATH_ON_NODE})
    try:
        if arguments[0] != "mirror":
            node.wait_until(
                lambda: "held" in node.journal(unit.name, output="cat"), 120, "the sockets are there"
            )
        yield
    finally:
        unit.stop()


_OUT = "/run/test-knocks.jsonl"


class Knocker:
    """Shows that a fence is closed without a gap (inside/knock.py).

    Root on the node who tries to connect to 127.0.0.1:`port` every ten milliseconds, from now to the end
    of `with`.

    Of use while the port has a listener, a frozen one too: its kernel takes connections as long as nothing
    refuses.
    """

    def __init__(self, node: Node, port: int = 4001) -> None:
        self._node = node
        env = {"PYTHONPATH": stock.PYTHONPATH_ON_NODE}
        argv = ["python3", "-S", "-m", "tests.node.inside.knock", "--port", str(port), "--out", _OUT]
        node.run(["rm", "-f", _OUT])
        self._unit = parts.start_unit(node, "knocker", argv, env=env)
        self.wait_for(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._unit.stop()

    def passed(self) -> list[float]:
        """When it was let through: monotonic seconds, the machine's clock."""
        return [line["at"] for line in self._lines() if "at" in line]

    def knocks(self) -> int:
        """How often it has knocked, in steps of fifty."""
        return max((line["knocks"] for line in self._lines() if "knocks" in line), default=0)

    def wait_for(self, count: int, deadline_s: float = 30) -> None:
        """Wait until it has knocked about `count` times more."""
        wanted = self.knocks() + count
        self._node.wait_until(lambda: self.knocks() >= wanted, deadline_s, f"{count} more knocks")

    def _lines(self) -> list[dict[str, Any]]:
        text = self._node.read(_OUT) if self._node.exists(_OUT) else ""
        whole, _, _ = text.rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]
