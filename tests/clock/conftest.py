"""What tests on nodes get: a node with a reader, journals where one fails, and a failure where our units
warn.
"""

from tests.node.conftest import (
    no_unexpected_warnings,
    pytest_configure,
    pytest_runtest_makereport,
    reader,
    stage,
)

__all__ = ["no_unexpected_warnings", "pytest_configure", "pytest_runtest_makereport", "reader", "stage"]
