"""Ports whose adapters are loaded when they are needed: a run uses few, and some take longer than all the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Later:
    """A port whose adapter is loaded and made when something is first asked of it."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> object:
        return getattr(self.load(), name)

    def load(self) -> object:
        """The adapter."""
        if "_adapter" not in vars(self):
            self._adapter = self._make()
        return self._adapter


def load_all(ports: Iterable[Later]) -> None:
    """From now on nothing is loaded any more."""
    for port in ports:
        port.load()
