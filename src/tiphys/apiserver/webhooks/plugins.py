"""The admission plugins MutatingAdmissionWebhook and ValidatingAdmissionWebhook: who is asked, in what order, and what
their answers do to the request (API reference, admissionregistration.k8s.io/v1)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from tiphys.api.kinds.base import quote
from tiphys.apiserver.types import Attributes, Authorizer, Object, Plugin, Reader
from tiphys.apiserver.webhooks import patches, review
from tiphys.apiserver.webhooks.asking import Unanswered, ask, note
from tiphys.apiserver.webhooks.client import WebhookClient
from tiphys.apiserver.webhooks.conditions import Question
from tiphys.apiserver.webhooks.hooks import GROUP, MUTATING, VALIDATING, Hook, Hooks
from tiphys.apiserver.webhooks.matching import Match, Target, target_of
from tiphys.apiserver.webhooks.measures import CALLING, INTERNAL, NO_ERROR, Measures
from tiphys.apiserver.webhooks.replacing import replace_object, snapshot
from tiphys.apiserver.webhooks.review import JSON_PATCH, Answer
from tiphys.apiserver.webhooks.versions import Versions, internal
from tiphys.base.errors import ApiError

log = logging.getLogger(__name__)

EXEMPT = frozenset(
    {
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
    }
)
"""Kinds of admissionregistration.k8s.io that no webhook is asked about: else a bad one could not be taken away."""
MUTATION, PATCH, VALIDATION = (f"{what}.webhook.admission.k8s.io/" for what in ("mutation", "patch", "validating"))
"""Prefixes of audit annotations."""


def exempt(attributes: Attributes) -> bool:
    """Whether the request is about what configures admission itself."""
    return attributes.kind[0] == GROUP and attributes.kind[2] in EXEMPT


class Webhooks(Plugin):
    """What both plugins have in common."""

    plural = ""
    phase = ""
    """What metrics call it."""
    connects = True

    def __init__(
        self,
        reader: Reader,
        client: WebhookClient,
        versions: Versions,
        authorizer: Authorizer,
        measures: Measures,
    ) -> None:
        self._measures = measures
        self._reader, self._client, self._versions, self._authorizer = reader, client, versions, authorizer
        self._hooks = Hooks(reader, self.plural, versions.catalog)

    def _candidates(self, attributes: Attributes) -> tuple[Target | None, tuple[tuple[Hook, Match], ...]]:
        if not self._hooks.any() or exempt(attributes):
            return None, ()
        target = target_of(attributes)
        return target, self._hooks.matching(target)

    async def _concerned(self, hook: Hook, match: Match, target: Target, attributes: Attributes) -> bool:
        """Whether the selectors and conditions of a webhook select the request, too."""
        if hook.problem:
            raise internal(hook.problem)
        selectors = hook.selectors
        if not (selectors.select_object(target) and selectors.select_namespace(target, self._reader)):
            return False
        if hook.conditions is None:
            return True
        question = Question(
            request=review.request_of(attributes, target, match),
            obj=await self._versions.show(attributes.obj, match),
            old=await self._versions.show(attributes.old, match),
            attributes=attributes,
            target=target,
            authorizer=self._authorizer,
        )
        return await hook.conditions.hold(question)

    async def _ask(
        self, hook: Hook, match: Match, target: Target, attributes: Attributes, *, mutating: bool
    ) -> tuple[Answer, Object | None]:
        """The webhook's answer, and the object that it was shown."""
        shown = await self._versions.show(attributes.obj, match)
        old = await self._versions.show(attributes.old, match)
        request = review.request_of(attributes, target, match)
        objects = (_with_managers(shown, attributes.managed), _with_managers(old, attributes.old_managed))
        answer = await ask(self._client, hook, request, objects, mutating=mutating)
        note(attributes, hook, answer)
        return answer, shown

    @contextmanager
    def _measured(self, hook: Hook, attributes: Attributes, annotation: str) -> Iterator[None]:
        """Time a call, and do what the failure policy says when it fails."""
        who, since = (hook.name, self.phase, attributes.operation), self._measures.now()
        try:
            yield
        except Unanswered as error:
            self._measures.webhook(*who, since, error.code, "" if hook.fails_open else CALLING)
            if not hook.fails_open:
                raise error.refusal from error
            log.warning("failing open: %s", error)
            self._measures.opened(hook.name, self.phase)
            attributes.annotations[annotation] = hook.name
        except review.Denied as denied:
            self._measures.webhook(*who, since, denied.error.code, NO_ERROR)
            raise denied.error from None
        except ApiError:
            self._measures.webhook(*who, since, 0, INTERNAL)
            raise
        else:
            self._measures.webhook(*who, since, 200)


