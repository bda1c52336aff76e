"""How a test that is a coroutine runs: in virtual time, or, with the mark `real_time`, in real time. And what
many tests stand on.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.fakes.event_loop import go, on_time
from tests.unit.published import PublishedNode


@pytest.fixture
def node(tmp_path: Path) -> PublishedNode:
    """Modules whose tests are about another kind of node have one of their own."""
    return PublishedNode(tmp_path)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_time: the coroutine runs in real time")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine to its end; other tests are pytest's own."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    if pyfuncitem.get_closest_marker("real_time"):
        go(test(**arguments))
    else:
        on_time(lambda: test(**arguments))
    return True
