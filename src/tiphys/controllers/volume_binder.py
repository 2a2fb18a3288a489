"""persistentvolume-binder-controller: brings claims and volumes together, and follows volumes to their end.

Keys are "claim/NAMESPACE/NAME", "volume/NAME", and "class/NAME": a look at all claims of a class that wait, because
there is a volume or a rule that may help them. Nothing is repeated by the clock: what a claim waits for is told by its
class, its pods, and volumes that become available. Source: "Persistent Volumes" in the documentation.
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.base.errors import NotFound, Permanent
from tiphys.client.events import WARNING
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import annotations_of, name, spec, status, uid
from tiphys.controllers.volume_binder_state import (
    AssignClass,
    Bind,
    ClaimPhase,
    Do,
    Refuse,
    Step,
    Tell,
    VolumePhase,
    decide_claim,
    decide_volume,
    keeps_phase,
)
from tiphys.controllers.volume_binding import (
    bound_claim,
    bound_volume,
    migrated_claim,
    migrated_volume,
    unbound_volume,
)
from tiphys.controllers.volume_matching import FreeVolumes, best_match, pair
from tiphys.controllers.volume_provisioner import Provisioner
from tiphys.controllers.volume_reclaimer import Reclaimer
from tiphys.controllers.volume_store import BY_CLAIM, BY_VOLUME, WAITING, VolumeStore
from tiphys.controllers.volumes import (
    AVAILABLE,
    BIND_COMPLETED,
    BOUND,
    LOST,
    RECYCLE,
    claim_key,
    claim_ref,
    claims_of,
    class_of_claim,
    class_of_volume,
    default_class,
    is_default_class,
    terminated,
    waits_for_consumer,
)


class VolumeBinderController(Controller):
    name = "persistentvolume-binder-controller"
    account = "persistent-volume-binder"
    component = "persistentvolume-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.store = VolumeStore(self.client, self.recorder)
        self._classes = self.watch(STORAGE_CLASSES)
        self._pods = self.watch(PODS)
        self._pods.add_index("claims", claims_of)
        again = self._look_again
        self._reclaimer = Reclaimer(self.store, self._pods, context.settings, again)
        self._provisioner = Provisioner(self.store, context.settings)
        self._held: dict[str, str] = {}
        """Volumes that are being bound or promised, by name, with the key of the claim."""
        self.watch(PERSISTENT_VOLUMES).subscribe(self._volume_changed)
        self.watch(PERSISTENT_VOLUME_CLAIMS).subscribe(self._claim_changed)
        self._classes.subscribe(self._class_changed)
        self._pods.subscribe(self._pod_changed)

    async def background(self) -> None:
        await self._reclaimer.run()

    async def reconcile(self, key: str) -> Result | None:
        kind, _, rest = key.partition("/")
        if kind == "claim":
            await self._sync_claim(rest)
        elif kind == "volume":
            await self._sync_volume(rest)
        else:
            self._sync_class(rest)
        return None

    # What a decision asks for (volume_binder_state.View).

    def volume(self, name: str) -> Object | None:
        return self.store.volumes.by_key(name)

    def match(self, claim: Object, *, delayed: bool) -> Object | None:
        key = key_of(claim)
        kept = self.store.volumes.by_index(BY_CLAIM, key)
        free = FreeVolumes() if delayed else self.store.volumes.free
        return best_match(claim, kept, free, lambda volume: self._held.get(volume, key) == key)

    def storage_class(self, name: str) -> Object | None:
        return self._classes.by_key(name)

    def default_class(self) -> Object | None:
        return default_class(self._classes.list())

    def waiting_pods(self, claim: Object) -> Sequence[str]:
        pods = self._pods.by_index("claims", key_of(claim))
        return sorted(name(pod) for pod in pods if not spec(pod).get("nodeName") and not terminated(pod))

    # Changes that make keys.

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        volume = new or old
        if volume is None:
            return
        self.queue.add(f"volume/{name(volume)}")
        if new is None:
            self.store.volumes.drop(volume)
            self.store.forget(volume)
        else:
            self.store.volumes.put(new)
            if claim_ref(new) is None and status(new).get("phase") == AVAILABLE:
                self.queue.add(f"class/{class_of_volume(new)}")
        for key in {claim_key(each) for each in (old, new) if each is not None and claim_ref(each)}:
            self.queue.add(f"claim/{key}")
        for claim in self.store.claims.by_index(BY_VOLUME, name(volume)):
            self.queue.add(f"claim/{key_of(claim)}")

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        claim = new or old
        if claim is None:
            return
        key = key_of(claim)
        if new is None:
            self.store.claims.drop(claim)
            self.store.forget(claim)
        else:
            self.store.claims.put(new)
            self.queue.add(f"claim/{key}")
        named = spec(claim).get("volumeName")
        if named:
            self.queue.add(f"volume/{named}")
        for volume in self.store.volumes.by_index(BY_CLAIM, key):
            self.queue.add(f"volume/{name(volume)}")

    def _class_changed(self, old: Object | None, new: Object | None) -> None:
        """Claims that wait for the class, and those that wait for a default one."""
        changed = new or old
        if changed is None:
            return
        waiting = self.store.claims.by_index(WAITING, name(changed))
        if new is not None and is_default_class(new):
            waiting += self.store.claims.by_index(WAITING, "")
        for claim in waiting:
            self.queue.add(f"claim/{key_of(claim)}")

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Claims that wait for a consumer, and volumes that wait until nobody uses them."""
        for key in {key for pod in (old, new) if pod is not None for key in claims_of(pod)}:
            claim = self.store.claims.by_key(key)
            if claim is not None and BIND_COMPLETED not in annotations_of(claim):
                self.queue.add(f"claim/{key}")
            for volume in self.store.volumes.by_index(BY_CLAIM, key):
                if keeps_phase(volume) and spec(volume).get("persistentVolumeReclaimPolicy") == RECYCLE:
                    self.queue.add(f"volume/{name(volume)}")

    def _look_again(self, volume: str, seconds: float) -> None:
        self.queue.add_after(f"volume/{volume}", seconds)

    # The work.

    def _sync_class(self, storage_class: str) -> None:
        """Promise volumes of the class to claims that wait, and wake these."""
        if waits_for_consumer(self._classes.by_key(storage_class)):
            return
        busy = set(self._held.values())
        waiting = (each for each in self.store.claims.by_index(WAITING, storage_class) if self._idle(each, busy))
        free = self.store.volumes.free
        for claim, volume in pair(waiting, free, storage_class, lambda each: each not in self._held):
            self._held[volume] = key_of(claim)
            self.queue.add(f"claim/{key_of(claim)}")

    def _idle(self, claim: Object, busy: set[str]) -> bool:
        """Whether nothing goes on about the claim; one that failed comes back by itself."""
        key = key_of(claim)
        return key not in busy and not self.queue.failures(f"claim/{key}")

    def _let_go(self, key: str) -> None:
        """The claim's turn is over: what it held and did not take is for others."""
        for volume in [volume for volume, holder in self._held.items() if holder == key]:
            del self._held[volume]
            current = self.store.volumes.by_key(volume)
            if current is not None and volume in self.store.volumes.free:
                self.queue.add(f"class/{class_of_volume(current)}")

    async def _sync_claim(self, key: str) -> None:
        claim = self.store.claims.by_key(key)
        try:
            if claim is not None:
                moved = migrated_claim(claim)
                if moved is not None:
                    claim = await self.store.update_claim(moved)
                for step in decide_claim(claim, self):
                    await self._for_claim(step, claim)
        finally:
            self._let_go(key)

    async def _for_claim(self, step: Step, claim: Object) -> None:
        match step:
            case Bind(volume):
                await self._bind(volume, claim)
            case ClaimPhase():
                await self._set_claim_phase(step, claim)
            case AssignClass(storage_class):
                await self.store.update_claim({**claim, "spec": {**spec(claim), "storageClassName": storage_class}})
            case Do.PROVISION:
                await self._provisioner.provision(claim, self._classes.by_key(class_of_claim(claim)))
            case Tell(about, type, reason, message):
                self.store.tell(about, type, reason, message)
            case Refuse(message):
                raise Permanent(message)
            case _:
                raise AssertionError(f"no step for a claim: {step}")

    async def _set_claim_phase(self, step: ClaimPhase, claim: Object) -> None:
        if step.reason and status(claim).get("phase") == step.phase:
            return
        if step.phase == LOST and await self._volume_exists(claim):
            return  # the cache is behind; the volume's arrival brings the claim back
        claim = await self.store.set_claim_phase(claim, step.phase)
        if step.reason:
            self.recorder.event(claim, WARNING, step.reason, step.message)

    async def _volume_exists(self, claim: Object) -> bool:
        """Whether the server has the volume that a claim names and the cache has not."""
        named = spec(claim).get("volumeName")
        if not named or self.store.volumes.by_key(named) is not None:
            return False
        try:
            self.store.volumes.put(await self.client.get(PERSISTENT_VOLUMES, named))
        except NotFound:
            return False
        return True

    async def _bind(self, volume: Object, claim: Object) -> None:
        """Write the volume, then the claim; each only if something is missing."""
        self._held[name(volume)] = key_of(claim)
        chosen = bound_volume(volume, claim)
        if chosen is not None:
            volume = await self.store.update_volume(chosen)
        volume = await self.store.set_volume_phase(volume, BOUND)
        complete = bound_claim(claim, volume)
        if complete is not None:
            claim = await self.store.update_claim(complete)
        await self.store.set_claim_phase(claim, BOUND, volume)
        self.store.forget(claim)

    async def _sync_volume(self, key: str) -> None:
        volume = self.store.volumes.by_key(key)
        if volume is None:
            return
        moved = migrated_volume(volume)
        if moved is not None:
            volume = await self.store.update_volume(moved)
        for step in decide_volume(volume, await self._owner(volume)):
            await self._for_volume(step, volume)

    async def _for_volume(self, step: Step, volume: Object) -> None:
        match step:
            case VolumePhase(phase):
                await self.store.set_volume_phase(volume, phase)
            case Do.RECLAIM:
                await self._reclaimer.reclaim(volume)
            case Do.UNBIND:
                free = await self.store.update_volume(unbound_volume(volume))
                await self.store.set_volume_phase(free, AVAILABLE)
            case Do.ASK_CLAIM:
                self.queue.add(f"claim/{claim_key(volume)}")
            case Tell(about, type, reason, message):
                self.store.tell(about, type, reason, message)
            case _:
                raise AssertionError(f"no step for a volume: {step}")

    async def _owner(self, volume: Object) -> Object | None:
        """The claim that the volume belongs to. That it has gone is believed only of the server: data are at stake."""
        ref = claim_ref(volume) or {}
        if not ref.get("uid"):
            return None
        if not ref.get("name") or not ref.get("namespace"):
            raise Permanent(f"volume {name(volume)} refers to a claim without a name or a namespace")
        claim = self.store.claims.by_key(claim_key(volume))
        if claim is not None and uid(claim) == ref["uid"]:
            return claim
        if claim is None and keeps_phase(volume):
            return None
        try:
            current = await self.client.get(PERSISTENT_VOLUME_CLAIMS, str(ref["name"]), str(ref["namespace"]))
        except NotFound:
            return None
        return current if uid(current) == ref["uid"] else None
