"""A text that does not print itself."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Holds a password or a token. It shows as `Secret(…)` wherever it is printed, logged, formatted or part
    of a dataclass that is; it cannot be pickled, copied deeply or put into JSON, so it gets into no record by
    mistake.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: for a header that is about to be sent, or a file that only its owner may read."""
        return self._value

    def __bool__(self) -> bool:
        """Whether there is one at all."""
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(…)" if self._value else "Secret()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied or stored")
