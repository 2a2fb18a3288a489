"""A cluster under random treatment: what a test or a person at the keyboard runs.

Everything follows from the `Plan`: its seed draws actions, weather, what nodes do, uids and names.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

from component.random import rules_objects
from component.random.disturbance import Disturbances
from component.random.kubelets import Kubelets
from component.random.managers import Managers
from component.random.rules_jobs import Counting, Ends, Parallelism, Schedules
from component.random.rules_policy import Budgets, Quotas, Slices
from component.random.rules_replicas import Replicas, Rolling
from component.random.rules_sets import Daemons, Stateful
from component.random.weather import SKIES, Forecast, Weather
from component.random.witness import Rule, Witness
from tiphys.api import meta
from tiphys.base.errors import ApiError
from tiphys.base.identity import User
from tiphys.client.types import Client, Object
from tiphys.controllers.objects import deleting, namespace
from tiphys.testing.clock import EPOCH, VirtualClock
from tiphys.testing.cluster import Cluster, background

NAMESPACES = ("one", "two")
USER = User("user", groups=("system:masters", "system:authenticated"))
NODES = User("kubelets", groups=("system:masters", "system:authenticated"))
_PAUSES = (0, 0, 0, 0.001, 0.05, 0.3, 1, 1, 2, 5, 15)
_SHOWN = 25


class Broken(AssertionError):
    """An invariant does not hold; the text tells the seed, the step and the story."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do to a world."""

    seed: int
    steps: int
    name: str = "all"
    kinds: tuple[str, ...] = ()
    """Groups of actions to draw from; none: all."""
    skies: Sequence[Forecast] = SKIES
    nodes: int = 4
    managers: int = 1
    scheduler: bool = False
    between: int = 500
    """Steps between two quiet points."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something that happens to the cluster; it tells what it did, or "" if there was nothing to do it to."""

    group: str
    weight: int
    act: Callable[[World], Awaitable[str]]


@dataclass(slots=True)
class _Faults(logging.Handler):
    """Errors that the product logs: none of what happens here is an excuse for one."""

    found: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        logging.Handler.__init__(self, logging.ERROR)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


class World:
    """The cluster, those who act on it, and those who watch it."""

    def __init__(self, plan: Plan, cluster: Cluster, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        self.plan, self.cluster, self.clock = plan, cluster, clock
        self.random = random.Random(f"actions {plan.seed}")
        self.weather = Weather(random.Random(f"weather {plan.seed}"), clock)
        self.client: Client = cluster.connect(USER)
        self.managers = Managers(cluster, self.weather, tasks, plan.managers)
        nodes = random.Random(f"nodes {plan.seed}")
        self.kubelets = Kubelets(cluster.connect(NODES), clock, nodes, bind=not plan.scheduler)
        self.witness = Witness(cluster.store, clock, self.weather, _rules(self.weather))
        self.faults = _Faults()
        self.node_names = [f"node-{number}" for number in range(1, plan.nodes + 1)]
        self.step = 0
        self._log: deque[str] = deque(maxlen=_SHOWN)

    def pick(self, *plurals: str, where: str = "") -> Object | None:
        """A random object of one of these resources that lives in one of the namespaces."""
        found = [
            each
            for plural in plurals
            for each in self.witness.state.all(plural, where)
            if namespace(each) in NAMESPACES and not deleting(each)
        ]
        return self.random.choice(found) if found else None

    async def act(self, actions: Sequence[Action]) -> None:
        """Take one step."""
        self.step += 1
        weights = [each.weight for each in actions]
        for _ in range(20):
            action = self.random.choices(actions, weights)[0]
            told = ""
            with suppress(ApiError):  # what it aimed at has changed
                told = await action.act(self)
            if told:
                break
        self.note(told)
        await self.clock.sleep(self.random.choice(_PAUSES))
        self.judge()

    def note(self, told: str) -> None:
        """Put it into the report."""
        self._log.append(f"{self.step:6} {self.clock.time() - EPOCH:10.3f} {told}")

    def judge(self) -> None:
        """Raises Broken if a rule was broken or the product reported a fault."""
        if self.witness.broken:
            texts = [text for text, _ in self.witness.broken]
            first = self.witness.broken[0][1]
            owners = [each["uid"] for each in first.obj["metadata"].get("ownerReferences") or ()]
            self.fail(texts, first.key, *owners)
        if self.weather.refused:
            self.fail(self.weather.refused)
        if self.faults.found:
            self.fail(self.faults.found)

    def fail(self, texts: Sequence[str], *about: str) -> None:
        """Raises Broken."""
        plan = self.plan
        lines = [
            f"world {plan.name}, seed {plan.seed}, step {self.step}:",
            *texts[:60],
            "",
            "The last actions:",
            *self._log,
        ]
        if about:
            lines += ["", f"The history of {', '.join(about)}:", self.witness.story(*about)]
        lines += ["", f"Again: python -m component.random --world {plan.name} --seed {plan.seed} --steps {plan.steps}"]
        raise Broken("\n".join(lines))


def _rules(weather: Weather) -> list[Rule]:
    made: list[Rule] = [each() for each in rules_objects.RULES]
    made += [Replicas(weather), Rolling(weather), Daemons(weather), Stateful(weather), Parallelism(weather)]
    made += [Counting(), Ends(), Schedules(), Budgets(), Quotas(weather), Slices()]
    return [*made, Disturbances()]


def play(plan: Plan, scenario: Callable[[World], Awaitable[None]]) -> None:
    """Build the world of a plan and have `scenario` go through it. Raises Broken."""
    clock = VirtualClock()
    try:
        with _fixed_randomness(plan.seed):
            clock.run(_live(plan, clock, scenario))
    except BaseExceptionGroup as group:
        raise _first(group) from group
    finally:
        clock.close()


async def _live(plan: Plan, clock: VirtualClock, scenario: Callable[[World], Awaitable[None]]) -> None:
    cluster = Cluster(clock, nodes=0, controllers="", binder="scheduler" if plan.scheduler else "")
    async with cluster, asyncio.TaskGroup() as tasks:
        world = World(plan, cluster, clock, tasks)
        logger = logging.getLogger("tiphys")
        logger.addHandler(world.faults)
        try:
            async with background(world.witness.run), background(world.kubelets.run):
                await clock.sleep(0.1)
                world.managers.start_all()
                await clock.sleep(5)
                await scenario(world)
                world.managers.stop()
        finally:
            logger.removeHandler(world.faults)


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """The exception that a test should show: what was broken, else the first of all."""
    leaves = list(_leaves(group))
    return next((each for each in leaves if isinstance(each, Broken)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


@contextmanager
def _fixed_randomness(seed: int) -> Iterator[None]:
    """Let uids, generated names and whatever else is left to chance follow from the seed."""
    source = random.Random(f"uids {seed}")
    original = random.Random

    def seeded(given: Any = None) -> random.Random:
        return original(f"others {seed}" if given is None else given)

    entropy = partial(source.randbytes, 16)
    with mock.patch.object(meta, "_random_bytes", entropy), mock.patch.object(random, "Random", seeded):
        yield
