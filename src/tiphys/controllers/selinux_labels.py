"""With which SELinux labels pods use volumes, and whether two of them can share a node. Pure rules and a memory.

A volume whose driver can mount it with a label is mounted with one only; pods with another label, or with the old way
of relabelling every file, may not use it at the same time. Upstream's words are in the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import spec

MOUNT, RECURSIVE = "MountOption", "Recursive"
_PARTS = ("user", "role", "type", "level")


class SeveralLabels(Exception):
    """Containers of one pod use a volume with different labels."""


@dataclass(frozen=True, slots=True)
class Use:
    """How a pod uses a volume."""

    label: str
    policy: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that `pod` has to be told about `other`; both are keys."""

    what: str
    reason: str
    pod: str
    value: str
    other: str
    other_value: str

    @property
    def message(self) -> str:
        only_one = "If both pods land on the same node, only one of them may access the volume."
        there, _, name = self.other.partition("/")
        if self.pod.partition("/")[0] != there:
            same = "uses the same volume as this pod with a different"
            return f'{self.what}"{self.value}" conflicts with another pod that {same} {self.what}. {only_one}'
        same = f"uses the same volume as this pod with {self.what}"
        return f'{self.what} "{self.value}" conflicts with pod {name} that {same} "{self.other_value}". {only_one}'


def label_of(options: Mapping[str, Any]) -> str:
    """The label as far as a pod says it; what is left out only its node knows."""
    label = ":".join(str(options.get(part) or "") for part in _PARTS)
    return "" if label == ":::" else label


def parts_of(label: str) -> list[str]:
    parts = label.split(":", 3) if label else []
    return parts + [""] * (4 - len(parts))


def conflicting(one: str, other: str) -> bool:
    """Whether labels differ for certain: the level always counts, other parts if both are given."""
    first, second = parts_of(one), parts_of(other)
    if first[3] != second[3]:
        return True
    return any(a and b and a != b for a, b in zip(first[:3], second[:3], strict=True))


def mounted(pod: Object) -> set[str]:
    """Names of the volumes that containers mount."""
    return {str(each["name"]) for container in _containers(pod) for each in container.get("volumeMounts") or ()}


def use_of(pod: Object, volume: str, *, supported: bool) -> Use:
    """How `pod` uses a volume, by the name in its spec; `supported`: it can be mounted with a label.

    Raises SeveralLabels."""
    context = spec(pod).get("securityContext") or {}
    labels = set()
    for container in _containers(pod):
        options = (container.get("securityContext") or {}).get("seLinuxOptions") or context.get("seLinuxOptions")
        if options is not None and any(each["name"] == volume for each in container.get("volumeMounts") or ()):
            labels.add(label_of(options))
    if len(labels) > 1:
        raise SeveralLabels(", ".join(sorted(labels)))
    policy = context.get("seLinuxChangePolicy") or MOUNT
    label = next(iter(labels), "") if supported and policy != RECURSIVE else ""
    return Use(label, policy if label else RECURSIVE)


def _containers(pod: Object) -> Iterator[Mapping[str, Any]]:
    for name in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec(pod).get(name) or ()


@dataclass(slots=True)
class Labels:
    """Who uses what how."""

    _uses: dict[str, dict[str, Use]] = field(default_factory=dict)
    _volumes: dict[str, set[str]] = field(default_factory=dict)

    def use(self, volume: str, pod: str, how: Use) -> list[Conflict]:
        """Remember it; returns what both sides of each new conflict are to be told."""
        uses = self._uses.setdefault(volume, {})
        if uses.get(pod) == how:
            return []
        uses[pod] = how
        self._volumes.setdefault(pod, set()).add(volume)
        found: list[Conflict] = []
        for other, theirs in uses.items():
            if theirs.policy != how.policy:
                found += _both("SELinuxChangePolicy", pod, how.policy, other, theirs.policy)
            if conflicting(theirs.label, how.label):
                found += _both("SELinuxLabel", pod, how.label, other, theirs.label)
        return found

    def forget(self, pod: str) -> None:
        """The pod uses nothing any more."""
        for volume in self._volumes.pop(pod, ()):
            self._uses[volume].pop(pod, None)
            if not self._uses[volume]:
                del self._uses[volume]


def _both(what: str, pod: str, value: str, other: str, other_value: str) -> list[Conflict]:
    reason = f"{what}Conflict"
    return [
        Conflict(what, reason, pod, value, other, other_value),
        Conflict(what, reason, other, other_value, pod, value),
    ]
