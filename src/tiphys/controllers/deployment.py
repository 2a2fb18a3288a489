"""Deployment: rolls a ReplicaSet out, keeps the earlier ones as history, reports progress.

Pure: `decide` turns a Deployment, its ReplicaSets and the time into a `Decision`; `rollout` has the arithmetic,
`deployment_status` the reporting. The shell claims ReplicaSets and writes what was decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.api import selectors
from tiphys.base.errors import AlreadyExists, ApiError, NotFound, Retry
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import index_by_owner, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from tiphys.client.types import Object
from tiphys.controllers import deployment_status as reporting
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.claims import check_alive, claim, settle
from tiphys.controllers.deployment_rollback import Rollback, roll_back
from tiphys.controllers.deployment_rollback import wanted as rollback_wanted
from tiphys.controllers.objects import (
    HASH_LABEL,
    annotations_of,
    controlled_by,
    controller_of,
    controller_reference,
    deleting,
    int_of,
    labels,
    name,
    namespace,
    namespace_terminating,
    spec,
    status,
    template_hash,
    uid,
    without_hash,
)
from tiphys.controllers.rollout import (
    DESIRED,
    MAXIMUM,
    REVISION,
    Rollout,
    annotated,
    max_surge,
    replicas,
    revision_annotations,
    rolling,
    same_template,
    split,
)

_NAME_LIMIT = 253
_AGAIN = 1.0
"""Seconds until the cache is asked again for what was written, should its event not come."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in this order."""

    create: Object | None = None
    """The new ReplicaSet, if it does not exist yet."""
    write: tuple[Object, ...] = ()
    """ReplicaSets with changed replicas or annotations."""
    events: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """ScalingReplicaSet messages by the uid of what has been written then; "" is the new ReplicaSet's."""
    delete: tuple[Object, ...] = ()
    revision: str = ""
    """The revision that the Deployment's annotation should name; "" leaves it."""
    status: Mapping[str, Any] | None = None
    """The status, if it should change."""
    after: float | None = None
    """Seconds until progress has to be judged again."""
    rollback: Rollback | None = None
    """The Deployment as an old client asked it to be; it takes the place of all but `write`."""


def decide(deployment: Object, sets: Sequence[Object], old_pods_run: Callable[[str], bool], now: float) -> Decision:
    """One step. `old_pods_run(uid)` tells if pods of others than the ReplicaSet of that uid still run (Recreate)."""
    new, old = split(deployment, sets)
    rollout = Rollout(deployment, new, old)
    _sync_new(rollout)
    base = reporting.with_paused_condition(deployment, now)
    removable: Sequence[Object] = ()
    create = None
    if deleting(deployment):
        base = status(deployment)
        final = reporting.plain(rollout, base, now)
    elif spec(deployment).get("paused"):
        rollout.resize()
        removable = rollout.removable() if rollback_wanted(deployment) is None else ()
        final = reporting.plain(rollout, base, now)
    elif new is not None and rollback_wanted(deployment) is not None:
        return Decision(write=tuple(rollout.changed), rollback=roll_back(deployment, rollout.all))
    elif rollout.is_scaling_event():
        rollout.resize()
        final = reporting.plain(rollout, base, now)
    else:
        create = _advance(rollout, old_pods_run)
        removable = rollout.removable() if reporting.complete(deployment, status(deployment)) else ()
        base = reporting.with_revision_condition(rollout, base, create, now)
        final = reporting.progressing(rollout, base, now)
    return Decision(
        create=create,
        write=tuple(each for each in rollout.changed if each is not create and uid(each)),
        events=rollout.events,
        delete=tuple(removable),
        revision=_revision(rollout),
        status=None if final == status(deployment) else final,
        after=reporting.next_check(deployment, final, now),
    )


def _revision(rollout: Rollout) -> str:
    wanted = annotations_of(rollout.new).get(REVISION, "") if rollout.new is not None else ""
    return wanted if wanted != annotations_of(rollout.deployment).get(REVISION) else ""


def _sync_new(rollout: Rollout) -> None:
    """Carry the Deployment's annotations, the revision and minReadySeconds over to the new ReplicaSet."""
    new = rollout.new
    if new is None:
        return
    wanted = annotated(new, revision_annotations(rollout.deployment, new, rollout.old))
    min_ready = int_of(spec(rollout.deployment).get("minReadySeconds"))
    if int_of(spec(wanted).get("minReadySeconds")) != min_ready:
        wanted = {**wanted, "spec": {**spec(wanted), "minReadySeconds": min_ready}}
    rollout.replace(wanted)


