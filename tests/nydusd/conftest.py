"""What tests on nodes get: journals where one fails, a failure where our units warn, the stage."""

from tests.node.conftest import no_unexpected_warnings, pytest_configure, pytest_runtest_makereport, stage

__all__ = ["no_unexpected_warnings", "pytest_configure", "pytest_runtest_makereport", "stage"]
