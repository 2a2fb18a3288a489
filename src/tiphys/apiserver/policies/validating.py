"""ValidatingAdmissionPolicy: requests are held against expressions, and refused, warned about or annotated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from tiphys.api import errors
from tiphys.api.cel import Budget
from tiphys.api.cel.values import type_of
from tiphys.apiserver.policies.compiled import Program, Validation
from tiphys.apiserver.policies.conditions import ConditionsFailed, hold
from tiphys.apiserver.policies.dispatch import Dispatch, Use, refused_name
from tiphys.apiserver.policies.scope import RUNTIME_BUDGET, Outcome, OutOfBudget, Scope, run_all
from tiphys.apiserver.policies.source import Policy
from tiphys.apiserver.types import Attributes
from tiphys.apiserver.webhooks.matching import Target
from tiphys.base.errors import ApiError

LONGEST_MESSAGE = 5 * 1024
LONGEST_ANNOTATION = 10 * 1024
"""Bytes."""
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413}
_INVALID = 422
_FAILURE = "validation.policy.admission.k8s.io/validation_failure"


class Denial(NamedTuple):
    """One expression that does not hold, or has no value."""

    number: int
    """Of the validation."""
    message: str
    reason: str = ""


@dataclass(slots=True)
class Verdict:
    """What one policy says with one parameter."""

    denials: list[Denial] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Audit annotations without a value: they refuse the request whatever the binding's actions are."""


class Refusal(NamedTuple):
    use: Use
    message: str
    reason: str = ""


async def validate(dispatch: Dispatch, policies: tuple[Policy, ...]) -> None:
    """Raises the first refusal."""
    refusals: list[Refusal] = []
    notes: dict[str, list[str]] = {}
    async for use in dispatch.uses(policies):
        if use.error:
            refusals += () if use.policy.fails_open else (Refusal(use, use.error),)
            continue
        namespace = dispatch.namespace()
        try:
            scope = await dispatch.scope(use, dispatch.attributes.obj, namespace)
        except ApiError as error:
            text = f"failed to configure binding: failed to convert object version: {error}"
            refusals += () if use.policy.fails_open else (Refusal(use, text),)
            continue
        verdict = await dispatch.answers.settled(partial(evaluate, use, scope))
        refusals += _act(use, verdict, dispatch.attributes)
        _collect(use, verdict, notes)
    for key, values in notes.items():
        dispatch.attributes.annotations.setdefault(key, ", ".join(values))
    if refusals:
        raise _refused(dispatch.target, refusals[0])


def evaluate(use: Use, scope: Scope) -> Verdict:
    """Run a policy's expressions. Raises what `Answers.settled` waits for."""
    verdict, program = Verdict(), use.policy.program
    fails_open = use.policy.fails_open
    try:
        if not hold(program.conditions, scope, program.variables):
            return verdict
        budget = Budget(RUNTIME_BUDGET)
        expressions = [one.compiled for one in program.validations]
        outcomes = run_all(expressions, scope.variables(), program.variables, budget)
        denials = _denials(program, outcomes, scope, budget)
        verdict.denials = [one for one in denials if one.reason or not fails_open]
        _annotate(program, scope, verdict, fails_open=fails_open)
    except (ConditionsFailed, OutOfBudget) as error:
        return Verdict([] if fails_open else [Denial(0, str(error))])
    return verdict


def _denials(program: Program, outcomes: Sequence[Outcome | None], scope: Scope, budget: Budget) -> list[Denial]:
    """Those without a reason are errors, which the failure policy may overlook."""
    if all(one is not None and one.value is True for one in outcomes):
        return []
    expressions = [one.message_expression for one in program.validations]
    messages: list[Outcome | None] = [None] * len(expressions)
    spent = ""
    try:
        names = scope.variables(authorizer=False)
        messages = run_all(expressions, names, program.variables, budget)
    except OutOfBudget as error:
        spent = f"failed messageExpression: {error}"
    denials = []
    for index, (one, outcome, said) in enumerate(zip(program.validations, outcomes, messages, strict=True)):
        if outcome is not None and outcome.error:
            denials.append(Denial(index, outcome.error))
        elif spent:
            denials.append(Denial(index, spent))
        elif outcome is None or outcome.value is not True:
            denials.append(Denial(index, _message(one, said), one.reason))
    return denials