def _advance(rollout: Rollout, old_pods_run: Callable[[str], bool]) -> Object | None:
    """Take a step of the strategy; returns the ReplicaSet to create, if it is time for it."""
    if rolling(rollout.deployment):
        created = _add_new(rollout)
        rollout.roll()
        return created and rollout.new
    if rollout.stop_old():
        return None
    stopping = sum(int_of(status(each).get("replicas")) for each in rollout.old)
    if stopping or old_pods_run(uid(rollout.new) if rollout.new is not None else ""):
        return None
    created = _add_new(rollout)
    if rollout.new is not None:
        rollout.scale(rollout.new, replicas(rollout.deployment))
    return created and rollout.new


def _add_new(rollout: Rollout) -> Object | None:
    """Put the new ReplicaSet, which has no uid yet, into the rollout, if it is missing."""
    if rollout.new is not None:
        return None
    made = new_replica_set(rollout.deployment, rollout.old)
    size = rollout.size_of_new(0)
    made = {**made, "spec": {**made["spec"], "replicas": size}}
    rollout.add_new(made)
    if size:
        rollout.events[uid(made)] = [f"Scaled up replica set {name(made)} from 0 to {size}"]
    return made


def new_replica_set(deployment: Object, old: Sequence[Object]) -> dict[str, Any]:
    """The ReplicaSet for the Deployment's present template; its name tells the template."""
    template = spec(deployment)["template"]
    digest = template_hash(template, status(deployment).get("collisionCount"))
    meta = template.get("metadata") or {}
    labelled = {**(meta.get("labels") or {}), HASH_LABEL: digest}
    selector = spec(deployment)["selector"]
    desired = replicas(deployment)
    bare: Object = {"metadata": {}}
    notes = {
        **revision_annotations(deployment, bare, old),
        DESIRED: str(desired),
        MAXIMUM: str(desired + max_surge(deployment)),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name(deployment)[: _NAME_LIMIT - 1 - len(digest)]}-{digest}",
            "namespace": namespace(deployment),
            "labels": labelled,
            "annotations": notes,
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": {
            "replicas": 0,
            "minReadySeconds": int_of(spec(deployment).get("minReadySeconds")),
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}},
            "template": {**template, "metadata": {**meta, "labels": labelled}},
        },
    }


