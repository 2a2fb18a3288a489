"""The HorizontalPodAutoscaler controller: every 15 seconds a look at each autoscaler's metrics, and a new size.

While there is no autoscaler nothing is looked at. The numbers are made by `autoscaler_replicas` (what one metric
asks for) and `autoscaler_scaling` (how far the size may move); the shell asks, scales, and writes status and events.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tiphys.api import selectors
from tiphys.api.selectors import LabelSelector
from tiphys.base.errors import ApiError, Conflict
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import PODS
from tiphys.client.types import Object, Resource
from tiphys.controllers.autoscaler_metrics import Metrics
from tiphys.controllers.autoscaler_replicas import Conditions
from tiphys.controllers.autoscaler_scaling import Bounds, Memory, size
from tiphys.controllers.autoscaler_sources import Failed, Measured, Target, leading, measure
from tiphys.controllers.autoscaler_state import (
    ABLE,
    ACTIVE,
    LIMITED,
    TO_ZERO,
    Draft,
    forced,
    least_of,
    tolerances_of,
)
from tiphys.controllers.autoscaler_target import Scales, split_version
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import int_of, labels, name, namespace, spec, status

log = logging.getLogger(__name__)

HORIZONTAL_POD_AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers")

_ATTEMPTS = 5


class GivenUp(Exception):
    """No size for now; the status tells why."""


class HorizontalPodAutoscalerController(Controller):
    """The shell; keys are autoscalers. Settings are in seconds, under the names of upstream's flags."""

    name = "horizontal-pod-autoscaler-controller"
    account = "horizontal-pod-autoscaler"
    component = "horizontal-pod-autoscaler"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        settings = context.settings
        prefix = "horizontal-pod-autoscaler-"
        self._period = float(settings.get(f"{prefix}sync-period", 15.0))
        self._window = float(settings.get(f"{prefix}downscale-stabilization", 300.0))
        self._tolerance = float(settings.get(f"{prefix}tolerance", 0.1))
        self._initialization = float(settings.get(f"{prefix}cpu-initialization-period", 300.0))
        self._readiness_delay = float(settings.get(f"{prefix}initial-readiness-delay", 30.0))
        self._autoscalers = self.watch(HORIZONTAL_POD_AUTOSCALERS)
        self._pods = self.watch(PODS)
        self._scales = Scales(self.client)
        self._metrics = Metrics(self.client, self._scales)
        self._memories: dict[str, Memory] = {}
        self._selectors: dict[str, LabelSelector] = {}
        self._autoscalers.subscribe(self._changed)

    async def reconcile(self, key: str) -> Result | None:
        autoscaler = self._autoscalers.by_key(key)
        if autoscaler is None:
            self._memories.pop(key, None)
            self._selectors.pop(key, None)
            return None
        if not self.behind(key, autoscaler):
            draft = Draft.of(autoscaler, self.clock.time())
            try:
                await self._scale(key, draft)
            except GivenUp as error:
                log.debug("%s: %s", key, error)
            await self._write(draft)
        return Result(self._period)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        """A change waits for the next look, as upstream's does; only an end is seen to at once."""
        if new is None and old is not None:
            self.queue.add(key_of(old))
        elif new is not None:
            self.queue.add_after(key_of(new), self._period)

    async def _write(self, draft: Draft) -> None:
        if not draft.differs():
            return
        try:
            await self.update_status(HORIZONTAL_POD_AUTOSCALERS, draft.autoscaler, draft.status())
        except ApiError as error:
            self.recorder.event(draft.autoscaler, WARNING, "FailedUpdateStatus", str(error))

    async def _scale(self, key: str, draft: Draft) -> None:
        """One look, and what follows from it. Raises GivenUp."""
        autoscaler = draft.autoscaler
        resource, scale = await self._target(draft)
        draft.set(ABLE, "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale")
        current = int_of(spec(scale).get("replicas"))
        memory = self._memories.setdefault(key, Memory())
        memory.begin(current, draft.now)
        if current == 0:
            message = "scaling is disabled since the replica count of the target is zero"
            draft.set(ACTIVE, "False", "ScalingDisabled", message)
            draft.remove(TO_ZERO)
            draft.current, draft.desired, draft.metrics = 0, 0, ()
            return
        draft.current = current
        decided = forced(autoscaler, current)
        if decided is None:
            wanted, reason = await self._by_metrics(key, draft, scale, memory)
        else:
            wanted, reason = decided
            draft.metrics = ()
        if wanted != current:
            await self._resize(draft, resource, scale, wanted, reason)
            memory.changed(spec(autoscaler).get("behavior"), current, wanted, draft.now)
        draft.desired = wanted

    async def _target(self, draft: Draft) -> tuple[Resource, Object]:
        autoscaler = draft.autoscaler
        reference = spec(autoscaler).get("scaleTargetRef") or {}
        try:
            group, _ = split_version(reference.get("apiVersion") or "")
            kind, target = str(reference.get("kind") or ""), str(reference.get("name") or "")
            return await self._scales.find(group, kind, namespace(autoscaler), target)
        except (ApiError, OSError, ValueError) as error:
            self.recorder.event(autoscaler, WARNING, "FailedGetScale", str(error))
            message = f"the HPA controller was unable to get the target's current scale: {error}"
            draft.set(ABLE, "False", "FailedGetScale", message)
            raise GivenUp(message) from error

    async def _by_metrics(self, key: str, draft: Draft, scale: Object, memory: Memory) -> tuple[int, str]:
        """(the size that the metrics ask for within all bounds, why it is another one)."""
        autoscaler, current = draft.autoscaler, draft.current
        target = self._described(key, draft, scale)
        best = await self._measure_all(draft, target)
        reason = ""
        if best.replicas > current:
            reason = f"{best.name} above target"
        elif best.replicas < current:
            reason = "All metrics below target"
        bounds = Bounds(current, least_of(autoscaler), int_of(spec(autoscaler).get("maxReplicas")))
        behavior = spec(autoscaler).get("behavior")
        sizing = size(memory, behavior, bounds, best.replicas, self._window, draft.now)
        draft.set(ABLE, *sizing.able)
        draft.set(LIMITED, *sizing.limited)
        return sizing.replicas, reason

    async def _measure_all(self, draft: Draft, target: Target) -> Measured:
        """The metric that asks for most. Raises GivenUp if none can be had, or if one that cannot might ask for more
        than the others that would scale down."""
        autoscaler = draft.autoscaler
        sources = [each or {} for each in spec(autoscaler).get("metrics") or ()]
        given = Conditions(
            draft.now, self._initialization, self._readiness_delay, tolerances_of(autoscaler, self._tolerance)
        )
        found: list[Measured] = []
        failed: list[Failed] = []
        shown = []
        for source in sources:
            try:
                found.append(await measure(self._metrics, source, target, given))
                shown.append(found[-1].status)
            except Failed as error:
                self.recorder.event(autoscaler, WARNING, error.reason, error.why)
                failed.append(error)
                shown.append({"type": ""})
        draft.metrics = shown
        best = leading(found)
        if best is None or (failed and best.replicas < target.wanted):
            self._no_metrics(draft, failed, len(sources))
        assert best is not None, "no metrics were refused above"
        message = f"the HPA was able to successfully calculate a replica count from {best.name}"
        draft.set(ACTIVE, "True", "ValidMetricFound", message)
        return best

    def _no_metrics(self, draft: Draft, failed: Sequence[Failed], count: int) -> None:
        if not failed:
            raise GivenUp("there are no metrics")
        first = failed[0]
        message = f"the HPA was unable to compute the replica count: {first.why}"
        draft.set(ACTIVE, "False", first.reason, message)
        text = f"invalid metrics ({len(failed)} invalid out of {count}), first error is: {first}"
        self.recorder.event(draft.autoscaler, WARNING, "FailedComputeMetricsReplicas", text)
        raise GivenUp(text)

    def _described(self, key: str, draft: Draft, scale: Object) -> Target:
        """The target with its pods, which no other autoscaler may claim."""
        autoscaler = draft.autoscaler
        text = str(status(scale).get("selector") or "")
        if not text:
            self.recorder.event(autoscaler, WARNING, "SelectorRequired", "selector is required")
            draft.set(ACTIVE, "False", "InvalidSelector", "the HPA target's scale is missing a selector")
            self._refuse(draft, "selector is required")
        selector = self._selectors[key] = selectors.parse_labels(text)
        pods = [pod for pod in self._pods.list(namespace(autoscaler)) if selector.matches(labels(pod))]
        rivals = self._selecting(namespace(autoscaler), pods)
        if len(rivals) > 1:
            listed = " ".join(map(key_of, rivals))
            message = f"pods by selector {text} are controlled by multiple HPAs: [{listed}]"
            self.recorder.event(autoscaler, WARNING, "AmbiguousSelector", message)
            draft.set(ACTIVE, "False", "AmbiguousSelector", message)
            self._refuse(draft, message)
        wanted, present = int_of(spec(scale).get("replicas")), int_of(status(scale).get("replicas"))
        return Target(namespace(autoscaler), str(selector), pods, wanted, present)

    def _selecting(self, where: str, pods: Sequence[Object]) -> list[Object]:
        """The autoscalers whose targets some of `pods` belong to."""
        found = []
        for each in self._autoscalers.list(where):
            selector = self._selectors.get(key_of(each))
            if selector is not None and any(selector.matches(labels(pod)) for pod in pods):
                found.append(each)
        return found

    def _refuse(self, draft: Draft, message: str) -> None:
        draft.metrics = ()
        self.recorder.event(draft.autoscaler, WARNING, "FailedComputeMetricsReplicas", message)
        raise GivenUp(message)

    async def _resize(self, draft: Draft, resource: Resource, scale: Object, wanted: int, reason: str) -> None:
        autoscaler = draft.autoscaler
        try:
            await self._put(resource, scale, wanted)
        except (ApiError, OSError) as error:
            message = f"New size: {wanted}; reason: {reason}; error: {error}"
            self.recorder.event(autoscaler, WARNING, "FailedRescale", message)
            message = f"the HPA controller was unable to update the target scale: {error}"
            draft.set(ABLE, "False", "FailedUpdateScale", message)
            raise GivenUp(message) from error
        message = f"the HPA controller was able to update the target scale to {wanted}"
        draft.set(ABLE, "True", "SucceededRescale", message)
        draft.remove(TO_ZERO)
        draft.scaled = True
        self.recorder.event(autoscaler, NORMAL, "SuccessfulRescale", f"New size: {wanted}; reason: {reason}")

    async def _put(self, resource: Resource, scale: Object, wanted: int) -> None:
        """Set the size; a target that changed meanwhile is read again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._scales.replace(resource, {**scale, "spec": {**spec(scale), "replicas": wanted}})
            except Conflict:
                if attempt == _ATTEMPTS:
                    raise
                scale = await self._latest(resource, scale)
            else:
                return

    async def _latest(self, resource: Resource, scale: Object) -> Object:
        """The scale as it is now; as it was if that cannot be told."""
        try:
            return await self.client.get(resource, name(scale), namespace(scale), subresource="scale")
        except ApiError as error:
            log.debug("the latest scale of %s: %s", key_of(scale), error)
            return scale
