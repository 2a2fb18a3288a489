"""What an issuer's claims must say and whom they make: names of claims, or CEL expressions over `claims` and `user`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiphys.api.validation.errors import Errors

if TYPE_CHECKING:
    from tiphys.api.cel import Environment, Program

Claims = Mapping[str, Any]
RESERVED = re.compile(r"(.*\.)?(kubernetes|k8s)\.io")
DOMAIN_PATH = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[^\s/][^\s]*")
EMAIL = re.compile(r"\bclaims\s*\.\s*\??\s*email\b")
EMAIL_VERIFIED = re.compile(r"\bclaims\s*\.\s*\??\s*email_verified\b")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: a claim with a prefix, or an expression."""

    claim: str = ""
    prefix: str = ""
    expression: str = ""
    program: Program | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """An expression that must be true."""

    expression: str
    message: str
    program: Program


@dataclass(frozen=True, slots=True)
class ClaimMapping:
    """All that is said of one issuer's claims."""

    username: Source = field(default_factory=Source)
    groups: Source = field(default_factory=Source)
    uid: Source = field(default_factory=Source)
    extra: tuple[tuple[str, Source], ...] = ()
    required: tuple[tuple[str, str], ...] = ()
    """Claims that must have this value."""
    claim_rules: tuple[Rule, ...] = ()
    user_rules: tuple[Rule, ...] = ()


def of(errors: Errors, entry: Mapping[str, Any], path: str) -> ClaimMapping:
    """The rules of one entry of `jwt`; what is wrong with them goes to `errors`."""
    mappings, where = entry.get("claimMappings") or {}, f"{path}.claimMappings"
    required, claim_rules = _claim_rules(
        errors, entry.get("claimValidationRules") or (), f"{path}.claimValidationRules"
    )
    found = ClaimMapping(
        _prefixed(errors, mappings.get("username") or {}, f"{where}.username", needed=True),
        _prefixed(errors, mappings.get("groups") or {}, f"{where}.groups", needed=False),
        _uid(errors, mappings.get("uid") or {}, f"{where}.uid"),
        _extra(errors, mappings.get("extra") or (), f"{where}.extra"),
        required,
        claim_rules,
        _user_rules(errors, entry.get("userValidationRules") or (), f"{path}.userValidationRules"),
    )
    _check_email(errors, found, where)
    return found


def _check_email(errors: Errors, found: ClaimMapping, where: str) -> None:
    """An address that nobody has verified is nobody's name."""
    source = found.username.expression
    looked_at = [
        source,
        *(each.expression for _, each in found.extra),
        *(each.expression for each in found.claim_rules),
    ]
    if EMAIL.search(source) and not any(EMAIL_VERIFIED.search(each) for each in looked_at):
        errors.invalid(
            f"{where}.username.expression",
            source,
            "claims.email_verified must be used in claimMappings.username.expression or "
            "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in "
            "claimMappings.username.expression",
        )


def _prefixed(errors: Errors, entry: Mapping[str, Any], path: str, *, needed: bool) -> Source:
    claim, expression, prefix = entry.get("claim") or "", entry.get("expression") or "", entry.get("prefix")
    if claim and expression:
        errors.invalid(path, "", "claim and expression can't both be set")
    elif expression:
        if prefix is not None:
            errors.invalid(f"{path}.prefix", prefix, "may not be specified when expression is set")
        return Source(expression=expression, program=_compiled(errors, expression, f"{path}.expression", "claims"))
    elif claim:
        if prefix is None:
            detail = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            errors.required(f"{path}.prefix", detail)
        return Source(claim, prefix or "")
    elif needed:
        errors.required(path, "claim or expression is required")
    return Source()


def _uid(errors: Errors, entry: Mapping[str, Any], path: str) -> Source:
    claim, expression = entry.get("claim") or "", entry.get("expression") or ""
    if claim and expression:
        errors.invalid(path, "", "claim and expression can't both be set")
    if not expression:
        return Source(claim)
    return Source(expression=expression, program=_compiled(errors, expression, f"{path}.expression", "claims"))


