"""Small things that all checks share: containers of a pod, and how lists of them are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Struct = Mapping[str, Any]
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


class Violation(NamedTuple):
    """What a check has against a pod."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


Check = Callable[[Struct, Struct], Violation | None]
"""(metadata, spec) of a pod -> what is wrong with it."""


def containers(spec: Struct) -> Iterator[Struct]:
    """All containers of a pod."""
    for field in CONTAINERS:
        yield from spec.get(field) or ()


def security(holder: Struct) -> Struct:
    """The securityContext of a pod's spec or of a container."""
    return holder.get("securityContext") or {}


def named(what: str, names: Sequence[str]) -> str:
    """container "a"; containers "a", "b"."""
    return f"{plural(what, len(names))} {quoted(names)}"


def plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"


def quoted(names: Iterable[str]) -> str:
    """Names in quotes; as upstream does here, nothing is escaped."""
    return ", ".join(f'"{name}"' for name in names)


def setters(pod: bool, names: Sequence[str]) -> list[str]:
    """Who sets something: the pod, containers, or both."""
    return ["pod"] * pod + ([named("container", names)] if names else [])


def is_windows(spec: Struct) -> bool:
    """Whether the pod says that it is for Windows."""
    return (spec.get("os") or {}).get("name") == "windows"


def has_own_users(spec: Struct) -> bool:
    """Whether the pod has a user namespace, where root is nobody (KEP-127)."""
    return spec.get("hostUsers") is False
