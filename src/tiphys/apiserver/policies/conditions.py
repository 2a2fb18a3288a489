"""matchConditions: expressions that must all be true for a policy, or a webhook, to be asked about a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tiphys.api.cel import Budget
from tiphys.api.kinds.admissionregistration.expressions import Compiled
from tiphys.apiserver.policies.compiled import Condition
from tiphys.apiserver.policies.scope import CONDITIONS_BUDGET, OutOfBudget, Scope, run_all


class ConditionsFailed(Exception):
    """Some conditions have no value, and none is false; the text says why."""


def hold(conditions: Sequence[Condition], scope: Scope, variables: Mapping[str, Compiled]) -> bool:
    """Whether all are true. One that is false decides, whatever errors others have. Raises ConditionsFailed."""
    if not conditions:
        return True
    programs = [one.compiled for one in conditions]
    try:
        outcomes = run_all(programs, scope.variables(namespace=False), variables, Budget(CONDITIONS_BUDGET))
    except OutOfBudget as error:
        raise ConditionsFailed(str(error)) from None
    if any(one is not None and one.value is False for one in outcomes):
        return False
    errors = list(dict.fromkeys(one.error for one in outcomes if one is not None and one.error))
    if errors:
        raise ConditionsFailed(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return True
