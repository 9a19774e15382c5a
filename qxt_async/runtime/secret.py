"""A value that no `repr` and no traceback shows."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

S = TypeVar("S")
T = TypeVar("T")


class Secret(Generic[T]):
    """Hides a value from error trackers, which store the local variables of each frame of a traceback.

    Call `reveal` only inside an expression, and do not assign its result to a variable.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    @staticmethod
    def of(value: S | Secret[S]) -> Secret[S]:
        """Wrap a value; a `Secret` is returned as it is."""
        return cast("Secret[S]", value) if isinstance(value, Secret) else Secret(value)

    @staticmethod
    def of_optional(value: S | Secret[S] | None) -> Secret[S] | None:
        """Hold a value, or keep the secret that it is already; ``None`` stays ``None``."""
        return None if value is None else Secret.of(value)

    def reveal(self) -> T:
        """Return the value."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return self._value == cast("Secret[object]", other)._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(****)"
