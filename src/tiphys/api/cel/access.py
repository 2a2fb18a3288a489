"""Reading out of lists, maps, objects and optionals: `a.b`, `a[b]`, `has(a.b)`, `a.?b`, `a[?b]`."""

from __future__ import annotations

from typing import Any

from tiphys.api.cel.equality import NO_OVERLOAD, contains_key, shown
from tiphys.api.cel.types import EvaluationError
from tiphys.api.cel.values import NONE, Optional, Uint


def item(items: list[Any], index: int) -> Any:
    """`list[int]`."""
    if 0 <= index < len(items):
        return items[index]
    raise EvaluationError(f"index out of bounds: {shown(index)}")


def entry(entries: dict[Any, Any], key: Any) -> Any:
    """`map[key]` for keys that may not be strings."""
    if contains_key(entries, key):
        return entries[key]
    raise EvaluationError(f"no such key: {shown(key)}")


def _position(index: Any) -> int:
    """An index of a list: whole numbers of any numeric type."""
    if type(index) in (int, Uint):
        return int(index)
    if type(index) is float and index.is_integer():
        return int(index)
    raise EvaluationError(f"unsupported index type '{type(index).__name__}' in list")


def at(container: Any, key: Any) -> Any:
    """`container[key]` when only the run knows what the container is."""
    if isinstance(container, dict):
        return entry(container, key)
    if isinstance(container, list):
        return item(container, _position(key))
    if isinstance(container, Optional):
        return optional_at(container, key)
    raise EvaluationError(NO_OVERLOAD)


def select(container: Any, name: str) -> Any:
    """`container.name` when only the run knows what the container is."""
    if isinstance(container, dict):
        if name in container:
            return container[name]
        raise EvaluationError(f"no such key: {name}")
    if isinstance(container, Optional):
        return optional_at(container, name)
    raise EvaluationError(NO_OVERLOAD)


def absent(name: str) -> Any:
    """A field of an object that is null counts as not there."""
    raise EvaluationError(f"no such key: {name}")


def has(container: Any, name: str) -> bool:
    """`has(container.name)`."""
    if isinstance(container, dict):
        return name in container
    if isinstance(container, Optional):
        return container.present and has(container.value, name)
    raise EvaluationError(NO_OVERLOAD)


def optional_at(container: Any, key: Any) -> Optional:
    """`container[?key]` and `container.?key`: none when it is not there. Optionals are looked into."""
    if isinstance(container, Optional):
        if not container.present:
            return NONE
        container = container.value
    if isinstance(container, dict):
        return Optional(container[key]) if contains_key(container, key) else NONE
    if isinstance(container, list):
        index = _position(key)
        return Optional(container[index]) if 0 <= index < len(container) else NONE
    raise EvaluationError(NO_OVERLOAD)


def iterable(container: Any) -> Any:
    """What a comprehension goes through: the items of a list, the keys of a map."""
    if isinstance(container, (list, dict)):
        return container
    raise EvaluationError(f"got '{type(container).__name__}', expected iterable type")


def pairs(container: Any) -> Any:
    """What a comprehension of two variables goes through: index and item, or key and value."""
    if isinstance(container, dict):
        return container.items()
    if isinstance(container, list):
        return enumerate(container)
    raise EvaluationError("unsupported comprehension range type")


def map_of_entries(*entries: tuple[Any, Any]) -> dict[Any, Any]:
    """A map literal: no key may come twice, and keys have no fractions, lists or maps."""
    made: dict[Any, Any] = {}
    for key, value in entries:
        if type(key) not in (str, int, bool, Uint, float):
            raise EvaluationError(f"unsupported key type: {shown(key)}")
        made[key] = value
    return made


def present(value: Any) -> Optional:
    """The value of an item or entry written with `?`."""
    if isinstance(value, Optional):
        return value
    raise EvaluationError(f"cannot initialize optional list element from non-optional value {shown(value)}")
