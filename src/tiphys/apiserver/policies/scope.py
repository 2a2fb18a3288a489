"""What expressions may look at in one request, and running them: errors worded as upstream words them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tiphys.api.cel import Budget, CelError, CostExceeded, EvaluationError
from tiphys.api.cel.libraries.authz import AuthorizerValue, ResourceCheck
from tiphys.api.kinds.admissionregistration.expressions import Compiled
from tiphys.apiserver.policies.asking import Answers
from tiphys.apiserver.types import Attributes, Object
from tiphys.apiserver.webhooks.matching import Target

RUNTIME_BUDGET = 10_000_000
"""What the expressions of one policy may cost for one binding and parameter."""
CONDITIONS_BUDGET = RUNTIME_BUDGET // 4
"""The same of its match conditions."""
_SPENT = "validation failed due to running out of cost budget, no further validation rules will be run"


class OutOfBudget(CelError):
    """No further expression may run."""

    def __init__(self) -> None:
        super().__init__(_SPENT)


class Outcome(NamedTuple):
    """What one expression came to: a value, or an error."""

    value: Any
    error: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """The variables of one request, for one parameter."""

    obj: Object | None
    old: Object | None
    request: Mapping[str, Any]
    namespace: Object | None
    params: Object | None
    answers: Answers
    attributes: Attributes
    target: Target

    def variables(self, *, namespace: bool = True, authorizer: bool = True) -> dict[str, Any]:
        """By the names that expressions know them by. Conditions see no namespaceObject, messages no authorizer."""
        known: dict[str, Any] = {
            "object": self.obj,
            "oldObject": self.old,
            "request": self.request,
            "namespaceObject": _shown(self.namespace) if namespace else None,
            "params": self.params,
        }
        if authorizer:
            asker, target = AuthorizerValue(self.attributes.user, self.answers), self.target
            group, _, plural = target.resource
            own = ResourceCheck(asker, group, plural, target.subresource, target.namespace, target.name)
            known |= {"authorizer": asker, "authorizer.requestResource": own}
        return known


_NAMESPACE_METADATA = frozenset(
    (
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "finalizers",
    )
)


def _shown(namespace: Object | None) -> Object | None:
    """A Namespace without its owners and field managers."""
    if namespace is None:
        return None
    metadata = {key: value for key, value in namespace["metadata"].items() if key in _NAMESPACE_METADATA}
    # Decoded anew from Go's type upstream, it has no kind and version.
    return {"metadata": metadata, "spec": namespace.get("spec") or {}, "status": namespace.get("status") or {}}


class Variables(dict[str, Any]):
    """The composed variables: each computed when it is first asked for, at the cost of who asks."""

    def __init__(self, compiled: Mapping[str, Compiled], names: dict[str, Any], budget: Budget) -> None:
        super().__init__(dict.fromkeys(compiled))
        self._compiled, self._names, self._budget = compiled, names, budget
        self._known: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._compute(name)
        found = self._known[name]
        if isinstance(found, EvaluationError):
            raise found
        return found

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - that would be this very method

    def _compute(self, name: str) -> Any:
        compiled = self._compiled[name]
        if compiled.program is None:
            return EvaluationError(f'composited variable "{name}" fails to compile: {compiled.error}')
        try:
            return compiled.program.run(self._names, self._budget)
        except CostExceeded as error:
            if error.shared:
                raise
            return EvaluationError(f'composited variable "{name}" fails to evaluate: {error}')
        except EvaluationError as error:
            return EvaluationError(f'composited variable "{name}" fails to evaluate: {error}')


def run(compiled: Compiled, names: Mapping[str, Any], budget: Budget) -> Outcome:
    """Raises OutOfBudget when the budget is spent: then nothing else may run either."""
    if compiled.program is None:
        return Outcome(None, f"compilation error: {compiled.error}")
    try:
        return Outcome(compiled.program.run(names, budget))
    except CostExceeded as error:
        if error.shared:
            raise OutOfBudget from None
        return Outcome(None, f"expression '{compiled.source}' resulted in error: {error}")
    except EvaluationError as error:
        return Outcome(None, f"expression '{compiled.source}' resulted in error: {error}")


def run_all(
    compiled: Sequence[Compiled | None], names: dict[str, Any], variables: Mapping[str, Compiled], budget: Budget
) -> list[Outcome | None]:
    """The expressions one after the other, with variables of their own; None where there is none."""
    names["variables"] = Variables(variables, names, budget)
    return [None if one is None else run(one, names, budget) for one in compiled]
