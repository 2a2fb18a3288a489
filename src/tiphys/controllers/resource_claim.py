"""Makes ResourceClaims from the templates that pods name, and takes them back when their pods are done."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from tiphys.base.errors import ApiError, NotFound, Retry
from tiphys.client.events import WARNING
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from tiphys.client.types import APPLY_PATCH, Object
from tiphys.controllers import resource_claims as rules
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, finalizers, name, namespace, spec, status, uid

_POD, _CLAIM = "pod ", "claim "
_MANAGER = "ResourceClaimController"
_REMEMBERED = 500


class ResourceClaimController(Controller):
    """Keys are pods and claims, each after a word that says which."""

    name = "resourceclaim-controller"
    account = "resource-claim-controller"
    component = "resource_claim"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._made: dict[str, Object] = {}
        self._pods = self.watch(PODS)
        self._pods.add_index("resource claims", rules.claim_keys)
        self._pods.add_index("resource claim templates", rules.template_keys)
        self._claims = self.watch(RESOURCE_CLAIMS)
        self._claims.add_index("pod", rules.owner_keys)
        self._templates = self.watch(RESOURCE_CLAIM_TEMPLATES)
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)
        self._templates.subscribe(self._template_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old
        if pod is None or not (rules.claims_of(pod) or rules.extended_claim(pod)):
            return
        if new is None:
            self._remember_gone(uid(pod))
        if new is None or rules.done(pod):
            for key in rules.claim_keys(pod):
                self.queue.add(_CLAIM + key)
            if extended := rules.extended_claim(pod):
                self.queue.add(f"{_CLAIM}{namespace(pod)}/{extended}")
        if new is not None and rules.needs_work(new, self._claims.get):
            self.queue.add(_POD + key_of(new))

    def _remember_gone(self, identity: str) -> None:
        self._gone[identity] = None
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        claim = new or old
        if claim is None:
            return
        self._made.pop(uid(claim), None)
        if new is not None:
            self.queue.add(_CLAIM + key_of(claim))
        for pod in self._pods.by_index("resource claims", key_of(claim)):
            self._pod_changed(None, pod)

    def _template_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            for pod in self._pods.by_index("resource claim templates", key_of(new)):
                self._pod_changed(None, pod)

    async def reconcile(self, key: str) -> Result | None:
        kind, _, rest = key.partition(" ")
        if kind == _POD.strip():
            pod = self._pods.by_key(rest)
            if pod is not None and not (deleting(pod) or rules.done(pod)):
                await self._provide(pod)
        else:
            claim = self._claims.by_key(rest)
            if claim is not None:
                await self._check(claim)
        return None

    async def _provide(self, pod: Object) -> None:
        """Make the claims that `pod` lacks; reserve those of a pod that no scheduler has placed."""
        made: dict[str, str] = {}
        for entry in rules.claims_of(pod):
            try:
                claim = await self._claim_for(pod, entry)
            except (ApiError, Retry) as error:
                message = f"PodResourceClaim {entry.get('name')}: {error}"
                self.recorder.event(pod, WARNING, "FailedResourceClaimCreation", message)
                raise Retry(f"pod {key_of(pod)}, {message}") from error
            if claim is not None:
                made[str(entry["name"])] = name(claim)
        if made:
            await self._record(pod, made)
        if spec(pod).get("nodeName"):
            await self._reserve(pod)

    async def _claim_for(self, pod: Object, entry: Mapping[str, Any]) -> Object | None:
        """The claim that is to be noted for an entry; None if there is nothing to do. Raises ApiError, Retry."""
        known = rules.named(pod, entry)
        if known is None:
            where = f'pod "{key_of(pod)}", spec.resourceClaim "{entry.get("name")}"'
            raise Retry(f"checking for claim before creating it: {where}: none of the supported fields are set")
        if known.needless or not known.generated:
            return None
        noted = self._claims.get(namespace(pod), known.name) if known.name else None
        if noted is not None and rules.is_for(pod, noted):
            return None
        present = [*self._claims.by_index("pod", uid(pod)), *self._made.values()]
        found = rules.made_for(str(entry["name"]), [each for each in present if rules.is_for(pod, each)])
        return found or await self._create(pod, entry)

    async def _create(self, pod: Object, entry: Mapping[str, Any]) -> Object:
        wanted = str(entry["resourceClaimTemplateName"])
        template = self._templates.get(namespace(pod), wanted)
        if template is None:
            missing = f'resourceclaimtemplate.resource.k8s.io "{wanted}" not found'
            raise Retry(f'resource claim template "{wanted}": {missing}')
        try:
            claim = await self.client.create(RESOURCE_CLAIMS, rules.new_claim(pod, entry, template))
        except ApiError as error:
            raise Retry(f"create ResourceClaim : {error}") from error
        if self._claims.by_key(key_of(claim)) is None:
            self._made[uid(claim)] = claim
        return claim

    async def _record(self, pod: Object, made: Mapping[str, str]) -> None:
        patch = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name(pod), "namespace": namespace(pod), "uid": uid(pod)},
            "status": {"resourceClaimStatuses": rules.claim_statuses(pod, made)},
        }
        await self.client.patch(
            PODS,
            name(pod),
            patch,
            namespace(pod),
            type=APPLY_PATCH,
            subresource="status",
            field_manager=_MANAGER,
            force=True,
        )

    async def _reserve(self, pod: Object) -> None:
        for entry in rules.claims_of(pod):
            known = rules.named(pod, entry)
            claim = self._claims.get(namespace(pod), known.name) if known and known.name else None
            if known is None or claim is None or (known.generated and not rules.is_for(pod, claim)):
                continue
            if rules.to_reserve(pod, claim):
                consumer = {"resource": "pods", "name": name(pod), "uid": uid(pod)}
                reserved = [*(status(claim).get("reservedFor") or ()), consumer]
                await self._put_status(claim, {**status(claim), "reservedFor": reserved})

    async def _check(self, claim: Object) -> None:
        """Take out consumers that are done; free and delete what nobody needs."""
        gone = frozenset([str(each.get("uid")) for each in _pods_of(claim) if await self._is_gone(claim, each)])
        changed = rules.released(claim, gone)
        remaining = (changed if changed is not None else status(claim)).get("reservedFor") or ()
        if changed is not None:
            claim = await self._put_status(claim, changed)
            if rules.FINALIZER in finalizers(claim) and not status(claim).get("allocation"):
                claim = await self.client.update(RESOURCE_CLAIMS, rules.unprotected(claim))
        elif rules.FINALIZER in finalizers(claim) and deleting(claim) and not remaining:
            if status(claim).get("allocation"):
                kept = {each: value for each, value in status(claim).items() if each != "allocation"}
                claim = await self._put_status(claim, kept)
            claim = await self.client.update(RESOURCE_CLAIMS, rules.unprotected(claim))
        if not remaining:
            await self._delete_if_useless(claim)

    async def _put_status(self, claim: Object, changed: Mapping[str, Any]) -> Object:
        return await self.client.update(RESOURCE_CLAIMS, {**claim, "status": changed}, subresource="status")

    async def _is_gone(self, claim: Object, consumer: Mapping[str, Any]) -> bool:
        """Whether a pod that the claim is reserved for needs it no more. One that the cache does not know is looked up
        at the server: the scheduler may be ahead of our cache."""
        identity = str(consumer.get("uid"))
        if identity in self._gone:
            return True
        pod = self._pods.get(namespace(claim), str(consumer.get("name")))
        if pod is not None:
            return uid(pod) != identity or rules.done(pod)
        try:
            found = await self.client.get(PODS, str(consumer.get("name")), namespace(claim))
        except NotFound:
            return True
        return uid(found) != identity

    async def _delete_if_useless(self, claim: Object) -> None:
        """Delete a claim that was made for a pod which will not run; without the pod garbage collection does it."""
        owner = rules.owning_pod(claim)
        pod = self._pods.get(namespace(claim), owner[0]) if owner else None
        if owner is None or pod is None or deleting(claim):
            return
        if uid(pod) != owner[1] or rules.done(pod):
            try:
                await self.client.delete(RESOURCE_CLAIMS, name(claim), namespace(claim))
            except NotFound:
                return


def _pods_of(claim: Object) -> list[Mapping[str, Any]]:
    consumers = status(claim).get("reservedFor") or ()
    return [each for each in consumers if not each.get("apiGroup") and each.get("resource") == "pods"]
