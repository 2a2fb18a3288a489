"""What happens to pods: users delete and evict them, containers crash, probes fail."""

from __future__ import annotations

from component.random.world import Action, World
from tiphys.base.errors import TooManyRequests
from tiphys.client.resources import PODS
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import name, namespace


async def delete(world: World) -> str:
    pod = world.pick("pods")
    if pod is None:
        return ""
    await world.client.delete(PODS, name(pod), namespace(pod))
    return f"delete pod {namespace(pod)}/{name(pod)}"


async def force_delete(world: World) -> str:
    pod = world.pick("pods")
    if pod is None:
        return ""
    await world.client.delete(PODS, name(pod), namespace(pod), grace_seconds=0)
    return f"delete pod {namespace(pod)}/{name(pod)} by force"


async def evict(world: World) -> str:
    pod = world.pick("pods")
    if pod is None:
        return ""
    meta = {"name": name(pod), "namespace": namespace(pod)}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    told = f"evict pod {namespace(pod)}/{name(pod)}"
    try:
        await world.client.create(PODS, eviction, namespace(pod), name=name(pod), subresource="eviction")
    except TooManyRequests:
        return f"{told}: refused"
    return told


async def fail(world: World) -> str:
    """The node has no room for it any more."""
    pod = world.pick("pods")
    if pod is None or not podlib.active(pod):
        return ""
    await world.kubelets.drop(pod)
    return f"pod {namespace(pod)}/{name(pod)} fails"


async def crash(world: World) -> str:
    """Its containers exit; what follows depends on its restart policy."""
    pod = world.pick("pods")
    if pod is None or podlib.phase(pod) != "Running":
        return ""
    code = world.random.choice([0, 1, 42, 137])
    await world.kubelets.end(pod, code)
    return f"pod {namespace(pod)}/{name(pod)} exits with {code}"


async def flicker(world: World) -> str:
    pod = world.pick("pods")
    if pod is None or podlib.phase(pod) != "Running":
        return ""
    await world.kubelets.set_ready(pod, not podlib.ready(pod))
    return f"pod {namespace(pod)}/{name(pod)} is {'not ' if podlib.ready(pod) else ''}ready"


async def get_ready(world: World) -> str:
    for pod in world.witness.state.all("pods"):
        if podlib.phase(pod) == "Running" and not podlib.ready(pod):
            await world.kubelets.set_ready(pod, True)
            return f"pod {namespace(pod)}/{name(pod)} gets ready"
    return ""


ACTIONS = (
    Action("pods", 6, delete),
    Action("pods", 2, force_delete),
    Action("pods", 5, evict),
    Action("pods", 4, fail),
    Action("pods", 4, crash),
    Action("pods", 8, flicker),
    Action("wellness", 30, get_ready),
)
