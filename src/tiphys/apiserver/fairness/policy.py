"""The FlowSchemas and PriorityLevelConfigurations as they are now, compiled when one has changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tiphys.apiserver.fairness.levels import Level, Pool
from tiphys.apiserver.fairness.matching import Schema, compiled
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.types import RequestInfo
from tiphys.base.clock import Clock
from tiphys.base.identity import User

GROUP = "flowcontrol.apiserver.k8s.io"
SCHEMAS, LEVELS = "flowschemas", "prioritylevelconfigurations"
REMEMBERED = 8192
"""Answers that are kept: who asks what comes again and again."""
CATCH_ALL = Schema("catch-all", "", "catch-all", "", ())


class Classified(NamedTuple):
    schema: Schema
    level: Level
    headers: Mapping[str, str]
    """What the answer says of both."""

    def flow(self, user: User, info: RequestInfo) -> str:
        """What requests that belong together have in common."""
        return f"{self.schema.name}/{self.schema.flow(user, info)}"


class Policy:
    """`classify` says what a request is; `pool` has the seats."""

    def __init__(self, caches: Caches, seats: int, clock: Clock) -> None:
        self._caches = caches
        self.pool = Pool(seats, clock)
        self._schemas: list[Schema] = []
        self._current = -1
        self._revisions = (-1, -1)
        self._known: dict[tuple[object, ...], Classified] = {}

    def classify(self, user: User, info: RequestInfo) -> Classified:
        """The first FlowSchema that matches; the catch-all's level for what none matches."""
        if self._caches.current != self._current:
            self._refresh()
        path = "" if info.resource_request else info.path
        key = (user.name, user.groups, info.verb, info.group, info.resource, info.subresource, info.namespace, path)
        found = self._known.get(key)
        if found is None:
            found = self._find(user, info)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return found

    def _find(self, user: User, info: RequestInfo) -> Classified:
        for schema in self._schemas:
            if schema.matches(user, info):
                return _classified(schema, self.pool.levels[schema.level])
        return _classified(CATCH_ALL, self.pool.levels.get("catch-all") or Level("catch-all", exempt=True))

    def _refresh(self) -> None:
        """Something was written: perhaps one of these objects."""
        self._current = self._caches.current
        revisions = (self._caches.revision(GROUP, SCHEMAS), self._caches.revision(GROUP, LEVELS))
        if revisions == self._revisions:
            return
        self._revisions = revisions
        self._known.clear()
        self.pool.configure(self._caches.list(GROUP, LEVELS))
        found = compiled(self._caches.list(GROUP, SCHEMAS))
        self._schemas = [schema for schema in found if schema.level in self.pool.levels]


def _classified(schema: Schema, level: Level) -> Classified:
    headers = {"X-Kubernetes-PF-FlowSchema-UID": schema.uid, "X-Kubernetes-PF-PriorityLevel-UID": level.uid}
    return Classified(schema, level, headers)
