"""Writes families of metrics in Prometheus' text format: for pages that show what is, and count nothing themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Labels = Mapping[str, str]
Sample = tuple[Labels, float] | tuple[Labels, float, float]
"""Labels and value, and where known when it was so (seconds since the epoch)."""


class Page:
    """Collects families; `render` gives them in the order of their names."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, list[Sample]]] = {}

    def add(self, name: str, kind: str, help: str, samples: Iterable[Sample]) -> None:
        """A family, or more samples of one that is there."""
        family = self._families.setdefault(name, (kind, help, []))
        family[2].extend(samples)

    def render(self) -> bytes:
        """The page; families without samples are left out."""
        lines = []
        for name, (kind, help, samples) in sorted(self._families.items()):
            if samples:
                lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
                lines += [f"{name}{_labels(one[0])} {number(one[1])}{_stamp(one)}" for one in samples]
        return "".join(f"{line}\n" for line in lines).encode()


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}"


def escaped(value: str) -> str:
    """A label's value inside its quotes."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _stamp(sample: Sample) -> str:
    return f" {int(sample[2] * 1000)}" if len(sample) == 3 else ""


def number(value: float) -> str:
    """Whole numbers without a point."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else repr(float(value))
