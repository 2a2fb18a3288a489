"""The `semver` library of Kubernetes, version 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from tiphys.api.cel.costs import ONE
from tiphys.api.cel.libraries import gosemver
from tiphys.api.cel.libraries.sizes import walks
from tiphys.api.cel.types import BOOL, INT, STRING, EvaluationError, Function, Library, Overload, Type, named

SEMVER = named("kubernetes.Semver", equality=ONE)

_WRAP = 2**63


class SemverValue:
    """A semantic version as CEL sees it."""

    __slots__ = ("version",)
    cel_type: ClassVar[Type] = SEMVER

    def __init__(self, version: gosemver.Version) -> None:
        self.version = version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SemverValue) and self.version.compare(other.version) == 0

    def __hash__(self) -> int:
        return hash(self.version)


def parse(text: str, normalize: bool = False) -> SemverValue:
    try:
        return SemverValue(gosemver.normalized(text) if normalize else gosemver.parse(text))
    except gosemver.VersionError as error:
        raise EvaluationError(str(error)) from None


def is_semver(text: str, normalize: bool = False) -> bool:
    try:
        parse(text, normalize)
    except EvaluationError:
        return False
    return True


def _signed(value: int) -> int:
    """An unsigned number read as a signed one, as upstream converts."""
    return (value + _WRAP) % (2 * _WRAP) - _WRAP


def _number(name: str, read: Callable[[gosemver.Version], int]) -> Function:
    overload = Overload(f"semver_{name}", (SEMVER,), INT, lambda value: _signed(read(value.version)), member=True)
    return Function(name, (overload,))


def _comparison(name: str, id: str, decide: Callable[[int], Any], result: Type) -> Function:
    def implementation(value: SemverValue, other: SemverValue) -> Any:
        return decide(value.version.compare(other.version))

    return Function(name, (Overload(id, (SEMVER, SEMVER), result, implementation, member=True),))


SEMVERS = Library(
    "kubernetes.Semver",
    (
        Function(
            "semver",
            (
                Overload("string_to_semver", (STRING,), SEMVER, parse, **walks()),
                Overload("string_bool_to_semver", (STRING, BOOL), SEMVER, parse, **walks()),
            ),
        ),
        Function(
            "isSemver",
            (
                Overload("is_semver_string", (STRING,), BOOL, is_semver, **walks()),
                Overload("is_semver_string_bool", (STRING, BOOL), BOOL, is_semver, **walks()),
            ),
        ),
        _comparison("isGreaterThan", "semver_is_greater_than", lambda order: order > 0, BOOL),
        _comparison("isLessThan", "semver_is_less_than", lambda order: order < 0, BOOL),
        _comparison("compareTo", "semver_compare_to", lambda order: order, INT),
        _number("major", lambda version: version.major),
        _number("minor", lambda version: version.minor),
        _number("patch", lambda version: version.patch),
    ),
    types=(SEMVER,),
)
