"""One rule of x-kubernetes-validations, compiled: its program and that of its message.

New rules may use what the version before this one knew, those that are stored already everything (KEP-2876).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tiphys.api.cel import BOOL, STRING, CompileError, Environment, Program, Type, optional
from tiphys.api.custom.fieldpaths import FieldPathError, resolve
from tiphys.api.custom.schemas import Schema

STORED, NEW = (1, 36), (1, 35)


@dataclass(frozen=True, slots=True)
class Expression:
    """A rule. `program` is None when `error` says why; `message` is None without a messageExpression or with an error
    in it."""

    rule: Mapping[str, Any]
    program: Program | None
    uses_old: bool = False
    error: str = ""
    message: Program | None = None
    message_error: str = ""
    field: str = ""
    """The normalized fieldPath."""

    @property
    def optional_old(self) -> bool:
        return bool(self.rule.get("optionalOldSelf"))

    @property
    def name(self) -> str:
        """How errors speak of it: its message or its text."""
        return str(self.rule.get("message") or self.rule.get("rule") or "").strip()


@lru_cache(maxsize=4)
def _base(version: tuple[int, int]) -> Environment:
    return Environment.kubernetes(version)


def compile_rule(
    rule: Mapping[str, Any],
    type: Type,
    schema: Schema,
    version: tuple[int, int] = STORED,
    message: tuple[int, int] = STORED,
) -> Expression:
    """Compile a rule about values of a type; what is wrong with it is in the result."""
    old = optional(type) if rule.get("optionalOldSelf") else type
    source = rule.get("rule") or ""
    if not source.strip():
        return Expression(rule, None)
    try:
        program, uses_old = _program(source, type, old, version)
    except CompileError as error:
        return Expression(rule, None, error=f"compilation failed: {error}")
    if program.type != BOOL:
        return Expression(rule, None, error="cel expression must evaluate to a bool")
    text, failed = None, ""
    if rule.get("messageExpression"):
        try:
            text, _ = _program(rule["messageExpression"], type, old, message)
        except CompileError as error:
            failed = f"messageExpression compilation failed: {error}"
        else:
            if text.type != STRING:
                text, failed = None, "messageExpression must evaluate to a string"
    return Expression(rule, program, uses_old, "", text, failed, _field(rule.get("fieldPath") or "", schema))


def _program(source: str, self_type: Type, old: Type, version: tuple[int, int]) -> tuple[Program, bool]:
    """The program, and whether it looks at oldSelf: it does when it is no program without. Raises CompileError."""
    environment = _base(version).with_variables({"self": self_type})
    if "oldSelf" not in source:
        return environment.compile(source), False
    try:
        return environment.compile(source), False
    except CompileError:
        return environment.with_variables({"oldSelf": old}).compile(source), True


def _field(path: str, schema: Schema) -> str:
    try:
        return resolve(path, schema).text if path else ""
    except FieldPathError:
        return ""
