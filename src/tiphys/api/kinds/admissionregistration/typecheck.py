"""Expressions of a ValidatingAdmissionPolicy held against the schemas of the kinds that it matches.

At admission `object` and `params` may be anything. Here they have the types of their schemas, so that a misspelt field
or a number compared with a text shows when the policy is written: as a warning in its status, nothing is refused.
Schemas are those of OpenAPI v3 documents, so that custom resources are as good as any. Source: KEP-3488.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from tiphys.api import schema
from tiphys.api.kinds.admissionregistration.expressions import Compiler, Names, with_names
from tiphys.api.openapi.schemas import SchemaWriter

if TYPE_CHECKING:
    from tiphys.api.cel import Type

Struct = Mapping[str, Any]
Triple = tuple[str, str, str]

MOST_KINDS = 10
"""Kinds of one rule that are looked at."""
_REFERENCE = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class Typed:
    """A kind (group, version, kind) and the type of its objects; None when it has no schema."""

    kind: Triple
    type: Type | None


def resources(policy: Struct) -> Iterator[Iterator[Triple]]:
    """(group, version, plural) of everything that each rule names; rules with wildcards name nothing in particular."""
    constraints = (policy.get("spec") or {}).get("matchConstraints") or {}
    for rule in constraints.get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
        if any("*" in name for name in (*groups, *versions)):
            continue
        plurals = [name for name in rule.get("resources") or () if "*" not in name and "/" not in name]
        yield product(sorted(groups), sorted(versions), sorted(plurals))


def builtin(kind: Triple) -> Struct | None:
    """The document of a built-in kind; None for all others."""
    definitions = schema.builtin()
    name = definitions.name_of(*kind)
    if not name:
        return None
    return {"components": {"schemas": SchemaWriter(definitions, {}, v3=True).closure([name])}}


def type_of_kind(document: Struct, kind: Triple) -> Type | None:
    """The type of a kind's objects by the OpenAPI v3 document of its group and version."""
    from tiphys.api.cel import types_of

    schemas: Struct = (document.get("components") or {}).get("schemas") or {}
    wanted = dict(zip(("group", "version", "kind"), kind, strict=True))
    for name, one in schemas.items():
        if wanted in (one.get("x-kubernetes-group-version-kind") or ()):
            return types_of.schema(_resolved(one, schemas, frozenset((name,))), root=True, name=kind[2])
    return None


def _resolved(one: Struct, schemas: Struct, seen: frozenset[str]) -> Struct:
    """A schema without references; one that comes back to itself ends in an object without fields."""
    name = _reference(one)
    if name:
        if name in seen:
            return {"type": "object"}
        one, seen = schemas.get(name) or {}, seen | {name}
    made = dict(one)
    if one.get("format") == "int-or-string":
        # Built-in kinds say it by the format, custom ones by the extension.
        made["x-kubernetes-int-or-string"] = True
    if properties := one.get("properties"):
        made["properties"] = {key: _resolved(value, schemas, seen) for key, value in properties.items()}
    for key in ("additionalProperties", "items"):
        if isinstance(value := one.get(key), Mapping):
            made[key] = _resolved(value, schemas, seen)
    return made


def _reference(one: Struct) -> str:
    for part in (one, *(one.get("allOf") or ())):
        if text := part.get("$ref"):
            return str(text).removeprefix(_REFERENCE)
    return ""


def warnings(policy: Struct, kinds: Sequence[Typed], params: Typed | None) -> list[dict[str, str]]:
    """What does not fit, as the status has it; `kinds` in the order of their names."""
    found = []
    for i, validation in enumerate((policy.get("spec") or {}).get("validations") or ()):
        for field in ("expression", "messageExpression"):
            if source := validation.get(field):
                text = "\n".join(_problems(policy, source, kinds, params))
                if text:
                    found.append({"fieldRef": f"spec.validations[{i}].{field}", "warning": text})
    return found


def _problems(policy: Struct, source: str, kinds: Sequence[Typed], params: Typed | None) -> Iterator[str]:
    from tiphys.api.cel import DYN, Environment

    names = Names(params=params is not None, authorizer=True)
    for one in kinds:
        param = params.type if params is not None else None
        base = with_names(Environment.kubernetes(), names, obj=one.type or DYN, params=param or DYN)
        compiler = Compiler(base)
        compiler.compose()
        for variable in (policy.get("spec") or {}).get("variables") or ():
            compiler.define(variable["name"], variable["expression"], names)
        error = compiler.compile(source, (), names).error
        if error:
            group, version, kind = one.kind
            yield f"{group}/{version}, Kind={kind}: {error.removeprefix('compilation failed: ')}\n"
