"""A reader finds each thing in a module and a function that fit into a head."""

from __future__ import annotations

import statistics

from tests.lint import sizes
from tests.lint.source import modules


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    every = [module for top in ("agent", "tests") for module in modules(top)]
    long = [f"{module.path}: {module.lines} lines" for module in every if module.lines > sizes.MODULE_LINES]
    assert long == []


def test_no_function_is_longer_than_a_screen() -> None:
    every = [function for top in ("agent", "tests") for module in modules(top) for function in sizes.functions(module)]
    long = [f"{function.where}: {function.lines} lines" for function in every if function.lines > sizes.FUNCTION_LINES]
    assert long == []


def test_most_functions_are_read_at_a_glance() -> None:
    lengths = [function.lines for module in modules("agent") for function in sizes.functions(module)]
    assert statistics.median(lengths) <= sizes.MEDIAN_LINES


def test_no_module_is_a_drawer_for_everything() -> None:
    names = {module.name.rpartition(".")[2] for module in modules("agent")}
    assert names.isdisjoint({"utils", "util", "helpers", "helper", "common", "misc"})
