"""What administrators and the world do to nodes, namespaces, quotas, budgets, services and custom objects."""

from __future__ import annotations

from component.random import manifests
from component.random.actions_workloads import LABELS
from component.random.world import NAMESPACES, Action, World
from tiphys.client.resources import (
    CONFIG_MAPS,
    NODES,
    POD_DISRUPTION_BUDGETS,
    RESOURCE_QUOTAS,
    SERVICES,
)
from tiphys.client.resources import NAMESPACES as NAMESPACE
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.controllers.objects import name, namespace, uid

WIDGETS = Resource(manifests.GROUP, "v1", "widgets")
_EFFECTS = ("NoSchedule", "NoExecute")


async def silence_node(world: World) -> str:
    speaking = [each for each in world.kubelets.names if each not in world.kubelets.silent]
    if len(speaking) <= 1:
        return ""
    node = world.random.choice(speaking)
    world.kubelets.silent.add(node)
    return f"{node} falls silent"


async def revive_node(world: World) -> str:
    if not world.kubelets.silent:
        return ""
    node = world.random.choice(sorted(world.kubelets.silent))
    await world.kubelets.revive(node)
    return f"{node} speaks again"


async def remove_node(world: World) -> str:
    if len(world.kubelets.names) <= 2:
        return ""
    node = world.random.choice(world.kubelets.names)
    await world.kubelets.remove(node)
    return f"{node} is removed"


async def add_node(world: World) -> str:
    missing = [each for each in world.node_names if each not in world.kubelets.names]
    if not missing:
        return ""
    node = world.random.choice(missing)
    await world.kubelets.add(node)
    return f"{node} joins"


async def cordon(world: World) -> str:
    node = world.random.choice(world.kubelets.names)
    wanted = world.random.choice([True, None, None])
    await world.client.patch(NODES, node, {"spec": {"unschedulable": wanted}}, type=MERGE_PATCH)
    return f"{node}: unschedulable {wanted}"


async def taint(world: World) -> str:
    """Set or lift our own taint; those of controllers stay."""
    node = world.random.choice(world.kubelets.names)
    found = await world.client.get(NODES, node)
    others = [each for each in found.get("spec", {}).get("taints") or () if each["key"] != "maintenance"]
    ours = [{"key": "maintenance", "effect": world.random.choice(_EFFECTS)}] if world.random.random() < 0.4 else []
    version = found["metadata"]["resourceVersion"]
    changes = {"metadata": {"resourceVersion": version}, "spec": {"taints": [*others, *ours]}}
    await world.client.patch(NODES, node, changes, type=MERGE_PATCH)
    return f"{node}: taints {ours}"


async def create_namespace(world: World) -> str:
    missing = [each for each in NAMESPACES if f"core/namespaces/{each}" not in world.witness.state.objects]
    if not missing:
        return ""
    await world.client.create(NAMESPACE, manifests.head("v1", "Namespace", missing[0]))
    return f"create namespace {missing[0]}"


async def delete_namespace(world: World) -> str:
    where = world.random.choice(NAMESPACES)
    await world.client.delete(NAMESPACE, where)
    return f"delete namespace {where}"


async def quota(world: World) -> str:
    found = world.pick("resourcequotas")
    where = world.random.choice(NAMESPACES)
    if found is None:
        await world.client.create(RESOURCE_QUOTAS, manifests.quota(world.random, "limit", where))
        return f"create quota {where}/limit"
    if world.random.random() < 0.5:
        await world.client.delete(RESOURCE_QUOTAS, name(found), namespace(found))
        return f"delete quota {namespace(found)}/{name(found)}"
    changes = {"spec": manifests.quota(world.random, "limit", where)["spec"]}
    await world.client.patch(RESOURCE_QUOTAS, name(found), changes, namespace(found), type=MERGE_PATCH)
    return f"quota {namespace(found)}/{name(found)}: {changes}"


async def config_map(world: World) -> str:
    """They come and go; some belong to something, in the foreground or not, perhaps to two, perhaps to nobody."""
    where, wanted = world.random.choice(NAMESPACES), f"config-{world.random.randint(0, 9)}"
    if f"core/configmaps/{where}/{wanted}" in world.witness.state.objects:
        await world.client.delete(CONFIG_MAPS, wanted, where)
        return f"delete config map {where}/{wanted}"
    made = manifests.head("v1", "ConfigMap", wanted, where)
    owners = [world.pick("widgets", "deployments", "jobs", "configmaps", where=where) for _ in range(2)]
    made["metadata"]["ownerReferences"] = [_reference(world, each) for each in owners if each is not None]
    await world.client.create(CONFIG_MAPS, made)
    return f"create config map {where}/{wanted} of {[each['name'] for each in made['metadata']['ownerReferences']]}"


def _reference(world: World, owner: Object) -> dict[str, object]:
    version, kind = owner["apiVersion"], owner["kind"]
    blocks = world.random.random() < 0.5
    found = {"apiVersion": version, "kind": kind, "name": name(owner), "uid": uid(owner)}
    return {**found, "blockOwnerDeletion": blocks}


async def widget(world: World) -> str:
    """Custom objects, in trees."""
    where, wanted = world.random.choice(NAMESPACES), f"widget-{world.random.randint(0, 9)}"
    if f"{manifests.GROUP}/widgets/{where}/{wanted}" in world.witness.state.objects:
        how = world.random.choice(["Background", "Foreground", "Orphan"])
        await world.client.delete(WIDGETS, wanted, where, propagation=how)
        return f"delete widget {where}/{wanted} {how}"
    made = manifests.widget(wanted, where)
    owner = world.pick("widgets", where=where)
    made["metadata"]["ownerReferences"] = [_reference(world, owner)] if owner is not None else []
    await world.client.create(WIDGETS, made)
    return f"create widget {where}/{wanted} of {name(owner) if owner is not None else 'nobody'}"


async def budget(world: World) -> str:
    where, wanted = world.random.choice(NAMESPACES), world.random.choice(LABELS)
    if f"policy/poddisruptionbudgets/{where}/{wanted}" in world.witness.state.objects:
        await world.client.delete(POD_DISRUPTION_BUDGETS, wanted, where)
        return f"delete budget {where}/{wanted}"
    made = manifests.budget(world.random, wanted, where)
    await world.client.create(POD_DISRUPTION_BUDGETS, made)
    return f"create budget {where}/{wanted} {made['spec']}"


async def service(world: World) -> str:
    where, wanted = world.random.choice(NAMESPACES), world.random.choice(LABELS)
    if f"core/services/{where}/{wanted}" not in world.witness.state.objects:
        await world.client.create(SERVICES, manifests.service(wanted, where))
        return f"create service {where}/{wanted}"
    if world.random.random() < 0.4:
        await world.client.delete(SERVICES, wanted, where)
        return f"delete service {where}/{wanted}"
    changes = {"spec": {"selector": {"app": world.random.choice(LABELS)}}}
    await world.client.patch(SERVICES, wanted, changes, where, type=MERGE_PATCH)
    return f"service {where}/{wanted}: {changes}"


ACTIONS = (
    Action("nodes", 2, silence_node),
    Action("nodes", 4, revive_node),
    Action("nodes", 1, remove_node),
    Action("nodes", 3, add_node),
    Action("nodes", 3, cordon),
    Action("nodes", 3, taint),
    Action("namespaces", 10, create_namespace),
    Action("namespaces", 1, delete_namespace),
    Action("policy", 3, quota),
    Action("owners", 20, config_map),
    Action("owners", 20, widget),
    Action("policy", 4, budget),
    Action("services", 6, service),
)
