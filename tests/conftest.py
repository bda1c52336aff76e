"""What every test gets: its repeats of a time bound are counted in the junit file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import time_bounds


@pytest.fixture(autouse=True)
def repeated_time_bounds_are_counted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each repeat becomes a property of the test."""
    time_bounds.missed.clear()
    yield
    request.node.user_properties += [(time_bounds.REPEATED, each) for each in time_bounds.missed]
