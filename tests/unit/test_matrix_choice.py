"""The quick form of the matrix of containerds leaves out no two things that meet."""

from __future__ import annotations

from tests.node.matrix.choice import FORMS, MODES, Combination, everything, pairs, pairwise


def test_the_full_form_is_every_mode_on_every_form_of_every_containerd() -> None:
    assert len(everything()) == len(set(everything())) == sum(map(len, FORMS.values())) * len(MODES)


def test_the_quick_form_has_every_pair_of_the_full_one_in_fewer_than_half_of_the_runs() -> None:
    quick = pairwise(everything())
    assert set().union(*map(pairs, quick)) == set().union(*map(pairs, everything()))
    assert set(quick) <= set(everything())
    assert len(quick) < len(everything()) / 2


def test_the_choice_is_the_same_each_time_and_in_the_order_of_the_full_form() -> None:
    quick = pairwise(everything())
    assert quick == pairwise(everything()) == tuple(one for one in everything() if one in quick)


def test_what_has_no_pair_to_offer_is_left_out() -> None:
    three = [Combination("a", "x", "1"), Combination("a", "x", "2"), Combination("a", "x", "1")]
    assert pairwise(three) == (Combination("a", "x", "1"), Combination("a", "x", "2"))
