"""Quiet points: the weather clears, nodes are well, nobody does anything. All must come to rest, and stay there."""

from __future__ import annotations

from contextlib import suppress

from component.random.actions_cluster import ACTIONS as CLUSTER
from component.random.actions_faults import ACTIONS as FAULTS
from component.random.actions_jobs import ACTIONS as JOBS
from component.random.actions_pods import ACTIONS as PODS
from component.random.actions_workloads import ACTIONS as WORKLOADS
from component.random.converged import problems
from component.random.manifests import definition
from component.random.state import Change
from component.random.weather import CALM
from component.random.world import Action, World
from tiphys.base.errors import ApiError
from tiphys.client import resources
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.controllers.objects import name, namespace, spec

ACTIONS: tuple[Action, ...] = (*WORKLOADS, *PODS, *JOBS, *CLUSTER, *FAULTS)
_SETTLE = 300.0
_PATIENCE = 12
"""So many times _SETTLE may pass until nothing changes any more: retries back off up to 1,000 s."""
_HOUR = 3600.0


async def live(world: World) -> None:
    """Take all steps of the plan, with quiet points in between and at the end."""
    plan = world.plan
    actions = [each for each in ACTIONS if not plan.kinds or each.group in plan.kinds]
    for node in world.node_names:
        await world.kubelets.add(node)
    await world.client.create(resources.CUSTOM_RESOURCE_DEFINITIONS, definition())
    for action in CLUSTER:
        if action.group == "namespaces":
            for _ in range(2):
                await action.act(world) if action.act.__name__ == "create_namespace" else None
                await world.clock.sleep(1)
    while world.step < plan.steps:
        world.kubelets.calm = False
        for _ in range(min(plan.between, plan.steps - world.step)):
            await world.act(actions)
        await rest(world)


async def rest(world: World) -> None:
    """Calm everything, wait until nothing changes, look, and see that nothing is written during an hour."""
    world.note("quiet")
    await _calm(world)
    for _ in range(_PATIENCE):
        before = world.witness.changes
        await world.clock.sleep(_SETTLE)
        world.judge()
        if world.witness.changes == before:
            break
    else:
        world.fail(["it does not come to rest", *_lines(world.witness.since(_last(world) - 30))])
    found = list(problems(world.witness.state, world.clock.time()))
    if found:
        world.fail(found, *_words(found))
    revision = _last(world)
    world.weather.writes.clear()
    await world.clock.sleep(_HOUR)
    written = world.witness.since(revision)
    if written:
        world.fail(["there are writes at rest:", *_lines(written)], written[0].key)
    if world.weather.writes:
        world.fail(["there are calls at rest that write nothing:", *world.weather.writes])
    world.weather.writes.clear()
    world.judge()


def _last(world: World) -> int:
    return world.witness.writes[-1].revision


def _lines(changes: list[Change]) -> list[str]:
    return [f"{each.revision} {each.key} by {each.actor} for {each.cause}" for each in changes]


def _words(texts: list[str]) -> list[str]:
    """Names of what the first problem is about, for its history."""
    word = next((each for each in texts[0].split() if "/" in each), "")
    return [word] if word else [texts[0].split()[1]]


async def _calm(world: World) -> None:
    world.weather.forecast = CALM
    world.managers.calm()
    kubelets = world.kubelets
    for node in world.node_names:
        if node not in kubelets.names:
            await kubelets.add(node)
        elif node in kubelets.silent:
            await kubelets.revive(node)
        await _clean(world, node)
    for cron_job in list(world.witness.state.all("cronjobs")):
        await _patch(world, resources.CRON_JOBS, cron_job, {"suspend": True})
    for quota in list(world.witness.state.all("resourcequotas")):
        await _patch(world, resources.RESOURCE_QUOTAS, quota, {"hard": {"pods": "999", "count/configmaps": "999"}})
    kubelets.calm = True
    kubelets.look_again()


async def _clean(world: World, node: str) -> None:
    """Lift what administrators did to it; what controllers did they lift themselves."""
    found = await world.client.get(resources.NODES, node)
    kept = [each for each in spec(found).get("taints") or () if each["key"] != "maintenance"]
    kept = [each for each in kept if not each["key"].endswith("/unschedulable")]
    changes = {"spec": {"taints": kept, "unschedulable": None}}
    await world.client.patch(resources.NODES, node, changes, type=MERGE_PATCH)


async def _patch(world: World, resource: Resource, obj: Object, changes: dict[str, object]) -> None:
    with suppress(ApiError):
        await world.client.patch(resource, name(obj), {"spec": changes}, namespace(obj), type=MERGE_PATCH)
