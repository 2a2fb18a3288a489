"""ValidatingWebhookConfiguration and MutatingWebhookConfiguration (API reference, admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.admissionregistration.matching import (
    FAILURE_POLICIES,
    REINVOCATION_POLICIES,
    default_matching,
    default_rules,
    match_conditions,
    match_policy,
    rule,
    selectors,
    static_warning,
)
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, setdefaults
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns1035_label
from tiphys.api.validation.webhooks import client_config, qualified_domain

Struct = Mapping[str, Any]

_VERSIONS = ("v1", "v1beta1")
_NO_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_SIDE_EFFECTS = ("None", "NoneOnDryRun", "Some", "Unknown")


@dataclass(frozen=True, slots=True)
class _Rules:
    """Rules that older servers did not know: a change keeps to them when what was stored does."""

    no_side_effects: bool = True
    known_version: bool = True
    unique_names: bool = True
    any_value: bool = False
    conditions: bool = True


class WebhookConfiguration(PlainKind):
    """What both kinds have in common."""

    group = "admissionregistration.k8s.io"
    any_side_effects = False
    """Whether a webhook may have side effects in dry runs too; v1 does not allow it."""
    unconditional_update = False
    revalidates_metadata = True
    counts_generation = True
    qualified_finalizers = False
    columns = (
        printing.NAME,
        Column(
            "Webhooks",
            "integer",
            description="Webhooks indicates the number of webhooks registered in this configuration",
        ),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        for hook in obj.get("webhooks") or ():
            default_matching(hook)
            setdefaults(hook, failurePolicy="Fail", timeoutSeconds=10)
            default_rules(hook.get("rules"))
            if (service := (hook.get("clientConfig") or {}).get("service")) is not None:
                setdefaults(service, port=443)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        _hooks(errors, obj.get("webhooks") or (), _Rules(no_side_effects=not self.any_side_effects))

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        hooks, was = new.get("webhooks") or (), old.get("webhooks") or ()
        rules = _rules_kept(hooks, was)
        _hooks(errors, hooks, replace(rules, no_side_effects=rules.no_side_effects and not self.any_side_effects))

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        return static_warning(printing.name(obj))

    def cells(self, obj: Object, now: float) -> list[Any]:
        return [printing.name(obj), len(obj.get("webhooks") or ()), printing.age(obj, now)]


class ValidatingWebhookConfiguration(WebhookConfiguration):
    plural, kind = "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"


class MutatingWebhookConfiguration(WebhookConfiguration):
    plural, kind = "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"

    def default(self, obj: MutableObject, version: str) -> None:
        super().default(obj, version)
        for hook in obj.get("webhooks") or ():
            setdefaults(hook, reinvocationPolicy="Never")


def _rules_kept(hooks: Sequence[Struct], was: Sequence[Struct]) -> _Rules:
    names = [hook.get("name", "") for hook in was]
    odd = Errors()
    for hook in was:
        selectors(odd, "", hook)
    versions = [hook.get("admissionReviewVersions") or () for hook in was]
    conditions = [[hook.get("matchConditions") or [] for hook in listed] for listed in (hooks, was)]
    return _Rules(
        no_side_effects=all(hook.get("sideEffects") in _NO_SIDE_EFFECTS for hook in was),
        known_version=all(not listed or any(v in _VERSIONS for v in listed) for listed in versions),
        unique_names=len(set(names)) == len(names),
        any_value=bool(odd),
        conditions=conditions[0] != conditions[1],
    )


def _hooks(errors: Errors, hooks: Sequence[Struct], rules: _Rules) -> None:
    names: set[str] = set()
    for i, hook in enumerate(hooks):
        path, name = f"webhooks[{i}]", hook.get("name", "")
        _hook(errors, path, hook, rules)
        _review_versions(errors, f"{path}.admissionReviewVersions", hook.get("admissionReviewVersions") or [], rules)
        if rules.unique_names and name:
            if name in names:
                errors.duplicate(f"{path}.name", name)
            names.add(name)


def _hook(errors: Errors, path: str, hook: Struct, rules: _Rules) -> None:
    qualified_domain(errors, f"{path}.name", hook.get("name", ""))
    for i, value in enumerate(hook.get("rules") or ()):
        rule(errors, f"{path}.rules[{i}]", value)
    errors.one_of(f"{path}.failurePolicy", hook.get("failurePolicy"), FAILURE_POLICIES)
    match_policy(errors, path, hook)
    effects = _NO_SIDE_EFFECTS if rules.no_side_effects else _SIDE_EFFECTS
    if hook.get("sideEffects") is None:
        errors.required(f"{path}.sideEffects", f"must specify one of {', '.join(effects)}")
    errors.one_of(f"{path}.sideEffects", hook.get("sideEffects"), effects)
    if (seconds := hook.get("timeoutSeconds")) is not None and not 1 <= seconds <= 30:
        errors.invalid(f"{path}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds")
    selectors(errors, path, hook, any_value=rules.any_value)
    errors.one_of(f"{path}.reinvocationPolicy", hook.get("reinvocationPolicy"), REINVOCATION_POLICIES)
    client_config(errors, f"{path}.clientConfig", hook.get("clientConfig") or {})
    if rules.conditions:
        match_conditions(errors, f"{path}.matchConditions", hook.get("matchConditions") or ())


def _review_versions(errors: Errors, path: str, versions: Sequence[str], rules: _Rules) -> None:
    if not errors.non_empty(path, versions, f"must specify one of {', '.join(_VERSIONS)}"):
        return
    seen: set[str] = set()
    for i, version in enumerate(versions):
        if version in seen:
            errors.invalid(f"{path}[{i}]", version, "duplicate version")
            continue
        seen.add(version)
        errors.each(f"{path}[{i}]", version, dns1035_label(version))
    if rules.known_version and not seen & set(_VERSIONS):
        errors.invalid(path, versions, f"must include at least one of {', '.join(_VERSIONS)}")
