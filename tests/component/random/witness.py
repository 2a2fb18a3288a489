"""Sees every change in the order in which it happened and asks the rules about it; remembers for the report."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

import orjson

from component.random.state import Change, State, excerpt, plural_of
from component.random.weather import Weather
from tiphys.base.clock import Clock
from tiphys.client.types import Object
from tiphys.controllers.objects import uid
from tiphys.store.memory import MemoryStore
from tiphys.store.types import Event
from tiphys.testing.clock import EPOCH

_REMEMBERED = 40_000
_SHOWN = 60
_SKIPPED = (
    "tiphys/",
    "core/events/",
    "coordination.k8s.io/",
    "rbac.authorization.k8s.io/",
    "flowcontrol.apiserver.k8s.io/",
)


class Rule(Protocol):
    """What must hold after each change. `state` does not have the change yet; `broken` says what is wrong."""

    def check(self, change: Change, state: State) -> Iterable[str]: ...


class Witness:
    """Reads the store's log while `run` runs."""

    def __init__(self, store: MemoryStore, clock: Clock, weather: Weather, rules: Iterable[Rule]) -> None:
        self.state = State()
        self.changes = 0
        self._store, self._clock, self._weather = store, clock, weather
        self._rules = tuple(rules)
        self._history: deque[Change] = deque(maxlen=_REMEMBERED)
        self.broken: list[tuple[str, Change]] = []
        self.writes: deque[Change] = self._history

    async def run(self) -> None:
        """Follow the log until cancelled."""
        async with self._store.watch("", 0) as batches:
            async for events in batches:
                for event in events:
                    if not event.row.key.startswith(_SKIPPED):
                        self._see(self._change(event))

    def _change(self, event: Event) -> Change:
        row = event.row
        new = None if event.deleted else _decoded(row.value, row.revision)
        old = self.state.objects.get(row.key)
        return Change(row.revision, row.key, plural_of(row.key), old, new, row.actor, row.cause, self._clock.time())

    def _see(self, change: Change) -> None:
        self.changes += 1
        self._history.append(change)
        self.state.blackout = self._weather.blackout
        for rule in self._rules:
            self.broken.extend((f"{type(rule).__name__}: {text}", change) for text in rule.check(change, self.state))
        self.state.apply(change)

    def since(self, revision: int) -> list[Change]:
        """Changes after a revision."""
        return [each for each in self._history if each.revision > revision]

    def story(self, *parts: str) -> str:
        """The last changes of objects whose key, uid or owner's uid contains one of `parts`, for people to read."""
        told = [each for each in self._history if any(part in _about(each) for part in parts)]
        return "\n".join(map(_line, told[-_SHOWN:]))


def _decoded(value: bytes, revision: int) -> Object:
    found = orjson.loads(value)
    found["metadata"]["resourceVersion"] = str(revision)
    return dict(found)


def _about(change: Change) -> str:
    references = change.obj["metadata"].get("ownerReferences") or ()
    return " ".join([change.key, uid(change.obj), *(each["uid"] for each in references)])


def _line(change: Change) -> str:
    what = "created" if change.old is None else "deleted" if change.new is None else "changed"
    head = f"{change.at - EPOCH:10.3f} {change.revision} {what} {change.key}"
    return f"{head} by {change.controller or change.actor} for {change.cause or 'itself'}: {_difference(change)}"


def _difference(change: Change) -> str:
    if change.old is None or change.new is None:
        obj = change.obj
        meta = {
            key: obj["metadata"][key] for key in ("uid", "finalizers", "ownerReferences") if obj["metadata"].get(key)
        }
        return orjson.dumps({"metadata": meta, "spec": obj.get("spec", {}).get("replicas")}).decode()
    old, new = excerpt(change.old) or {}, excerpt(change.new) or {}
    return ", ".join(_fields("", old, new))[:1500]


def _fields(path: str, old: object, new: object) -> Iterable[str]:
    """Where they differ, down to lists."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key) and key != "resourceVersion":
                yield from _fields(f"{path}.{key}" if path else key, old.get(key), new.get(key))
    else:
        yield f"{path}: {_text(old)} -> {_text(new)}"


def _text(value: object) -> str:
    return orjson.dumps(value, default=str).decode()
