"""Another user of the node who is in the mirror's way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from tests.node import parts, stock
from tests.node.boot import Node

_NUMBERS = itertools.count()


@contextmanager
def held(node: Node, *arguments: str) -> Iterator[None]:
    """The user nobody holds sockets (inside/sockets.py) until the end of `with`; from now on, but for
    `mirror`.
    """
    argv = ["python3", "-m", "tests.node.inside.sockets", *arguments]
    name = (
        f"sockets-{next(_NUMBERS)}"  # a name of its own, because the journal keeps what a former one has said
    )
    unit = parts.start_unit(node, name, argv, user="nobody", env={"PYTHONPATH": stock.PYTHONPATH_ON_NODE})
    try:
        if arguments[0] != "mirror":
            node.wait_until(
                lambda: "held" in node.journal(unit.name, output="cat"), 120, "the sockets are there"
            )
        yield
    finally:
        unit.stop()
