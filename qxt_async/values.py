"""What the client's frozen values have in common.

They are written out instead of made by a class factory: those compile each class when it is imported, and loading one
and making twenty classes takes a third as long as loading httpx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Never, Self, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Record", "Value", "put"]

put = object.__setattr__


class Record:  # noqa: PLW1641  (what can change has no hash)
    """Slotted, compared by what it holds, shown without what is not to be shown.

    A subclass names its fields in ``__slots__`` and fills them in that order from its ``__init__``. What is made for
    each request and goes no further than this package is one of these: freezing would cost half of making it.
    """

    __slots__: tuple[str, ...] = ()
    _shown: ClassVar[
        dict[str, Callable[[Any], str] | None]
    ] = {}  # fields with a repr of their own, None for none at all

    def _fill(self, *values: object) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            put(self, name, value)

    def __getstate__(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in self.__slots__])

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self._fill(*state)

    def __eq__(self, other: object) -> bool:
        return self.__getstate__() == other.__getstate__() if type(other) is type(self) else NotImplemented

    def __repr__(self) -> str:
        # A traceback may show one whose making failed half-way.
        shown = ((name, self._shown.get(name, repr)) for name in self.__slots__ if hasattr(self, name))
        fields = (f"{name}={show(getattr(self, name))}" for name, show in shown if show is not None)
        return f"{type(self).__name__}({', '.join(fields)})"


@dataclass_transform(frozen_default=True)
class Value(Record):
    """Frozen as well, so it may be handed out, and kept in sets.

    One that is made for each request fills itself field by field, with `put`, in half the time.
    """

    __slots__: tuple[str, ...] = ()

    def __replace__(self, **changes: Any) -> Self:
        """For `copy.replace` of Python 3.13."""
        return type(self)(**{name: getattr(self, name) for name in self.__slots__} | changes)

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError(f"{type(self).__name__} is frozen: make another one instead of setting {name}")

    def __delattr__(self, name: str) -> Never:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __hash__(self) -> int:
        return hash((type(self), self.__getstate__()))