@dataclass(slots=True)
class _Memory:
    """What the second round has to know of the first."""

    invoked: set[str] = field(default_factory=set)
    """Webhooks that want to see changes made after them."""
    due: set[str] = field(default_factory=set)
    """Those of them that have to be asked again."""
    left: bytes = b""
    """The object as the webhooks left it."""

    def changed(self) -> None:
        self.due |= self.invoked
        self.invoked.clear()


class MutatingWebhooks(Webhooks):
    name = "MutatingAdmissionWebhook"
    phase = "admit"
    plural = MUTATING

    async def admit(self, attributes: Attributes) -> None:
        target, candidates = self._candidates(attributes)
        if target is None or not candidates:
            return
        memory: _Memory = attributes.memory.setdefault(self.name, _Memory())
        if attributes.round and memory.left != snapshot(attributes.obj):
            memory.changed()
        for number, (hook, match) in enumerate(candidates):
            if not await self._concerned(hook, match, target, attributes):
                continue
            if attributes.round and hook.uid not in memory.due:
                continue
            if await self._invoke(hook, match, target, attributes, number):
                memory.changed()
                attributes.reinvoke = True
            if hook.reinvoked:
                memory.invoked.add(hook.uid)
        if memory.invoked or memory.due:
            memory.left = snapshot(attributes.obj)

    async def _invoke(self, hook: Hook, match: Match, target: Target, attributes: Attributes, number: int) -> bool:
        """Ask one webhook and carry out its answer; whether that changed the object."""
        place = f"round_{attributes.round}_index_{number}"
        changed = False
        try:
            with self._measured(hook, attributes, f"failed-open.{MUTATION}{place}"):
                answer, shown = await self._ask(hook, match, target, attributes, mutating=True)
                if not answer.allowed:
                    raise review.Denied(review.denial(hook.name, answer.result))
                changed = await self._patch(hook, match, attributes, answer, shown, place)
        finally:
            text = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
            attributes.annotations[MUTATION + place] = orjson.dumps(text).decode()
        return changed

    async def _patch(
        self, hook: Hook, match: Match, attributes: Attributes, answer: Answer, shown: Object | None, place: str
    ) -> bool:
        if not answer.patch:
            return False
        try:
            operations = patches.read(answer.patch)
        except ValueError as error:
            text = f"received undecodable patch in webhook response: {error}"
            raise Unanswered(f"failed calling webhook {quote(hook.name)}: {text}") from error
        if not operations:
            return False
        if shown is None or attributes.obj is None:
            text = "attempted to modify the object, which is not supported for this operation"
            raise internal(f"admission webhook {quote(hook.name)} {text}")
        if answer.patch_type != JSON_PATCH:
            text = f"unsupported patch type {quote(answer.patch_type)}"
            raise Unanswered(f"failed calling webhook {quote(hook.name)}: {text}")
        if b"managedFields" in answer.patch:
            shown = _with_managers(shown, attributes.managed, orjson.loads) or shown
        new = await self._versions.take(patches.apply(shown, operations), match, attributes.obj)
        note = {"configuration": hook.configuration, "webhook": hook.name, "patch": operations, "patchType": JSON_PATCH}
        attributes.annotations[PATCH + place] = orjson.dumps(note).decode()
        return replace_object(attributes, new)


class ValidatingWebhooks(Webhooks):
    name = "ValidatingAdmissionWebhook"
    phase = "validating"
    plural = VALIDATING

    async def validate(self, attributes: Attributes) -> None:
        target, candidates = self._candidates(attributes)
        if target is None or not candidates:
            return
        concerned = [
            (hook, match) for hook, match in candidates if await self._concerned(hook, match, target, attributes)
        ]
        if not concerned:
            return
        refusals: list[ApiError | None] = [None] * len(concerned)

        async def one(number: int, hook: Hook, match: Match) -> None:
            try:
                await self._verdict(hook, match, target, attributes, number)
            except ApiError as error:
                refusals[number] = error

        if len(concerned) == 1:
            await one(0, *concerned[0])
        else:
            async with asyncio.TaskGroup() as group:
                for number, (hook, match) in enumerate(concerned):
                    group.create_task(one(number, hook, match))
        for refusal in refusals:
            if refusal is not None:
                raise refusal

    async def _verdict(self, hook: Hook, match: Match, target: Target, attributes: Attributes, number: int) -> None:
        with self._measured(hook, attributes, f"failed-open.{VALIDATION}round_0_index_{number}"):
            answer, _ = await self._ask(hook, match, target, attributes, mutating=False)
            if not answer.allowed:
                raise review.Denied(review.denial(hook.name, answer.result))


def _with_managers(obj: Object | None, managed: bytes, wrap: Callable[[bytes], Any] = orjson.Fragment) -> Object | None:
    """The object as clients see it, with its managedFields."""
    if not managed or obj is None:
        return obj
    return {**obj, "metadata": {**obj["metadata"], "managedFields": wrap(managed)}}
