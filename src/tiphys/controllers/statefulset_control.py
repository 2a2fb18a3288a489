"""Carries out the steps of a StatefulSet's plan: pods and claims are written, with the events that users look for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tiphys.base.errors import AlreadyExists, ApiError, Conflict, NotFound, Retry
from tiphys.client.events import NORMAL, WARNING, EventRecorder
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from tiphys.client.types import Client, Object
from tiphys.controllers.claims import check_alive
from tiphys.controllers.expectations import Expectations
from tiphys.controllers.objects import name, namespace, namespace_terminating, uid
from tiphys.controllers.podcontrol import Failure, in_growing_batches
from tiphys.controllers.statefulset_state import Step


class StatefulPodControl:
    """Does what `Step`s say, for one controller."""

    def __init__(self, client: Client, recorder: EventRecorder, expectations: Expectations) -> None:
        self._client = client
        self._recorder = recorder
        self._expectations = expectations

    async def carry_out(self, key: str, stateful_set: Object, stages: Sequence[Sequence[Step]]) -> Failure | None:
        """Stage after stage until one fails; returns the first failure."""
        for stage in stages:
            failure = await in_growing_batches([partial(self._step, key, stateful_set, step) for step in stage])
            if failure is not None:
                return failure
        return None

    async def _step(self, key: str, stateful_set: Object, step: Step) -> Failure | None:
        try:
            await self._create_claims(stateful_set, step)
            if step.verb == "create":
                await self._create(key, stateful_set, step.pod)
            await self._own_claims(stateful_set, step)
            if step.verb == "delete":
                await self._delete(key, step.pod)
            if step.verb == "update" and not step.same_pod:
                await self._client.update(PODS, step.pod)
        except (AlreadyExists, Conflict) as error:
            return error
        except (ApiError, OSError) as error:
            if namespace_terminating(error):
                return None
            self._pod_event(stateful_set, step, error)
            return error
        self._pod_event(stateful_set, step, None)
        return None

    async def _create_claims(self, stateful_set: Object, step: Step) -> None:
        failures: list[ApiError] = []
        for claim in step.new_claims:
            try:
                await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim, namespace(claim))
            except AlreadyExists:
                continue
            except ApiError as error:
                failures.append(_again(f"failed to create PVC {name(claim)}: {error}", error))
                self._claim_event(stateful_set, step.pod, claim, error)
            else:
                self._claim_event(stateful_set, step.pod, claim, None)
        failures += [ApiError(f"pvc {each} is being deleted") for each in step.blocked]
        if failures:
            texts = dict.fromkeys(map(str, failures))
            raise failures[0] if len(texts) == 1 else _again(f"[{', '.join(texts)}]", failures[0])

    async def _own_claims(self, stateful_set: Object, step: Step) -> None:
        for each in step.disputed:
            message = (
                f"PersistentVolumeClaim {each} has a conflicting OwnerReference that acts as a manging controller, "
                "the retention policy is ignored for this claim"
            )
            self._recorder.event(stateful_set, WARNING, "ConflictingController", message)
        if step.owned_claims:
            await self._check_alive(stateful_set)
        for claim in step.owned_claims:
            try:
                await self._client.update(PERSISTENT_VOLUME_CLAIMS, claim)
            except (Conflict, NotFound):
                raise
            except ApiError as error:
                text = f"could not update claim {name(claim)} for delete policy ownerRefs: {error}"
                raise _again(text, error) from error

    async def _check_alive(self, stateful_set: Object) -> None:
        """A claim that is given to a set which is gone is collected, and its data with it."""
        try:
            await check_alive(self._client, STATEFUL_SETS, stateful_set)
        except Retry as error:
            raise Conflict(str(error)) from error

    async def _create(self, key: str, stateful_set: Object, pod: Object) -> None:
        made = await self._client.create(PODS, pod, namespace(stateful_set))
        self._expectations.creation(key, made)

    async def _delete(self, key: str, pod: Object) -> None:
        self._expectations.deletion(key, pod)
        try:
            await self._client.delete(PODS, name(pod), namespace(pod), uid=uid(pod))
        except NotFound:
            self._expectations.withdraw(key, pod)
        except (ApiError, OSError):
            self._expectations.withdraw(key, pod)
            raise

    def _pod_event(self, stateful_set: Object, step: Step, error: Failure | None) -> None:
        if step.verb == "claims" and error is None:
            return
        verb = "Update" if step.verb == "claims" else step.verb.title()
        text = f"{verb} Pod {name(step.pod)} in StatefulSet {name(stateful_set)}"
        if error is None:
            self._recorder.event(stateful_set, NORMAL, f"Successful{verb}", f"{text} successful")
        else:
            self._recorder.event(stateful_set, WARNING, f"Failed{verb}", f"{text} failed error: {error}")

    def _claim_event(self, stateful_set: Object, pod: Object, claim: Object, error: ApiError | None) -> None:
        if error is None:
            text = f"Create Claim {name(claim)} Pod {name(pod)} in StatefulSet {name(stateful_set)} success"
            self._recorder.event(stateful_set, NORMAL, "SuccessfulCreate", text)
        else:
            text = f"Create Claim {name(claim)} for Pod {name(pod)} in StatefulSet {name(stateful_set)}"
            self._recorder.event(stateful_set, WARNING, "FailedCreate", f"{text} failed error: {error}")


def _again(text: str, error: ApiError) -> ApiError:
    """The same error with a text that says what it was about."""
    return ApiError.of({**error.status(), "message": text}, error.code)
