"""FakeCgroups: the cgroups of a FakeRuntime as a dictionary, for tests to look at and to fill."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tiphys.runtime.containers import merged
from tiphys.runtime.measures import Usage
from tiphys.runtime.types import Resources, RuntimeFailure


@dataclass(slots=True)
class FakeCgroups:
    """See runtime.types.Cgroups."""

    version: int = 1
    swap: bool = False
    limits: dict[str, Resources] = field(default_factory=dict)
    """Path -> what was set."""
    usages: dict[str, Usage] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Paths that cannot be changed."""
    writes: deque[tuple[str, Resources]] = field(default_factory=lambda: deque(maxlen=200))
    """The last changes, in order."""

    def set(self, path: str, resources: Resources) -> None:
        """Raises RuntimeFailure for what is `refused`."""
        if path in self.refused:
            raise RuntimeFailure(f"failed to write to {path}: Invalid argument")
        self.writes.append((path, resources))
        self.limits[path] = merged(self.limits.get(path, Resources()), resources)

    def get(self, path: str) -> Resources | None:
        """What was set."""
        return self.limits.get(path)

    def usage(self, path: str) -> Usage | None:
        """As tests say in `usages`; none at all otherwise."""
        return self.usages.get(path, Usage(0, 0, 0)) if path in self.limits else None

    def children(self, path: str) -> Sequence[str]:
        """Names of those below."""
        return sorted({name[len(path) + 1 :].split("/")[0] for name in self.limits if name.startswith(f"{path}/")})

    def remove(self, path: str) -> None:
        """With all below it."""
        for name in [name for name in self.limits if name == path or name.startswith(f"{path}/")]:
            del self.limits[name]
