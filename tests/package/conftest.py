"""The package under test, unpacked once."""

from __future__ import annotations

import pytest

from tests.package.deb import Package, unpack


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return unpack(tmp_path_factory.mktemp("package"))
