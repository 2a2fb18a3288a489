"""One policy, compiled: its expressions as programs. Errors are kept; they come out when a request meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api.kinds.admissionregistration.expressions import Compiled, Compiler, Names, returns

Struct = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """A match condition."""

    name: str
    compiled: Compiled


@dataclass(frozen=True, slots=True)
class Validation:
    """One rule: its expression, and what is said when it does not hold."""

    compiled: Compiled
    message: str
    reason: str
    message_expression: Compiled | None


@dataclass(frozen=True, slots=True)
class Annotation:
    key: str
    compiled: Compiled


@dataclass(frozen=True, slots=True)
class Mutation:
    """One patch: `kind` is ApplyConfiguration or JSONPatch."""

    kind: str
    compiled: Compiled


@dataclass(frozen=True, slots=True)
class Program:
    """All expressions of a policy."""

    variables: Mapping[str, Compiled]
    conditions: Sequence[Condition]
    validations: Sequence[Validation] = ()
    annotations: Sequence[Annotation] = ()
    mutations: Sequence[Mutation] = ()


def compile_policy(spec: Struct) -> Program:
    """The spec of either kind of policy."""
    compiler = Compiler()
    compiler.compose()
    names = Names(params=spec.get("paramKind") is not None, authorizer=True)
    variables = {
        one["name"]: compiler.define(one["name"], one["expression"], names) for one in spec.get("variables") or ()
    }
    return Program(
        variables,
        compile_conditions(spec.get("matchConditions") or (), compiler, names),
        [_validation(one, compiler, names) for one in spec.get("validations") or ()],
        [
            Annotation(one["key"], compiler.compile(one["valueExpression"], returns("annotation"), names))
            for one in spec.get("auditAnnotations") or ()
        ],
        [_mutation(one, compiler, names) for one in spec.get("mutations") or ()],
    )


def compile_conditions(structs: Sequence[Struct], compiler: Compiler, names: Names) -> list[Condition]:
    """matchConditions, of policies and of webhooks."""
    wanted = returns("condition")
    return [Condition(one["name"], compiler.compile(one["expression"], wanted, names)) for one in structs]


def _validation(struct: Struct, compiler: Compiler, names: Names) -> Validation:
    source = struct.get("messageExpression")
    without = names._replace(authorizer=False)
    return Validation(
        compiler.compile(struct["expression"], returns("validation"), names),
        struct.get("message") or "",
        struct.get("reason") or "Invalid",
        compiler.compile(source, returns("message"), without) if source else None,
    )


def _mutation(struct: Struct, compiler: Compiler, names: Names) -> Mutation:
    kind = struct["patchType"]
    source = struct["applyConfiguration" if kind == "ApplyConfiguration" else "jsonPatch"]["expression"]
    return Mutation(kind, compiler.compile(source, returns(kind), names._replace(patches=True)))
