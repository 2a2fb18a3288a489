"""The expressions of admission policies and of webhooks' match conditions: what they may name, and compiling them.

Validation compiles an expression to say what is wrong with it, admission to run it; both go through `Compiler`. Types
and names are those of the API reference (ValidatingAdmissionPolicy, "expression") and of upstream's admission
environment. The CEL compiler is imported when the first expression comes along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tiphys.api.cel import Environment, Program, Type

Struct = Mapping[str, object]


class Names(NamedTuple):
    """Which optional names an expression has."""

    params: bool = False
    authorizer: bool = False
    patches: bool = False
    """The types Object... and JSONPatch, to build patches with."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression, compiled or with what is wrong with it."""

    source: str
    program: Program | None
    error: str = ""


class Compiler:
    """Compiles the expressions of one policy; `define` adds its variables, in their order."""

    def __init__(self, base: Environment | None = None) -> None:
        self._base = base
        self._variables: dict[str, Type] | None = None
        self._environments: dict[Names, Environment] = {}

    def compose(self) -> None:
        """The expressions have the name `variables`, even if there is none yet."""
        self._variables = {} if self._variables is None else self._variables
        self._environments.clear()

    def define(self, name: str, source: str, names: Names) -> Compiled:
        """Compile a variable. One that is wrong may still be named."""
        self.compose()
        assert self._variables is not None, "compose makes them"
        compiled = self.compile(source, (), names)
        self._variables[name] = declared(None if compiled.program is None else compiled.program.type)
        self._environments.clear()
        return compiled

    def compile(self, source: str, returns: Sequence[Type], names: Names) -> Compiled:
        """`returns` are the types that the value may have, exactly; none: any."""
        from tiphys.api.cel import CompileError

        try:
            program = self.environment(names).compile(source)
        except CompileError as error:
            return Compiled(source, None, f"compilation failed: {error}")
        found = type_text(program.type)
        wanted = [type_text(one) for one in returns]
        if wanted and found not in wanted:
            expected = wanted[0] if len(wanted) == 1 else f"one of [{' '.join(wanted)}]"
            return Compiled(source, None, f"must evaluate to {expected} but got {found}")
        return Compiled(source, program)

    def environment(self, names: Names) -> Environment:
        """What an expression may name."""
        if names not in self._environments:
            made = self._base or environment(names)
            if self._variables is not None:
                made = made.with_variables({"variables": _variables_type(self._variables)})
            self._environments[names] = made
        return self._environments[names]


def _variables_type(variables: Mapping[str, Type]) -> Type:
    from tiphys.api.cel import Field, named

    return named("kubernetes.variables", {name: Field(name, type) for name, type in variables.items()})


def returns(kind: str) -> tuple[Type, ...]:
    """The types that the expression of a condition, validation, message, annotation or patch may have."""
    from tiphys.api.cel import BOOL, NULL, STRING, list_of, named

    if kind == "annotation":
        return STRING, NULL
    if kind == "message":
        return (STRING,)
    if kind == "ApplyConfiguration":
        return (named("Object"),)
    return (list_of(named("JSONPatch")),) if kind == "JSONPatch" else (BOOL,)


def type_text(type: Type) -> str:
    """A type as upstream's messages about results write it."""
    if not type.parameters or type.nullable:
        return f"wrapper({type.name})" if type.nullable else type.name
    return f"{type.name}({', '.join(map(type_text, type.parameters))})"


def declared(type: Type | None) -> Type:
    """The type that a variable has for other expressions: what is not plain is dyn, as upstream declares it."""
    from tiphys.api.cel import DYN, list_of, map_of

    if type is None or type.nullable:
        return DYN
    if type.kind == "list":
        return list_of(declared(type.parameters[0]))
    if type.kind == "map":
        return map_of(declared(type.parameters[0]), declared(type.parameters[1]))
    return type if type.kind in _PLAIN else DYN


_PLAIN = frozenset(
    ("any", "bool", "bytes", "double", "duration", "int", "null_type", "string", "timestamp", "uint", "dyn")
)


@cache
def environment(names: Names) -> Environment:
    """Object, oldObject, request, namespaceObject and, as wanted, params, authorizer and the types of patches."""
    from tiphys.api.cel import DYN, Environment

    made = with_names(Environment.kubernetes(), names, obj=DYN, params=DYN)
    if names.patches:
        from tiphys.api.cel.libraries.jsonpatch import JSONPATCH

        made = made.with_libraries(JSONPATCH).with_objects()
    return made


def with_names(base: Environment, names: Names, *, obj: Type, params: Type) -> Environment:
    """`base` with the variables of admission; `obj` is the type of object and oldObject."""
    from tiphys.api.cel.libraries.authz import AUTHORIZER, RESOURCE_CHECK

    variables = {"object": obj, "oldObject": obj, "request": request_type(), "namespaceObject": namespace_type()}
    if names.params:
        variables["params"] = params
    if names.authorizer:
        variables |= {"authorizer": AUTHORIZER, "authorizer.requestResource": RESOURCE_CHECK}
    return base.with_variables(variables)


def _object(name: str, fields: Mapping[str, Type]) -> Type:
    from tiphys.api.cel import Field, named

    return named(f"kubernetes.{name}", {key: Field(key, type) for key, type in fields.items()})


@cache
def request_type() -> Type:
    """AdmissionRequest without uid and objects."""
    from tiphys.api.cel import BOOL, DYN, STRING, list_of, map_of

    kind = _object("GroupVersionKind", dict.fromkeys(("group", "version", "kind"), STRING))
    resource = _object("GroupVersionResource", dict.fromkeys(("group", "version", "resource"), STRING))
    strings = list_of(STRING)
    user = {"username": STRING, "uid": STRING, "groups": strings, "extra": map_of(STRING, strings)}
    texts = ("subResource", "requestSubResource", "name", "namespace", "operation")
    return _object(
        "AdmissionRequest",
        {
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            **dict.fromkeys(texts, STRING),
            "userInfo": _object("UserInfo", user),
            "dryRun": BOOL,
            "options": DYN,
        },
    )


@cache
def namespace_type() -> Type:
    """Namespace without its owners and field managers."""
    from tiphys.api.cel import INT, STRING, TIMESTAMP, list_of, map_of

    strings, labels = list_of(STRING), map_of(STRING, STRING)
    texts = ("name", "generateName", "namespace", "UID", "resourceVersion")
    metadata = {
        **dict.fromkeys(texts, STRING),
        "labels": labels,
        "annotations": labels,
        "creationTimestamp": TIMESTAMP,
        "deletionGracePeriodSeconds": INT,
        "deletionTimestamp": TIMESTAMP,
        "generation": INT,
        "finalizers": strings,
    }
    condition = {**dict.fromkeys(("status", "type", "message", "reason"), STRING), "lastTransitionTime": TIMESTAMP}
    status = {"conditions": list_of(_object("NamespaceCondition", condition)), "phase": STRING}
    return _object(
        "Namespace",
        {
            "metadata": _object("NamespaceMetadata", metadata),
            "spec": _object("NamespaceSpec", {"finalizers": strings}),
            "status": _object("NamespaceStatus", status),
        },
    )