def _message(validation: Validation, said: Outcome | None) -> str:
    """What the message expression says if it is one line, else the message, else the expression."""
    text = said.value if said is not None and not said.error else None
    shown = text.strip() if isinstance(text, str) else ""
    if shown and "\n" not in shown and len(shown.encode("utf-8", "replace")) <= LONGEST_MESSAGE:
        return shown
    return validation.message.strip() or f"failed expression: {validation.compiled.source.strip()}"


def _annotate(program: Program, scope: Scope, verdict: Verdict, *, fails_open: bool) -> None:
    expressions = [one.compiled for one in program.annotations]
    names = scope.variables(authorizer=False)
    outcomes = run_all(expressions, names, program.variables, Budget(RUNTIME_BUDGET)) if expressions else []
    for annotation, outcome in zip(program.annotations, outcomes, strict=True):
        if outcome is None:
            continue
        if outcome.error:
            if not fails_open:
                verdict.failures.append(outcome.error)
        elif isinstance(outcome.value, str):
            if text := outcome.value.strip():
                verdict.annotations[annotation.key] = _shortened(text)
        elif outcome.value is not None:
            kind = type_of(outcome.value).name
            source = annotation.compiled.source
            text = f"valueExpression '{source}' resulted in unsupported return type: {kind}. "
            verdict.failures.append(text + "Return type must be either string or null.")


def _shortened(text: str) -> str:
    return text.encode("utf-8", "replace")[:LONGEST_ANNOTATION].decode("utf-8", "ignore")


def _act(use: Use, verdict: Verdict, attributes: Attributes) -> list[Refusal]:
    """Warn and annotate as the binding says; what it denies is returned."""
    assert use.binding is not None, "what was evaluated has a binding"
    refusals = []
    policy, binding = use.policy.name, use.binding.name
    for denial in verdict.denials:
        for action in use.binding.actions:
            if action == "Deny":
                refusals.append(Refusal(use, denial.message, denial.reason))
            elif action == "Audit":
                attributes.annotations.setdefault(_FAILURE, _failure(use, denial))
            elif action == "Warn":
                what = f"Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"
                if (text := f"{what}: {denial.message}") not in attributes.warnings:
                    attributes.warnings.append(text)
    return refusals + [Refusal(use, text) for text in verdict.failures]


def _failure(use: Use, denial: Denial) -> str:
    """The value of the audit annotation."""
    assert use.binding is not None, "what was evaluated has a binding"
    value: dict[str, Any] = {
        "message": denial.message,
        "policy": use.policy.name,
        "binding": use.binding.name,
        "expressionIndex": denial.number,
        "validationActions": list(use.binding.actions),
    }
    text = json.dumps([value], ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _collect(use: Use, verdict: Verdict, notes: dict[str, list[str]]) -> None:
    """Each value of an audit annotation once: bindings with different parameters may give several."""
    for key, value in verdict.annotations.items():
        values = notes.setdefault(f"{use.policy.name}/{key}", [])
        if value not in values:
            values.append(value)


def _refused(target: Target, refusal: Refusal) -> ApiError:
    use, reason = refusal.use, refusal.reason or "Invalid"
    with_binding = "" if use.binding is None else f" with binding '{use.binding.name}'"
    message = f"ValidatingAdmissionPolicy '{use.policy.name}'{with_binding} denied request: {refusal.message}"
    forbidden = errors.forbidden(target.resource[0], target.resource[2], refused_name(target), message)
    status = forbidden.status()
    status["reason"], status["code"] = reason, _CODES.get(reason, _INVALID)
    status["details"] = {**forbidden.details, "causes": [{"message": message}]}
    return ApiError.of(status)
