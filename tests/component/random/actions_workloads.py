"""What users do to Deployments, ReplicaSets, StatefulSets, DaemonSets and their like."""

from __future__ import annotations

from typing import Any

from component.random import manifests
from component.random.world import NAMESPACES, Action, World
from tiphys.client.resources import (
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.controllers.objects import int_of, name, namespace, spec

KINDS: dict[str, tuple[Resource, Any, tuple[str, ...]]] = {
    "deployments": (DEPLOYMENTS, manifests.deployment, ("web", "api", "shop")),
    "replicasets": (REPLICA_SETS, manifests.replica_set, ("cache", "queue")),
    "replicationcontrollers": (REPLICATION_CONTROLLERS, manifests.replication_controller, ("old", "queue")),
    "statefulsets": (STATEFUL_SETS, manifests.stateful_set, ("db", "log")),
    "daemonsets": (DAEMON_SETS, manifests.daemon_set, ("agent",)),
}
"""Resource, manifest, names by plural."""
LABELS = tuple(sorted({each for _, _, names in KINDS.values() for each in names}))
_PROPAGATIONS = ("", "Background", "Foreground", "Orphan")


async def create(world: World) -> str:
    plural = world.random.choice(list(KINDS))
    resource, made, names = KINDS[plural]
    where, wanted = world.random.choice(NAMESPACES), world.random.choice(names)
    taken = any(name(each) == wanted for each in world.witness.state.all(plural, where))
    if taken:
        return ""
    workload = made(world.random, wanted, where)
    if world.plan.scheduler:  # it waits for volumes, and nobody makes any
        workload["spec"].pop("volumeClaimTemplates", None)
    await world.client.create(resource, workload)
    return f"create {plural} {where}/{wanted}"


async def patch(world: World, obj: Object, plural: str, changes: dict[str, Any]) -> str:
    """Change fields of a workload's spec."""
    await world.client.patch(KINDS[plural][0], name(obj), {"spec": changes}, namespace(obj), type=MERGE_PATCH)
    return f"{plural} {namespace(obj)}/{name(obj)}: {changes}"


def one_of(world: World, *plurals: str) -> tuple[str, Object | None]:
    plural = world.random.choice(plurals or tuple(KINDS))
    return plural, world.pick(plural)


async def scale(world: World) -> str:
    plural, obj = one_of(world, *(each for each in KINDS if each != "daemonsets"))
    if obj is None or (plural == "replicasets" and obj["metadata"].get("ownerReferences")):
        return ""
    return await patch(world, obj, plural, {"replicas": world.random.randint(0, 4)})


async def roll(world: World) -> str:
    """Another image, often one that was there before."""
    plural, obj = one_of(world, "deployments", "deployments", "statefulsets", "daemonsets")
    if obj is None:
        return ""
    image = f"image:{world.random.randint(0, 4)}"
    containers = [{**spec(obj)["template"]["spec"]["containers"][0], "image": image}]
    return await patch(world, obj, plural, {"template": {"spec": {"containers": containers}}})


async def pause(world: World) -> str:
    deployment = world.pick("deployments")
    return "" if deployment is None else await patch(world, deployment, "deployments", {"paused": _flip(deployment)})


def _flip(deployment: Object) -> bool | None:
    return None if spec(deployment).get("paused") else True


async def change_strategy(world: World) -> str:
    deployment = world.pick("deployments")
    if deployment is None:
        return ""
    return await patch(world, deployment, "deployments", {"strategy": manifests.strategy(world.random)})


async def change_update(world: World) -> str:
    """Partitions, and which ordinals there are."""
    stateful_set = world.pick("statefulsets")
    if stateful_set is None:
        return ""
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": world.random.choice([0, 0, 1, 3])}}
    wanted = int_of((spec(stateful_set).get("ordinals") or {}).get("start"))
    start = world.random.choice([wanted, wanted, 0, 1, 2])
    changes = {"updateStrategy": rolling, "ordinals": {"start": start}}
    return await patch(world, stateful_set, "statefulsets", changes)


async def change_daemons(world: World) -> str:
    daemon_set = world.pick("daemonsets")
    if daemon_set is None:
        return ""
    update = spec(manifests.daemon_set(world.random, name(daemon_set), ""))["updateStrategy"]
    return await patch(world, daemon_set, "daemonsets", {"updateStrategy": update})


async def delete(world: World) -> str:
    plural, obj = one_of(world, *KINDS)
    if obj is None:
        return ""
    how = world.random.choice(_PROPAGATIONS)
    await world.client.delete(KINDS[plural][0], name(obj), namespace(obj), propagation=how)
    return f"delete {plural} {namespace(obj)}/{name(obj)} {how}"


async def relabel(world: World) -> str:
    """A pod leaves its controller, perhaps for another one."""
    pod = world.pick("pods")
    if pod is None:
        return ""
    label = world.random.choice([*LABELS, None, "nobody"])
    changes = {"metadata": {"labels": {"app": label}}}
    await world.client.patch(PODS, name(pod), changes, namespace(pod), type=MERGE_PATCH)
    return f"relabel pod {namespace(pod)}/{name(pod)}: {label}"


async def orphan(world: World) -> str:
    """A pod or a ReplicaSet loses its owner, as by hand."""
    plural = world.random.choice(["pods", "pods", "replicasets"])
    obj = world.pick(plural)
    if obj is None or not obj["metadata"].get("ownerReferences"):
        return ""
    resource = PODS if plural == "pods" else REPLICA_SETS
    changes = {"metadata": {"ownerReferences": None}}
    await world.client.patch(resource, name(obj), changes, namespace(obj), type=MERGE_PATCH)
    return f"take the owner from {plural} {namespace(obj)}/{name(obj)}"


async def bare_pod(world: World) -> str:
    """A pod that somebody may adopt."""
    label, where = world.random.choice(LABELS), world.random.choice(NAMESPACES)
    wanted = f"{label}-{world.random.choice(['0', '1', 'x', 'y'])}"
    pod = {**manifests.head("v1", "Pod", wanted, where), **manifests.template(label)}
    pod["metadata"] |= {"name": wanted, "namespace": where}
    await world.client.create(PODS, pod)
    return f"create pod {where}/{wanted}"


async def lose_revision(world: World) -> str:
    revision = world.pick("controllerrevisions")
    if revision is None:
        return ""
    await world.client.delete(CONTROLLER_REVISIONS, name(revision), namespace(revision))
    return f"delete revision {namespace(revision)}/{name(revision)}"


ACTIONS = (
    Action("workloads", 14, create),
    Action("workloads", 14, scale),
    Action("workloads", 12, roll),
    Action("workloads", 4, pause),
    Action("workloads", 4, change_strategy),
    Action("workloads", 3, change_update),
    Action("workloads", 2, change_daemons),
    Action("workloads", 5, delete),
    Action("meddling", 4, relabel),
    Action("meddling", 3, orphan),
    Action("meddling", 2, bare_pod),
    Action("meddling", 1, lose_revision),
)
