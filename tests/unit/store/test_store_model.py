"""Any sequence of operations, against a model: a plain list of writes replayed to any revision."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from etcd_server import EtcdServer, Rebased
from tiphys.store.etcd import EtcdStore
from tiphys.store.memory import MemoryStore
from tiphys.store.sqlite import SqliteStore
from tiphys.store.types import Compacted, Event, Mismatch, Store

KEYS = st.sampled_from(["a", "a/1", "a/2", "a/é", "b/1", "b/2"])
PREFIXES = st.sampled_from(["", "a", "a/", "b/", "c"])
Model = dict[str, tuple[bytes, int, int]]
"""key -> value, revision, creation."""


class StoreMachine(RuleBasedStateMachine):
    kind = "memory"
    etcd: EtcdServer

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.states: list[Model] = [{}]
        self.writes: list[tuple[str, bytes | None]] = []
        self.compacted = 0
        self.store = self.open()

    def open(self) -> Store:
        if self.kind == "etcd":
            return Rebased(EtcdStore(self.etcd.config()))
        return MemoryStore() if self.kind == "memory" else SqliteStore.open(Path(self.folder.name) / "s.db")

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
            self.runner.close()
            self.folder.cleanup()

    @property
    def now(self) -> Model:
        return self.states[-1]

    def note(self, key: str, value: bytes | None) -> None:
        state, revision = dict(self.now), len(self.states)
        if value is None:
            del state[key]
        else:
            state[key] = (value, revision, state[key][2] if key in state else revision)
        self.states.append(state)
        self.writes.append((key, value))

    @rule(key=KEYS, value=st.binary(max_size=8), expect=st.sampled_from(["any", "right", "new", "wrong"]))
    def put(self, key: str, value: bytes, expect: str) -> None:
        have = self.now[key][1] if key in self.now else 0
        wanted = {"any": None, "right": have, "new": 0, "wrong": have + 1}[expect]
        call = self.store.put(key, value, expect=wanted)
        if wanted in (None, have):
            self.runner.run(call)
            self.note(key, value)
            return
        with pytest.raises(Mismatch) as caught:
            self.runner.run(call)
        assert (caught.value.current.revision if caught.value.current else 0) == have

    @rule(keys=st.lists(KEYS, min_size=1, max_size=6), delete=st.booleans())
    def write_together(self, keys: list[str], delete: bool) -> None:
        async def body() -> None:
            if self.kind == "etcd":  # which of several writes on the way is first, nobody says
                for key in keys:
                    await self.store.put(key, b"together")
                    if delete:
                        await self.store.delete(key)
                return
            async with asyncio.TaskGroup() as group:
                for key in keys:
                    group.create_task(self.store.put(key, b"together"))
                    if delete:
                        group.create_task(self.store.delete(key))

        self.runner.run(body())
        for key in keys:
            self.note(key, b"together")
            if delete:
                self.note(key, None)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        row = self.runner.run(self.store.delete(key))
        if key in self.now:
            assert row is not None
            assert row.value == self.now[key][0]
            self.note(key, None)
            assert row.revision == len(self.states) - 1
        else:
            assert row is None

    @rule(part=st.floats(0, 1))
    def compact(self, part: float) -> None:
        revision = int(part * (len(self.states) - 1))
        self.runner.run(self.store.compact(revision))
        self.compacted = max(self.compacted, revision)

    @rule()
    def reopen(self) -> None:
        if self.kind == "sqlite":
            self.runner.run(self.store.close())
            self.store = self.open()

    @rule(prefix=PREFIXES, part=st.floats(0, 1), after=KEYS | st.just(""), limit=st.integers(0, 3))
    def read_the_past(self, prefix: str, part: float, after: str, limit: int) -> None:
        revision = int(part * (len(self.states) - 1))
        call = self.store.list(prefix, revision=revision, after=after, limit=limit)
        if 0 < revision < self.compacted:
            with pytest.raises(Compacted):
                self.runner.run(call)
            return
        page = self.runner.run(call)
        state = self.states[revision or -1]
        wanted = sorted(key for key in state if key.startswith(prefix) and key > after)
        shown = wanted[:limit] if limit else wanted
        assert [row.key for row in page.rows] == shown
        assert page.remaining == len(wanted) - len(shown)
        for row in page.rows:
            assert (row.value, row.revision, row.created) == state[row.key]
            assert self.runner.run(self.store.get(row.key, revision)) == row

    @rule(prefix=PREFIXES, part=st.floats(0, 1))
    def watch(self, prefix: str, part: float) -> None:
        after = int(part * (len(self.states) - 1))
        wanted = [n for n, (key, _) in enumerate(self.writes, 1) if n > after and key.startswith(prefix)]
        if after < self.compacted or not wanted:
            return
        self.runner.run(self.check_watch(prefix, after, wanted))

    async def check_watch(self, prefix: str, after: int, wanted: list[int]) -> None:
        seen: list[Event] = []
        async with self.store.watch(prefix, after) as batches:
            async for batch in batches:
                seen += batch
                if seen[-1].row.revision == wanted[-1]:
                    break
        assert [event.row.revision for event in seen] == wanted
        for event in seen:
            key, value = self.writes[event.row.revision - 1]
            before = self.states[event.row.revision - 1].get(key)
            assert (event.row.key, event.row.value, event.deleted) == (key, value or b"", value is None)
            assert (event.previous.value if event.previous else None) == (before[0] if before else None)

    @invariant()
    def revision_matches(self) -> None:
        if hasattr(self, "store"):
            assert self.runner.run(self.store.revision()) == len(self.states) - 1


@pytest.mark.parametrize("kind", ["memory", "sqlite", "etcd"])
def test_a_store_behaves_like_a_replayed_list_of_writes(kind: str, request: pytest.FixtureRequest) -> None:
    attributes = {"kind": kind, "etcd": request.getfixturevalue("etcd")} if kind == "etcd" else {"kind": kind}
    machine = type("Machine", (StoreMachine,), attributes)
    limits = settings(
        max_examples=15 if kind == "etcd" else 60,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=limits)
