"""A mutant is one change of a decision, each of its own."""

from __future__ import annotations

import ast

from tests.bench import mutants
from tests.bench.mutants import changed


def _texts(module: str) -> list[str]:
    return [ast.unparse(changed(mutant)) for mutant in mutants.mutants(module)]


def test_each_mutant_differs_from_the_code_and_from_every_other() -> None:
    for path in sorted(mutants.SOURCES.glob("[a-z]*.py")):
        texts = _texts(path.stem)
        assert len({ast.unparse(ast.parse(path.read_text())), *texts}) == len(texts) + 1, path.name


def test_limits_signs_and_comparisons_are_changed_and_defaults_are_not() -> None:
    texts = _texts("policy")
    assert any("window_s < 0" in text for text in texts)
    assert any("window_s > 0" in text for text in texts)
    assert any("/ window_s" in text for text in texts)
    assert [mutant for mutant in mutants.mutants("state") if "None" in mutant.what] == []


def test_a_mutant_names_its_place() -> None:
    found = next(mutant for mutant in mutants.mutants("policy") if mutant.what == "LtE -> Lt")
    line = int(found.where.rpartition(":")[2])
    assert found.where.startswith("agent/health/policy.py:")
    assert "window_s <= 0" in (mutants.SOURCES / "policy.py").read_text().splitlines()[line - 1]


def test_the_tests_of_the_health_machine_are_found_the_random_ones_last() -> None:
    assert len(mutants.health_tests()) >= 8
    assert "model" in mutants.health_tests()[-1]
