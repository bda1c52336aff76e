"""How a test that is a coroutine runs: in virtual time, or, with the mark `real_time`, in real time."""

from __future__ import annotations

import inspect

import pytest

from tests.fakes.event_loop import go, on_time


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
