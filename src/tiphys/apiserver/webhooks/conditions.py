"""matchConditions: expressions that must all be true for a webhook to be called (KEP-3716).

They are compiled when the first request comes to them; the CEL compiler is imported then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiphys.api import errors
from tiphys.apiserver.types import Attributes, Authorizer, Object
from tiphys.apiserver.webhooks.matching import Target

if TYPE_CHECKING:
    from tiphys.apiserver.policies.compiled import Condition


@dataclass(frozen=True, slots=True)
class Question:
    """What expressions may look at, in the version that the webhook gets."""

    request: Mapping[str, Any]
    obj: Object | None
    old: Object | None
    attributes: Attributes
    target: Target
    authorizer: Authorizer


class Conditions:
    """Those of one webhook."""

    def __init__(self, structs: Sequence[Mapping[str, Any]], *, fails_open: bool) -> None:
        self._structs, self._fails_open = structs, fails_open
        self._compiled: Sequence[Condition] | None = None

    async def hold(self, question: Question) -> bool:
        """Whether all are true. One without a value means no call, or Forbidden if the webhook fails closed."""
        from tiphys.apiserver.policies.asking import Answers
        from tiphys.apiserver.policies.conditions import ConditionsFailed, hold
        from tiphys.apiserver.policies.scope import Scope

        conditions = self._conditions()
        answers = Answers(question.authorizer)
        scope = Scope(
            obj=question.obj,
            old=question.old,
            request=question.request,
            namespace=None,
            params=None,
            answers=answers,
            attributes=question.attributes,
            target=question.target,
        )
        try:
            return await answers.settled(lambda: hold(conditions, scope, {}))
        except ConditionsFailed as error:
            if self._fails_open:
                return False
            group, _, plural = question.target.resource
            raise errors.forbidden(group, plural, question.target.name, str(error)) from error

    def _conditions(self) -> Sequence[Condition]:
        if self._compiled is None:
            from tiphys.api.kinds.admissionregistration.expressions import Compiler, Names
            from tiphys.apiserver.policies.compiled import compile_conditions

            self._compiled = compile_conditions(self._structs, Compiler(), Names(authorizer=True))
        return self._compiled
