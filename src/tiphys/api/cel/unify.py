"""Which type fits which: assignability with type parameters, as upstream decides it (cel-go, checker/types.go).

A `Mapping` of parameter names to types is extended as parameters get bound; a failed attempt leaves it as it was.
"""

from __future__ import annotations

from dataclasses import replace

from tiphys.api.cel.types import DYN, Type

Bindings = dict[str, Type]

_NULLABLE_KINDS = frozenset(("opaque", "object", "any", "duration", "timestamp"))
_DEEP = frozenset(("opaque", "list", "map", "type"))
_SIMPLE = frozenset(("bool", "bytes", "double", "int", "string", "uint", "any", "duration", "timestamp", "object"))


def is_dyn(one: Type) -> bool:
    return one.kind in ("dyn", "any")


def is_dyn_or_error(one: Type) -> bool:
    return one.kind in ("dyn", "any", "error")


def assignable(bindings: Bindings, expected: list[Type], actual: list[Type]) -> Bindings | None:
    """The bindings with which all of `actual` fit `expected`, or None."""
    attempt = dict(bindings)
    return attempt if _all(attempt, expected, actual) else None


def _all(bindings: Bindings, first: tuple[Type, ...] | list[Type], second: tuple[Type, ...] | list[Type]) -> bool:
    return len(first) == len(second) and all(_fits(bindings, a, b) for a, b in zip(first, second, strict=True))


def _fits(bindings: Bindings, first: Type, second: Type) -> bool:
    if second.kind == "type_param":
        valid, bound = _substitutes(bindings, first, second)
        if valid or bound:
            return valid
    if first.kind == "type_param":
        return _substitutes(bindings, second, first)[0]
    if is_dyn_or_error(first) or is_dyn_or_error(second):
        return True
    if first.kind == "null_type":
        return _takes_null(second)
    if second.kind == "null_type":
        return _takes_null(first)
    if first.kind in _SIMPLE:
        return _same(second, first)
    if first.kind == "type":
        return second.kind == "type"
    return (
        first.kind == second.kind and first.name == second.name and _all(bindings, first.parameters, second.parameters)
    )


def _same(target: Type, source: Type) -> bool:
    """Whether a value of `source` may stand where `target` is wanted; parameters were dealt with before."""
    if is_dyn(target):
        return True
    return target.kind == source.kind and target.name == source.name and target.parameters == source.parameters


def _takes_null(one: Type) -> bool:
    return one.kind == "null_type" or one.kind in _NULLABLE_KINDS or one.nullable


def _substitutes(bindings: Bindings, one: Type, parameter: Type) -> tuple[bool, bool]:
    """Whether `one` may stand for the parameter, and whether the parameter was bound before."""
    if one == parameter:
        return True, True
    bound = bindings.get(parameter.name)
    if bound is not None:
        if one == bound:
            return True, True
        if not _fits(bindings, one, bound):
            return False, True
        general = most_general(one, bound)
        if _absent(bindings, parameter, general):
            bindings[parameter.name] = general
        return True, True
    if _absent(bindings, parameter, one):
        bindings[parameter.name] = one
        return True, False
    return False, False


def _absent(bindings: Bindings, parameter: Type, within: Type) -> bool:
    """The occurs check: a type must not be bound to something that contains it."""
    if parameter == within:
        return False
    if within.kind == "type_param":
        bound = bindings.get(within.name)
        return bound is None or _absent(bindings, parameter, bound)
    return within.kind not in _DEEP or all(_absent(bindings, parameter, one) for one in within.parameters)


def most_general(first: Type, second: Type) -> Type:
    return first if _less_specific(first, second) else second


def _less_specific(first: Type, second: Type) -> bool:
    if is_dyn(first) or first.kind == "type_param":
        return True
    if is_dyn(second) or second.kind == "type_param" or first.kind != second.kind:
        return False
    if first.kind in ("opaque", "list", "map"):
        return (
            first.name == second.name
            and len(first.parameters) == len(second.parameters)
            and all(_less_specific(a, b) for a, b in zip(first.parameters, second.parameters, strict=True))
        )
    return first.kind == "type" or first == second


def substituted(bindings: Bindings, one: Type, *, free_to_dyn: bool = False) -> Type:
    """The type with its parameters replaced by what they are bound to; free ones become dyn when asked."""
    if one.kind == "type_param":
        bound = bindings.get(one.name)
        if bound is not None:
            return substituted(bindings, bound, free_to_dyn=free_to_dyn)
        return DYN if free_to_dyn else one
    if one.kind not in _DEEP or not one.parameters:
        return one
    parameters = tuple(substituted(bindings, item, free_to_dyn=free_to_dyn) for item in one.parameters)
    if all(new is old for new, old in zip(parameters, one.parameters, strict=True)):
        return one
    return replace(one, parameters=parameters)
