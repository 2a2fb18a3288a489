"""MutatingAdmissionPolicy: policies change the objects of requests, one after the other, each seeing what those before
made.

What a policy changed may concern plugins and policies that ran earlier: all run a second time then, of the policies
those whose reinvocationPolicy is IfNeeded (KEP-3962).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from tiphys.api import errors
from tiphys.api.cel import Budget
from tiphys.apiserver.policies.compiled import Mutation
from tiphys.apiserver.policies.conditions import ConditionsFailed, hold
from tiphys.apiserver.policies.dispatch import Dispatch, Use, refused_name
from tiphys.apiserver.policies.objects import Unsuitable
from tiphys.apiserver.policies.patching import apply_configuration, json_patches
from tiphys.apiserver.policies.scope import RUNTIME_BUDGET, OutOfBudget, Scope, run_all
from tiphys.apiserver.policies.source import Policy
from tiphys.apiserver.webhooks.matching import Match
from tiphys.apiserver.webhooks.replacing import replace_object, snapshot
from tiphys.base.errors import ApiError

NAME = "MutatingAdmissionPolicy"


class Failure(NamedTuple):
    """A policy that could not do what it should."""

    use: Use
    message: str
    reason: str = ""


@dataclass(slots=True)
class _Memory:
    """What the second round has to know of the first."""

    invoked: set[Any] = field(default_factory=set)
    """Uses that want to see changes made after them."""
    again: set[Any] = field(default_factory=set)
    """Those that have to run a second time."""
    output: bytes = b""
    """The object as the policies left it."""
    dirty: bool = False
    """Whether a mutation was applied in this round."""

    def changed(self) -> None:
        self.again |= self.invoked
        self.invoked = set()


async def mutate(dispatch: Dispatch, policies: tuple[Policy, ...]) -> None:
    """Change the request's object. Raises ApiError when a policy fails and says that requests fail then."""
    attributes = dispatch.attributes
    uses, failures = [], []
    async for use in dispatch.uses(policies):
        if use.error:
            failures.append(Failure(use, use.error))
        else:
            uses.append(use)
    if uses:
        namespace = dispatch.namespace()
        memory = attributes.memory.setdefault(NAME, _Memory())
        memory.dirty = False
        if attributes.round and memory.output != snapshot(attributes.obj):
            memory.changed()
        for use in uses:
            failures += await _Use(dispatch, use, namespace, memory).run()
        if memory.dirty:
            memory.changed()
        memory.output = snapshot(attributes.obj)
    failures = [one for one in failures if not one.use.policy.fails_open]
    if failures:
        raise _refused(dispatch, failures)


class _Use:
    """One policy by one binding with one parameter, at one request."""

    def __init__(self, dispatch: Dispatch, use: Use, namespace: Any, memory: _Memory) -> None:
        self._dispatch, self._use, self._namespace, self._memory = dispatch, use, namespace, memory
        assert use.match is not None, "it applies to the request"
        assert use.binding is not None, "it applies by a binding"
        self._match: Match = use.match
        param = (use.param or {}).get("metadata") or {}
        self._key = (use.policy.name, use.binding.name, param.get("namespace"), param.get("name"))

    async def run(self) -> list[Failure]:
        """Apply all mutations."""
        policy, attributes = self._use.policy, self._dispatch.attributes
        try:
            if not await self._holds():
                return []
        except ConditionsFailed as error:
            return [] if policy.fails_open else [Failure(self._use, str(error), "Invalid")]
        if attributes.round and self._key not in self._memory.again:
            return []
        failures = []
        for mutation in policy.program.mutations if attributes.obj is not None else ():
            try:
                await self._apply(mutation)
            except (Unsuitable, OutOfBudget) as error:
                failures.append(Failure(self._use, str(error), "Invalid"))
        if policy.reinvoked:
            self._memory.invoked.add(self._key)
        return failures

    async def _holds(self) -> bool:
        program = self._use.policy.program
        if not program.conditions:
            return True
        scope = await self._scope()
        return await self._dispatch.answers.settled(partial(hold, program.conditions, scope, program.variables))

    async def _scope(self) -> Scope:
        return await self._dispatch.scope(self._use, self._dispatch.attributes.obj, self._namespace)

    async def _apply(self, mutation: Mutation) -> None:
        """Raises Unsuitable, OutOfBudget."""
        scope, attributes = await self._scope(), self._dispatch.attributes
        value = await self._dispatch.answers.settled(partial(self._evaluate, mutation, scope))
        assert scope.obj is not None, "only objects are mutated"
        assert attributes.obj is not None, "only objects are mutated"
        if mutation.kind == "JSONPatch":
            patched = json_patches(scope.obj, value)
        else:
            node = self._dispatch.versions.node(self._match)
            patched = apply_configuration(scope.obj, value, node)
        if patched is not None:
            new = await self._dispatch.versions.take(patched, self._match, attributes.obj)
            if mutation.kind == "JSONPatch":
                self._dispatch.versions.check_fields(patched, self._match)
            replace_object(attributes, new)
        self._memory.changed()
        self._memory.dirty = attributes.reinvoke = True

    def _evaluate(self, mutation: Mutation, scope: Scope) -> Any:
        if mutation.compiled.program is None:
            raise Unsuitable(mutation.compiled.error)
        variables: Mapping[str, Any] = self._use.policy.program.variables
        outcome = run_all([mutation.compiled], scope.variables(), variables, Budget(RUNTIME_BUDGET))[0]
        assert outcome is not None, "there is one expression"
        if outcome.error:
            raise Unsuitable(outcome.error)
        return outcome.value


def _refused(dispatch: Dispatch, failures: list[Failure]) -> ApiError:
    messages = [_text(one) for one in failures]
    target = dispatch.target
    name = refused_name(target)
    error = errors.forbidden(target.resource[0], target.resource[2], name, "admission request denied by policy")
    status = error.status()
    status["message"] = messages[0]
    status["reason"] = failures[0].reason or status["reason"]
    status["details"] = {**error.details, "causes": [{"message": one} for one in messages]}
    return ApiError.of(status)


def _text(failure: Failure) -> str:
    use = failure.use
    if use.binding is None:
        return f'policy "{use.policy.name}" denied request: {failure.message}'
    return f"policy '{use.policy.name}' with binding '{use.binding.name}' denied request: {failure.message}"
