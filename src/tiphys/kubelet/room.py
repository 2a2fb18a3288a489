"""Making room for critical pods: ends the pods that preemption.py names and waits until they have ended."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from tiphys.client.events import EventRecorder
from tiphys.kubelet import events as ev
from tiphys.kubelet import preemption
from tiphys.kubelet.admission import Refusal, Verdict
from tiphys.kubelet.ending import PodEnder
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.podspec import Object, full_name, grace_seconds, uid_of

log = logging.getLogger(__name__)

_PATIENCE = 1.5
"""Of a pod's grace: so long its end is waited for, at least `_LEAST` seconds."""
_LEAST = 10.0


class Room:
    """Over the kubelet's workers."""

    def __init__(self, pods: PodEnder, recorder: EventRecorder, metrics: KubeletMetrics) -> None:
        self._pods = pods
        self._recorder = recorder
        self._metrics = metrics

    async def make(self, pod: Object, others: Iterable[Object], verdict: Verdict) -> Refusal | None:
        """None when the pod may run now."""
        try:
            victims = preemption.victims(pod, others, verdict.missing)
        except preemption.NoVictims as error:
            why = f"Unexpected error while attempting to recover from admission failure: {error}"
            return "UnexpectedAdmissionError", why
        for victim in victims:
            await self._preempt(victim, next(iter(verdict.missing)))
        return None

    async def _preempt(self, pod: Object, resource: str) -> None:
        log.info("preempting pod %s", full_name(pod))
        about = {"apiVersion": "v1", "kind": "Pod", **pod}
        self._recorder.event(about, "Warning", preemption.REASON, preemption.MESSAGE)
        grace = grace_seconds(pod)
        how = ev.Evicted(preemption.REASON, preemption.MESSAGE, grace, True, preemption.CONDITION)
        if self._pods.end(pod, how):
            self._metrics.preemptions.inc(resource)
            if not await self._pods.wait_ended([uid_of(pod)], max(_LEAST, grace * _PATIENCE)):
                log.warning("pod %s does not end in time", full_name(pod))