def _extra(errors: Errors, entries: Sequence[Mapping[str, Any]], path: str) -> tuple[tuple[str, Source], ...]:
    found: dict[str, Source] = {}
    for index, entry in enumerate(entries):
        key, expression, where = entry.get("key") or "", entry.get("valueExpression") or "", f"{path}[{index}]"
        if not key:
            errors.required(f"{where}.key")
        elif not DOMAIN_PATH.fullmatch(key.lower()):
            detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
            errors.invalid(f"{where}.key", key, detail)
        if key != key.lower():
            errors.invalid(f"{where}.key", key, "must be lowercase")
        if "/" in key and RESERVED.fullmatch(key.partition("/")[0]):
            detail = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
            errors.invalid(f"{where}.key", key, detail)
        if key in found:
            errors.duplicate(f"{where}.key", key)
        elif not expression:
            errors.required(f"{where}.valueExpression")
        else:
            program = _compiled(errors, expression, f"{where}.valueExpression", "claims")
            found[key] = Source(expression=expression, program=program)
    return tuple(found.items())


def _claim_rules(
    errors: Errors, entries: Sequence[Mapping[str, Any]], path: str
) -> tuple[tuple[tuple[str, str], ...], tuple[Rule, ...]]:
    required: dict[str, str] = {}
    found: dict[str, Rule] = {}
    for index, entry in enumerate(entries):
        claim, expression, where = entry.get("claim") or "", entry.get("expression") or "", f"{path}[{index}]"
        value, message = entry.get("requiredValue") or "", entry.get("message") or ""
        if claim and expression:
            errors.invalid(where, claim, "claim and expression can't both be set")
        elif claim:
            if message:
                errors.invalid(f"{where}.message", message, "may not be specified when claim is set")
            if claim in required:
                errors.duplicate(f"{where}.claim", claim)
            required[claim] = value
        elif expression:
            if value:
                errors.invalid(f"{where}.requiredValue", value, "may not be specified when expression is set")
            _add_rule(errors, found, entry, where, "claims")
        else:
            errors.required(where, "claim or expression is required")
    return tuple(required.items()), tuple(found.values())


def _user_rules(errors: Errors, entries: Sequence[Mapping[str, Any]], path: str) -> tuple[Rule, ...]:
    found: dict[str, Rule] = {}
    for index, entry in enumerate(entries):
        if not entry.get("expression"):
            errors.required(f"{path}[{index}].expression")
        else:
            _add_rule(errors, found, entry, f"{path}[{index}]", "user")
    return tuple(found.values())


def _add_rule(errors: Errors, found: dict[str, Rule], entry: Mapping[str, Any], path: str, variable: str) -> None:
    expression = entry["expression"]
    if expression in found:
        errors.duplicate(f"{path}.expression", expression)
        return
    program = _compiled(errors, expression, f"{path}.expression", variable, boolean=True)
    if program is not None:
        found[expression] = Rule(expression, entry.get("message") or "", program)


def _compiled(errors: Errors, expression: str, path: str, variable: str, *, boolean: bool = False) -> Program | None:
    from tiphys.api.cel import BOOL, CompileError

    try:
        return environment(variable).compile(expression, expect=BOOL if boolean else None)
    except CompileError as error:
        errors.invalid(path, expression, f"compilation failed: {error}")
        return None


def environment(variable: str) -> Environment:
    """The CEL environment with `claims` (a token's claims) or `user` (the user made of them)."""
    from tiphys.api.cel import DYN, STRING, Environment, Field, list_of, map_of, named

    if variable == "claims":
        return Environment.kubernetes().with_variables({"claims": map_of(STRING, DYN)})
    texts = list_of(STRING)
    types = {"username": STRING, "uid": STRING, "groups": texts, "extra": map_of(STRING, texts)}
    user = named("kubernetes.UserInfo", {name: Field(name, kind) for name, kind in types.items()})
    return Environment.kubernetes().with_variables({"user": user})