class DeploymentController(Controller):
    """The shell; keys are Deployments."""

    name = "deployment-controller"
    account = "deployment-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._deployments = self.watch(DEPLOYMENTS)
        self._sets = self.watch(REPLICA_SETS)
        self._pods = self.watch(PODS)
        self._sets.add_index("owner", index_by_owner)
        self._sets.add_index("orphans", podlib.orphans_by_namespace)
        self._pods.add_index("owner", index_by_owner)
        self._resized: dict[str, int] = {}
        self._deployments.subscribe(self.enqueue)
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(self._pod_changed)

    async def reconcile(self, key: str) -> Result | None:
        deployment = self._deployments.by_key(key)
        if deployment is None:
            self._resized.pop(key, None)
            return None
        if self.behind(key, deployment):
            return None
        if not spec(deployment).get("selector"):
            await self._refuse(deployment)
            return None
        if not self._shows_resizing(key):
            return Result(_AGAIN)
        sets = await self._claim(deployment)
        decision = decide(deployment, sets, lambda new: self._old_pods_run(sets, new), self.clock.time())
        await self._carry_out(deployment, decision)
        return Result(decision.after)

    async def _refuse(self, deployment: Object) -> None:
        """A selector of everything would make it take over all that is there."""
        message = "This deployment is selecting all pods. A non-empty selector is required."
        self.recorder.event(deployment, WARNING, "SelectingAll", message)
        seen, generation = status(deployment).get("observedGeneration"), deployment["metadata"].get("generation")
        if int_of(seen) < int_of(generation):
            await self.update_status(DEPLOYMENTS, deployment, {**status(deployment), "observedGeneration": generation})

    def _note_resizing(self, replica_set: Object) -> None:
        owner = controller_of(replica_set) or {}
        key = f"{namespace(replica_set)}/{owner.get('name')}"
        self._resized[key] = int(replica_set["metadata"]["resourceVersion"])

    def _shows_resizing(self, key: str) -> bool:
        """Whether the cache shows the sizes that were written last: old ones would make room that is taken."""
        if self._sets.revision < self._resized.get(key, 0):
            return False
        self._resized.pop(key, None)
        return True

    async def _claim(self, deployment: Object) -> Sequence[Object]:
        selector = selectors.from_object(spec(deployment)["selector"])
        candidates = self._sets.by_index("owner", uid(deployment))
        candidates += self._sets.by_index("orphans", namespace(deployment))
        claims = claim(deployment, selector.matches, candidates)
        return await settle(self.client, DEPLOYMENTS, deployment, REPLICA_SETS, claims)

    def _old_pods_run(self, sets: Sequence[Object], new: str) -> bool:
        old = [uid(each) for each in sets if uid(each) != new]
        return any(not podlib.terminal(pod) for owner in old for pod in self._pods.by_index("owner", owner))

    async def _carry_out(self, deployment: Object, decision: Decision) -> None:
        if decision.create is not None:
            await self._create(deployment, decision.create)
            self._tell(deployment, decision.events.get("", ()))
            # At once: were it lost with what fails below, the deadline for the new one would never begin to run.
            await self._report(deployment, decision)
        failure = await self._write(deployment, decision)
        if failure is None:
            if decision.rollback is not None:
                await self._roll_back(deployment, decision.rollback)
            for replica_set in decision.delete:
                await self._delete(replica_set)
        if decision.create is None:
            await self._report(deployment, decision)
        if failure is not None:
            raise failure

    async def _write(self, deployment: Object, decision: Decision) -> ApiError | None:
        """Change ReplicaSets; returns what stopped it. The status is told all the same, or no deadline would pass."""
        for replica_set in decision.write:
            try:
                self._note_resizing(await self.client.update(REPLICA_SETS, replica_set))
            except ApiError as error:
                return error
            self._tell(deployment, decision.events.get(uid(replica_set), ()))
        return None

    def _tell(self, deployment: Object, messages: Iterable[str]) -> None:
        for message in messages:
            self.recorder.event(deployment, NORMAL, "ScalingReplicaSet", message)

    async def _roll_back(self, deployment: Object, rollback: Rollback) -> None:
        await self.client.update(DEPLOYMENTS, rollback.deployment)
        self.recorder.event(deployment, rollback.type, rollback.reason, rollback.message)

    async def _report(self, deployment: Object, decision: Decision) -> None:
        """Status and revision in one write: /status takes annotations too, and counts no generation for them."""
        if decision.status is None and not decision.revision:
            return
        if decision.revision:
            deployment = annotated(deployment, {REVISION: decision.revision})
        new = decision.status if decision.status is not None else status(deployment)
        await self.update_status(DEPLOYMENTS, deployment, new)

    async def _create(self, deployment: Object, replica_set: Object) -> None:
        await check_alive(self.client, DEPLOYMENTS, deployment)  # else garbage collection and we chase each other
        try:
            self._note_resizing(await self.client.create(REPLICA_SETS, replica_set))
        except AlreadyExists:
            await self._resolve_collision(deployment, replica_set)
        except ApiError as error:
            if not namespace_terminating(error):
                message = f'Failed to create new replica set "{name(replica_set)}": {error}'
                await self._report_failure(deployment, message)
            raise

    async def _resolve_collision(self, deployment: Object, replica_set: Object) -> None:
        """Ours of an earlier attempt is fine (the cache is behind); another template's needs another name."""
        other = await self.client.get(REPLICA_SETS, name(replica_set), namespace(replica_set))
        if controlled_by(other, deployment) and same_template(other, without_hash(spec(deployment)["template"])):
            raise Retry("the new ReplicaSet is not in the cache yet")
        count = int_of(status(deployment).get("collisionCount")) + 1
        await self.update_status(DEPLOYMENTS, deployment, {**status(deployment), "collisionCount": count})
        raise Retry(f"the name {name(replica_set)} is taken, trying another one")

    async def _report_failure(self, deployment: Object, message: str) -> None:
        self.recorder.event(deployment, WARNING, reporting.CREATE_ERROR, message)
        failed = reporting.with_create_error(deployment, message, self.clock.time())
        if failed != status(deployment):
            await self.update_status(DEPLOYMENTS, deployment, failed)

    async def _delete(self, replica_set: Object) -> None:
        try:
            await self.client.delete(REPLICA_SETS, name(replica_set), namespace(replica_set), uid=uid(replica_set))
        except NotFound:
            return

    def _set_changed(self, old: Object | None, new: Object | None) -> None:
        for replica_set in (old, new):
            owner = controller_of(replica_set) if replica_set is not None else None
            if owner is not None and replica_set is not None and owner["kind"] == "Deployment":
                self.queue.add(f"{namespace(replica_set)}/{owner['name']}")
        if new is not None and controller_of(new) is None and (old is None or _orphaned_or_relabelled(old, new)):
            for deployment in self._deployments.list(namespace(new)):
                if selectors.from_object(spec(deployment).get("selector")).matches(labels(new)):
                    self.queue.add(key_of(deployment))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """A Recreate Deployment waits for the last old pod to go."""
        gone = old if new is None or podlib.terminal(new) else None
        owner = controller_of(gone) if gone is not None else None
        if gone is None or owner is None or owner["kind"] != "ReplicaSet":
            return
        replica_set = self._sets.get(namespace(gone), owner["name"])
        deployment = controller_of(replica_set) if replica_set is not None else None
        if deployment is not None and deployment["kind"] == "Deployment":
            held = self._deployments.get(namespace(gone), deployment["name"])
            if held is not None and not rolling(held):
                self.queue.add(key_of(held))


def _orphaned_or_relabelled(old: Object, new: Object) -> bool:
    return labels(old) != labels(new) or controller_of(old) is not None
