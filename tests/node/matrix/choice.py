"""Which combinations of containerd, mode and form of configuration are run. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Combination(NamedTuple):
    """One run: a line of containerd's releases, our mode, and the form of containerd's configuration."""

    line: str
    mode: str
    form: str


MODES = ("default", "runtime-class", "plugin-only")
FORMS = {
    "1.6": ("package", "missing", "config default", "conf.d", "versionless"),
    "1.7": ("package", "missing", "config default", "conf.d", "versionless"),
    "2.1": ("package", "missing", "config default", "kubeadm", "conf.d"),
    "2.4": ("missing", "config default", "kubeadm", "version 3", "conf.d"),
}
"""The forms that are met with each line (see `forms`)."""


def everything() -> tuple[Combination, ...]:
    """The full form."""
    return tuple(
        Combination(line, mode, form) for line, forms in FORMS.items() for form in forms for mode in MODES
    )


def pairwise(choices: Sequence[Combination]) -> tuple[Combination, ...]:
    """The fewest that a greedy choice finds such that whatever two values occur together in `choices` still
    do.
    """
    left = {pair for one in choices for pair in pairs(one)}
    chosen: list[Combination] = []
    while left:
        best = max(choices, key=lambda one: len(left.intersection(pairs(one))))
        left.difference_update(pairs(best))
        chosen.append(best)
    return tuple(sorted(chosen, key=choices.index))


def pairs(one: Combination) -> frozenset[tuple[tuple[str, str], ...]]:
    """Each two of its values, by their names."""
    return frozenset(itertools.combinations(one._asdict().items(), 2))
