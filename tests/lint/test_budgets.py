"""A reader finds each thing in a module and a function that fit into a head, and the house grows no more."""

from __future__ import annotations

import pytest

from tests.lint.budgets import BUDGETS, Budget
from tests.lint.source import modules


@pytest.mark.parametrize("budget", BUDGETS, ids=[budget.what for budget in BUDGETS])
def test_no_budget_is_passed(budget: Budget) -> None:
    figure = budget.measure()
    assert figure.value <= budget.limit, figure.places[:40]


@pytest.mark.parametrize("budget", BUDGETS, ids=[budget.what for budget in BUDGETS])
def test_no_limit_is_below_its_goal(budget: Budget) -> None:
    assert budget.limit >= budget.goal


def test_no_module_is_a_drawer_for_everything() -> None:
    names = {module.name.rpartition(".")[2] for module in modules("agent")}
    assert names.isdisjoint({"utils", "util", "helpers", "helper", "common", "misc"})
