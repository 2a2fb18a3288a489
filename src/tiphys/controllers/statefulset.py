"""The StatefulSet controller: the shell that feeds `statefulset_state` and has its plans carried out.

It keeps the history of templates as ControllerRevisions, adopts and releases pods, and writes the status. Until its
caches show the pods that it wrote itself it plans nothing for a set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tiphys.api import selectors
from tiphys.base.errors import AlreadyExists, NotFound
from tiphys.client.informer import index_by_owner, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from tiphys.client.types import Object
from tiphys.controllers import history, statefulset_claims, statefulset_history
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.claims import claim, settle
from tiphys.controllers.expectations import Expectations
from tiphys.controllers.objects import controller_of, deleting, int_of, labels, name, namespace, spec, status, uid
from tiphys.controllers.statefulset_control import StatefulPodControl
from tiphys.controllers.statefulset_pods import claim_templates, member, revision_of
from tiphys.controllers.statefulset_state import Revisions, inconsistent, next_check, plan


class StatefulSetController(Controller):
    """The shell; keys are StatefulSets."""

    name = "statefulset-controller"
    account = "statefulset-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._sets = self.watch(STATEFUL_SETS)
        self._pods = self.watch(PODS)
        self._claims = self.watch(PERSISTENT_VOLUME_CLAIMS)
        self._revisions = self.watch(CONTROLLER_REVISIONS)
        for informer in (self._pods, self._revisions):
            informer.add_index("owner", index_by_owner)
            informer.add_index("orphans", podlib.orphans_by_namespace)
        self._expectations = Expectations(self._pods, self.clock)
        self._control = StatefulPodControl(self.client, self.recorder, self._expectations)
        self._sets.subscribe(self.enqueue)
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)

    async def reconcile(self, key: str) -> Result | None:
        stateful_set = self._sets.by_key(key)
        if stateful_set is None:
            self._expectations.forget(key)
            return None
        if self.behind(key, stateful_set) or not self._expectations.satisfied(key):
            return None
        revisions = await self._owned_revisions(stateful_set)
        pods = await self._owned_pods(stateful_set)
        chosen, collisions = await self._sync_history(stateful_set, revisions)
        now = self.clock.time()
        claims = self._claims_of(stateful_set)
        made = plan(stateful_set, pods, claims, chosen, collisions, now)
        failure = await self._control.carry_out(key, stateful_set, made.stages)
        if inconsistent(stateful_set, made.status):
            await self.update_status(STATEFUL_SETS, stateful_set, made.status)
        await self._clean_history(stateful_set, pods, revisions, chosen)
        if failure is not None:
            raise failure
        return Result(next_check(stateful_set, pods, made.status, now))

    def _claims_of(self, stateful_set: Object) -> Mapping[str, Object]:
        """The claims of its namespace by name; none if it has no use for any."""
        found = self._claims.list(namespace(stateful_set)) if claim_templates(stateful_set) else ()
        return {name(each): each for each in found}

    async def _owned_pods(self, stateful_set: Object) -> Sequence[Object]:
        """Its pods after adoption and release; what is not named like them it does not touch."""
        selector = selectors.from_object(spec(stateful_set).get("selector"))
        orphans = self._pods.by_index("orphans", namespace(stateful_set))
        owned = self._pods.by_index("owner", uid(stateful_set))
        candidates = [pod for pod in orphans if member(stateful_set, pod)] + owned
        claims = claim(stateful_set, selector.matches, candidates)
        strangers = tuple(pod for pod in claims.owned if not member(stateful_set, pod))
        if strangers:
            own = tuple(pod for pod in claims.owned if member(stateful_set, pod))
            release = () if deleting(stateful_set) else (*claims.release, *strangers)
            claims = replace(claims, owned=own, release=release)
        return await settle(self.client, STATEFUL_SETS, stateful_set, PODS, claims)

    async def _owned_revisions(self, stateful_set: Object) -> list[Object]:
        """Its revisions in order, orphans adopted."""
        selector = selectors.from_object(spec(stateful_set).get("selector"))
        candidates = self._revisions.by_index("owner", uid(stateful_set))
        candidates += self._revisions.by_index("orphans", namespace(stateful_set))
        claims = replace(claim(stateful_set, selector.matches, candidates), release=())
        owned = await settle(self.client, STATEFUL_SETS, stateful_set, CONTROLLER_REVISIONS, claims)
        return statefulset_history.in_order(owned)

    async def _sync_history(self, stateful_set: Object, revisions: Sequence[Object]) -> tuple[Revisions, int]:
        """(the revisions before and after the update, how many names were taken)."""
        collisions = int_of(status(stateful_set).get("collisionCount"))
        choice = statefulset_history.choose(stateful_set, revisions)
        update = choice.update
        if choice.renumbered is not None:
            update = await self.client.update(CONTROLLER_REVISIONS, choice.renumbered)
        if update is None:
            update, collisions = await self._create_revision(stateful_set, choice.number, collisions)
        return Revisions(statefulset_history.current(stateful_set, revisions, update), update), collisions

    async def _create_revision(self, stateful_set: Object, number: int, collisions: int) -> tuple[Object, int]:
        while True:
            wanted = statefulset_history.snapshot(stateful_set, number, collisions)
            try:
                return await self.client.create(CONTROLLER_REVISIONS, wanted), collisions
            except AlreadyExists:
                held = await self.client.get(CONTROLLER_REVISIONS, name(wanted), namespace(wanted))
            if history.matches(stateful_set, held):
                return held, collisions
            collisions += 1

    async def _clean_history(
        self, stateful_set: Object, pods: Sequence[Object], revisions: Sequence[Object], chosen: Revisions
    ) -> None:
        live = {name(chosen.current), name(chosen.update), *map(revision_of, pods)}
        for revision in statefulset_history.removable(stateful_set, revisions, live):
            try:
                await self.client.delete(CONTROLLER_REVISIONS, name(revision), namespace(revision))
            except NotFound:
                continue

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            owner = controller_of(pod) if pod is not None else None
            if owner is not None and pod is not None and owner["kind"] == "StatefulSet":
                size = self._pods.count("owner", owner["uid"])
                self.enqueue_owner(f"{namespace(pod)}/{owner['name']}", size)
        if new is not None and controller_of(new) is None and (old is None or _orphaned_or_relabelled(old, new)):
            for stateful_set in self._sets.list(namespace(new)):
                if selectors.from_object(spec(stateful_set).get("selector")).matches(labels(new)):
                    self.queue.add(key_of(stateful_set))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        """A claim that is gone lets its pod come back."""
        if new is None and old is not None:
            for stateful_set in self._sets.list(namespace(old)):
                if statefulset_claims.selects(stateful_set, old):
                    self.queue.add(key_of(stateful_set))


def _orphaned_or_relabelled(old: Object, new: Object) -> bool:
    return labels(old) != labels(new) or controller_of(old) is not None
