"""Attaches volumes to the nodes whose pods need them, and detaches them when nobody there does.

For CSI volumes that is a VolumeAttachment each: the driver's external attacher does the work and says so in its
status. What is attached stands in the node's status, which its kubelet waits for; before a volume is detached it is
taken from there, and the kubelet's list of what it uses is read again. After a restart all is worked out anew from
the statuses of nodes and from the VolumeAttachments.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from tiphys.base.errors import AlreadyExists, ApiError, NotFound
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import index_by_field, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import (
    CSI_DRIVERS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
)
from tiphys.client.types import Object
from tiphys.controllers.attach_rules import (
    Attach,
    Contest,
    Detach,
    Health,
    Look,
    Outcome,
    Policy,
    Step,
    attach_outcome,
    attached_message,
    contest_message,
    decide,
    detach_outcome,
    failed_message,
    touch,
)
from tiphys.controllers.attach_volumes import (
    CSI,
    Unresolved,
    Volume,
    attachment_object,
    claim_keys,
    claim_names,
    managed,
    may_attach,
    of_persistent_volume,
    resolve,
    skips_attach,
    volumes_in_use,
    wants_volumes,
)
from tiphys.controllers.attach_world import ATTACH, DETACH, Operation, World
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import name, spec, status, uid

log = logging.getLogger(__name__)

_POD, _NODE, _VOLUME = "pod ", "node ", "volume "


class AttachDetachController(Controller):
    """Keys are pods, nodes and volumes, each after a word that says which."""

    name = "persistentvolume-attach-detach-controller"
    account = "attachdetach-controller"
    component = "attachdetach-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._world = World()
        self._recovered = False
        self._owners: dict[str, str] = {}
        self._policy = Policy(not context.settings.get("disable-force-detach-on-timeout"))
        self._pods = self.watch(PODS)
        self._pods.add_index("claim", claim_keys)
        self._pods.add_index("node", index_by_field("spec", "nodeName"))
        self._nodes = self.watch(NODES)
        self._claims = self.watch(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = self.watch(PERSISTENT_VOLUMES)
        self._drivers = self.watch(CSI_DRIVERS)
        self._attachments = self.watch(VOLUME_ATTACHMENTS)
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)
        self._claims.subscribe(self._claim_changed)
        self._volumes.subscribe(self._volume_changed)
        self._drivers.subscribe(self._driver_changed)
        self._attachments.subscribe(self._attachment_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old
        if pod is not None and spec(pod).get("nodeName") and may_attach(pod):
            self.queue.add(_POD + key_of(pod))

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        node = new or old
        if node is None:
            return
        if old is None and name(node) in self._world.reports:
            self._world.outdated.add(name(node))  # it registered anew, and its status may have been lost
        known = self._world.in_use.get(name(node))
        differs = known is not None and known != volumes_in_use(node)
        if old is None or new is None or differs or _facts(old) != _facts(new):
            self.queue.add(_NODE + name(node))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        claim = new or old
        if claim is not None:
            self._examine_users(key_of(claim))

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        volume = new or old
        if volume is not None and (reference := spec(volume).get("claimRef")):
            self._examine_users(f"{reference.get('namespace')}/{reference.get('name')}")

    def _driver_changed(self, old: Object | None, new: Object | None) -> None:
        if skips_attach(old) != skips_attach(new):
            for pod in self._pods.list():
                if any(claim_keys(pod)):
                    self._pod_changed(None, pod)

    def _attachment_changed(self, old: Object | None, new: Object | None) -> None:
        attachment = new or old
        if attachment is not None and (unique := self._owners.get(name(attachment))):
            self.queue.add(_VOLUME + unique)

    def _examine_users(self, claim: str) -> None:
        for pod in self._pods.by_index("claim", claim):
            self._pod_changed(None, pod)

    async def background(self) -> None:
        """What is attached to nodes that do not exist has to be looked at as well."""
        for attachment in self._attachments.list():
            self.queue.add(_NODE + str(spec(attachment).get("nodeName") or ""))

    async def reconcile(self, key: str) -> Result | None:
        if not self._recovered:
            self._recovered = True
            self._recover()
        kind, _, rest = key.partition(" ")
        if kind == _POD.strip():
            self._examine(rest)
        elif kind == _NODE.strip():
            await self._look_at_node(rest)
        else:
            return await self._settle(rest)
        return None

    def _recover(self) -> None:
        """Take over what statuses and VolumeAttachments tell."""
        world = self._world
        for node in self._nodes.list():
            for entry in status(node).get("volumesAttached") or ():
                self._mark(Volume.recalled(str(entry.get("name") or "")), name(node), confirmed=True)
            world.uses(name(node), volumes_in_use(node))
            if managed(node):
                world.managed.add(name(node))
        world.outdated.clear()
        for attachment in self._attachments.list():
            source = (spec(attachment).get("source") or {}).get("persistentVolumeName")
            persistent = self._volumes.get("", source) if source else None
            volume = of_persistent_volume(persistent) if persistent is not None else None
            node_name = str(spec(attachment).get("nodeName") or "")
            if volume is not None and node_name not in world.attached.get(volume.unique, {}):
                self._mark(volume, node_name, confirmed=False)
        for pod in self._pods.list():
            self._examine(key_of(pod))
        self._enqueue_volumes(world.attached)

    def _examine(self, key: str) -> None:
        """Work out what one pod needs."""
        world = self._world
        pod = self._pods.by_key(key)
        if pod is None or not wants_volumes(pod):
            self._enqueue_volumes(world.release(key))
            return
        node = str(spec(pod)["nodeName"])
        if node not in world.managed:
            return
        found, doubtful = {}, False
        for source, claim in claim_names(pod):
            try:
                volume = resolve(pod, source, claim, self._claims.get, self._volumes.get)
            except Unresolved:
                doubtful = True
                continue
            if volume is not None and not skips_attach(self._drivers.get("", volume.driver)):
                found[volume.unique] = volume
        self._enqueue_volumes(world.want(key, pod, node, found, doubtful))

    async def _look_at_node(self, key: str) -> None:
        """Learn what a node uses, and write down what is attached to it."""
        world = self._world
        node = self._nodes.by_key(key)
        if node is not None:
            world.uses(key, volumes_in_use(node))
            if managed(node) and key not in world.managed:
                world.managed.add(key)
                for pod in self._pods.by_index("node", key):
                    self._pod_changed(None, pod)
            if key in world.outdated:
                await self._publish(node)
        else:
            world.outdated.discard(key)
            self._forget(key)
        self._enqueue_volumes(world.volumes_at(key))

    async def _publish(self, node: Object) -> None:
        """Make the node's status say what is attached. Raises ApiError."""
        world, key = self._world, name(node)
        reported = frozenset(world.reports.get(key, ()))
        present = status(node).get("volumesAttached") or ()
        if reported != {each.get("name") for each in present}:
            listed = [{"name": unique, "devicePath": ""} for unique in sorted(reported)]
            try:
                patch = {"status": {"volumesAttached": listed or None}}
                await self.client.patch(NODES, key, patch, subresource="status")
            except NotFound:
                log.debug("node %s has gone; its status is not needed", key)
        if reported == world.reports.get(key, set()):
            world.outdated.discard(key)
        else:
            self.queue.add(_NODE + key)

    def _forget(self, node: str) -> None:
        if not self._world.has_work(node):
            self._world.managed.discard(node)
            if not self._world.volumes_at(node):
                self._world.forget_node(node)

    async def _settle(self, unique: str) -> Result | None:
        """Bring one volume where it is needed, as far as that is possible now."""
        looks = [after for each in self._world.pending(unique) if (after := self._follow(each))]
        now = self.clock.monotonic()
        self._verify(unique)
        touch(self._world, unique, now)
        nodes = {*self._world.wanted.get(unique, ()), *self._world.attached.get(unique, ())}
        health = {node: Health.of(self._nodes.get("", node)) for node in nodes}
        for step in decide(self._world, unique, health, now, self._policy):
            looks += [after] if (after := await self._carry_out(unique, step)) else []
        self._report(unique)
        for node in nodes:
            if self._nodes.get("", node) is None:
                self._forget(node)
        return Result(min(looks)) if looks else None

    def _verify(self, unique: str) -> None:
        """Forget attachments that somebody else undid, and learn the name of those that only statuses told of."""
        for node, attachment in list(self._world.attached.get(unique, {}).items()):
            operation = self._world.operation(attachment.volume, node)
            if operation is not None and operation.pending:
                continue
            if want := self._world.wanted.get(unique, {}).get(node):
                attachment.volume = want.volume
            volume = attachment.volume
            if not attachment.confirmed or not volume.persistent_volume:
                continue
            if skips_attach(self._drivers.get("", volume.driver)) or not volume.by_driver:
                continue
            held = self._attachments.get("", volume.attachment(node))
            if held is None or not status(held).get("attached"):
                self._unmark(volume, node)

    def _report(self, unique: str) -> None:
        """Nodes may use what is attached and not about to be detached."""
        wanted = self._world.wanted.get(unique, {})
        for node, attachment in self._world.attached.get(unique, {}).items():
            operation = self._world.operation(attachment.volume, node)
            detaching = operation is not None and operation.kind == DETACH and operation.pending
            if node in wanted and attachment.confirmed and not detaching:
                self._world.report(node, unique)
        for node in self._world.outdated:
            self.queue.add(_NODE + node)

    async def _carry_out(self, unique: str, step: Step) -> float:
        """Returns the seconds after which to look again; 0 for none."""
        match step:
            case Look(after):
                return after
            case Contest(node, others):
                self._tell_contest(unique, node, others)
                return 0.0
            case Attach(node, volume):
                return await self._attach(volume, node)
            case Detach(node, volume, verify):
                return await self._detach(volume, node, verify)

    def _tell_contest(self, unique: str, node: str, others: Iterable[str]) -> None:
        wanted = self._world.wanted[unique]
        holders = [pod for other in others if other in wanted for pod in wanted[other].pods.values()]
        wanted[node].contested = True
        for pod in wanted[node].pods.values():
            self.recorder.event(pod, WARNING, "FailedAttachVolume", contest_message(wanted[node].volume, pod, holders))

    async def _attach(self, volume: Volume, node: str) -> float:
        operation = self._world.begin(ATTACH, volume, node, self.clock.monotonic())
        if not volume.by_driver:
            self._attached(operation)
            return 0.0
        self._owners[volume.attachment(node)] = volume.unique
        if self._attachments.get("", volume.attachment(node)) is None:
            try:
                await self.client.create(VOLUME_ATTACHMENTS, attachment_object(volume, node))
            except AlreadyExists:
                log.debug("%s is attached to %s already; the cache is behind", volume.unique, node)
            except ApiError as error:
                return self._failed(operation, f"{CSI}: attacher.Attach failed: {error}")
        return self._follow(operation)

    async def _detach(self, volume: Volume, node: str, verify: bool) -> float:
        self._world.withhold(node, volume.unique)
        if node in self._world.outdated:
            return 0.0  # the node's turn comes first: its kubelet must not take it for attached any more
        operation = self._world.begin(DETACH, volume, node, self.clock.monotonic())
        try:
            if verify and await self._in_use(volume, node):
                return self._failed(operation, "volume is still in use by node, according to Node status")
            if volume.by_driver:
                self._owners[volume.attachment(node)] = volume.unique
                await self.client.delete(VOLUME_ATTACHMENTS, volume.attachment(node))
                return self._follow(operation)
        except NotFound:
            log.debug("%s was detached from %s already", volume.unique, node)
        except ApiError as error:
            return self._failed(operation, str(error))
        self._detached(operation)
        return 0.0

    async def _in_use(self, volume: Volume, node: str) -> bool:
        """Whether the node uses it by what the server knows, not the cache. Raises ApiError."""
        try:
            return volume.unique in volumes_in_use(await self.client.get(NODES, node))
        except NotFound:
            return False

    def _follow(self, operation: Operation) -> float:
        """See how an operation stands, and end it if it has ended; returns when to look again."""
        volume, node = operation.volume, operation.node
        attachment = self._attachments.get("", volume.attachment(node))
        judge = attach_outcome if operation.kind == ATTACH else detach_outcome
        outcome: Outcome = judge(attachment, volume, operation.started, self.clock.monotonic())
        if outcome.error:
            return self._failed(operation, outcome.error)
        if not outcome.done:
            return outcome.after
        if operation.kind == ATTACH:
            self._attached(operation)
        else:
            self._detached(operation)
        return 0.0

    def _attached(self, operation: Operation) -> None:
        self._world.succeed(operation)
        self._mark(operation.volume, operation.node, confirmed=True)
        self._tell(operation, NORMAL, "SuccessfulAttachVolume", attached_message(operation.volume))
        self.queue.add(_VOLUME + operation.volume.unique)

    def _detached(self, operation: Operation) -> None:
        self._world.succeed(operation)
        self._unmark(operation.volume, operation.node)
        self.queue.add(_VOLUME + operation.volume.unique)

    def _failed(self, operation: Operation, error: str) -> float:
        """Nobody knows how far it went: to be tried again, later each time."""
        now = self.clock.monotonic()
        self._world.fail(operation, now)
        self._mark(operation.volume, operation.node, confirmed=False)
        if operation.kind == ATTACH:
            self._tell(operation, WARNING, "FailedAttachVolume", failed_message(operation.volume, error))
        log.info("%s %s at %s failed: %s", operation.kind, operation.volume.unique, operation.node, error)
        again = self._world.operation(operation.volume, operation.node)
        return max(again.again - now, 0.001) if again else 0.0

    def _tell(self, operation: Operation, type: str, reason: str, message: str) -> None:
        want = self._world.wanted.get(operation.volume.unique, {}).get(operation.node)
        for pod in want.pods.values() if want else ():
            self.recorder.event(pod, type, reason, message)

    def _mark(self, volume: Volume, node: str, *, confirmed: bool) -> None:
        self._world.mark(volume, node, confirmed=confirmed)
        if volume.by_driver:
            self._owners[volume.attachment(node)] = volume.unique

    def _unmark(self, volume: Volume, node: str) -> None:
        self._world.unmark(volume.unique, node)
        self._owners.pop(volume.attachment(node), None)

    def _enqueue_volumes(self, names: Iterable[str]) -> None:
        for unique in names:
            self.queue.add(_VOLUME + unique)


def _facts(node: Object | None) -> tuple[object, ...]:
    """What matters of a node."""
    return (node and (uid(node), volumes_in_use(node), Health.of(node), managed(node)),)
