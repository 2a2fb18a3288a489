"""The FlowSchemas and PriorityLevelConfigurations as they are now, compiled when one has changed."""

from __future__ import annotations

from typing import NamedTuple

from tiphys.apiserver.fairness.levels import Level, Pool
from tiphys.apiserver.fairness.matching import Schema, compiled
from tiphys.apiserver.types import Reader, RequestInfo
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
    flow: str


class Policy:
    """`classify` says what a request is; `pool` has the seats."""

    def __init__(self, reader: Reader, seats: int, clock: Clock) -> None:
        self._reader = reader
        self.pool = Pool(seats, clock)
        self._schemas: list[Schema] = []
        self._revisions = (-1, -1)
        self._known: dict[tuple[object, ...], tuple[Schema, Level]] = {}

    def classify(self, user: User, info: RequestInfo) -> Classified:
        """The first FlowSchema that matches; the catch-all's level for what none matches."""
        revisions = (self._reader.revision(GROUP, SCHEMAS), self._reader.revision(GROUP, LEVELS))
        if revisions != self._revisions:
            self._compile(revisions)
        path = "" if info.resource_request else info.path
        key = (user.name, user.groups, info.verb, info.group, info.resource, info.subresource, info.namespace, path)
        found = self._known.get(key)
        if found is None:
            found = self._find(user, info)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = found
        schema, level = found
        return Classified(schema, level, "" if level.exempt else f"{schema.name}/{schema.flow(user, info)}")

    def _find(self, user: User, info: RequestInfo) -> tuple[Schema, Level]:
        for schema in self._schemas:
            if schema.matches(user, info):
                return schema, self.pool.levels[schema.level]
        return CATCH_ALL, self.pool.levels.get("catch-all") or Level("catch-all", exempt=True)

    def _compile(self, revisions: tuple[int, int]) -> None:
        self._revisions = revisions
        self._known.clear()
        self.pool.configure(self._reader.list(GROUP, LEVELS))
        found = compiled(self._reader.list(GROUP, SCHEMAS))
        self._schemas = [schema for schema in found if schema.level in self.pool.levels]
