"""`authorizer` in expressions: who may do what.

An expression runs without waiting, but authorizers may have to ask somebody. So a question that is new stops the run
with `Undecided`; `settled` asks the authorizer and runs the expression again, which now finds the answer. Answers are
kept for one request, as upstream keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tiphys.api.cel.libraries.authz import Decision, ResourceCheck
from tiphys.apiserver.types import Authorizer, RequestInfo
from tiphys.base.identity import User

T = TypeVar("T")
Question = tuple[object, ...]

MOST_QUESTIONS = 1000
"""Different questions of one request; expressions can afford far fewer."""


class Undecided(Exception):
    """An expression asked what is not known yet."""

    def __init__(self, question: Question, user: User, info: RequestInfo) -> None:
        super().__init__("an authorizer has to be asked first")
        self.question, self.user, self.info = question, user, info


class Answers:
    """The answers of one request's authorizer (`tiphys.api.cel.libraries.authz.Asker`)."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._known: dict[Question, Decision] = {}

    def path(self, user: User, path: str, verb: str) -> Decision:
        return self._answer(user, RequestInfo(verb, path))

    def resource(self, check: ResourceCheck, verb: str) -> Decision:
        info = RequestInfo(
            verb,
            "",
            resource_request=True,
            group=check.group,
            version="*",
            namespace=check.namespace,
            resource=check.resource,
            subresource=check.subresource,
            name=check.name,
            field_selector=check.field_selector,
            label_selector=check.label_selector,
        )
        return self._answer(check.authorizer.user, info)

    def _answer(self, user: User, info: RequestInfo) -> Decision:
        question: Question = (
            (user.name, user.uid, user.groups),
            (info.verb, info.path, info.group, info.resource, info.subresource, info.namespace, info.name),
            (info.field_selector, info.label_selector),
        )
        found = self._known.get(question)
        if found is None:
            raise Undecided(question, user, info)
        return found

    async def settled(self, run: Callable[[], T]) -> T:
        """What `run` returns once all that it asks is answered."""
        for _ in range(MOST_QUESTIONS):
            try:
                return run()
            except Undecided as undecided:
                await self._ask(undecided)
        return run()

    async def _ask(self, undecided: Undecided) -> None:
        allowed, reason = await self._authorizer.authorize(undecided.user, undecided.info)
        trouble = "" if allowed else str(getattr(reason, "trouble", ""))
        self._known[undecided.question] = Decision(allowed, str(reason), trouble)
