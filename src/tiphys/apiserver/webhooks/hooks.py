"""The webhooks that are configured, compiled: once for each change of any configuration of their kind.

`Hooks.matching` says which of them a request is for, as their rules say. Requests of one sort (resource, operation) are
all for the same ones, so the answer is kept, and a server without webhooks pays a comparison of two numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.catalog import Catalog
from tiphys.apiserver.types import Reader
from tiphys.apiserver.webhooks.conditions import Conditions
from tiphys.apiserver.webhooks.destination import Destination
from tiphys.apiserver.webhooks.matching import (
    Equivalents,
    Match,
    Rule,
    Selectors,
    Target,
    compile_rules,
    find,
)

GROUP = "admissionregistration.k8s.io"
MUTATING, VALIDATING = "mutatingwebhookconfigurations", "validatingwebhookconfigurations"
DEFAULT_SECONDS = 10
MAX_SORTS = 4096
"""Sorts of requests whose webhooks are remembered."""
_ANY, _NOWHERE = Selectors({}), Destination()
_HARMLESS = ("None", "NoneOnDryRun")


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """One webhook of one configuration."""

    configuration: str
    name: str
    uid: str
    """Tells it from all others: configuration, name, number."""
    rules: tuple[Rule, ...]
    match_policy: str
    selectors: Selectors
    conditions: Conditions | None
    """None: it has none."""
    to: Destination
    fails_open: bool
    """failurePolicy Ignore."""
    timeout: float
    """Seconds."""
    dry_runs: bool
    """Whether it may be asked about what is not going to happen."""
    reinvoked: bool
    review_versions: tuple[str, ...]
    problem: str = ""
    """What is wrong with its selectors or its address: older servers took what today's refuses."""


class Hooks:
    """Those of all configurations of one kind, in the order in which they are called."""

    def __init__(self, reader: Reader, plural: str, catalog: Callable[[], Catalog]) -> None:
        self._reader, self._plural, self._catalog = reader, plural, catalog
        self._equivalents = Equivalents(catalog)
        self._revision = -1
        self._hooks: tuple[Hook, ...] = ()
        self._known: Catalog | None = None
        self._matching: dict[Any, tuple[tuple[Hook, Match], ...]] = {}

    def any(self) -> bool:
        """Whether there are webhooks at all."""
        revision = self._reader.revision(GROUP, self._plural)
        if revision != self._revision:
            self._hooks, self._matching = self._compile(), {}
            self._revision = revision
        return bool(self._hooks)

    def matching(self, target: Target) -> tuple[tuple[Hook, Match], ...]:
        """Webhooks with a rule for a request, and as what each gets it; `any` was asked just before."""
        catalog = self._catalog()
        if catalog is not self._known or len(self._matching) > MAX_SORTS:
            self._known, self._matching = catalog, {}
        sort = (target.resource, target.subresource, target.kind, target.operation, bool(target.namespace))
        found = self._matching.get(sort)
        if found is None:
            matches = ((hook, find(hook.rules, hook.match_policy, target, self._equivalents)) for hook in self._hooks)
            found = self._matching[sort] = tuple((hook, match) for hook, match in matches if match is not None)
        return found

    def _compile(self) -> tuple[Hook, ...]:
        configurations = sorted(self._reader.list(GROUP, self._plural), key=lambda one: str(one["metadata"]["name"]))
        before = {hook.uid: hook for hook in self._hooks}
        return tuple(hook for one in configurations for hook in _hooks(one, before))


def _hooks(configuration: Mapping[str, Any], before: Mapping[str, Hook]) -> list[Hook]:
    metadata = configuration["metadata"]
    hooks, seen = [], {"": 0}
    for struct in configuration.get("webhooks") or ():
        number = seen[struct["name"]] = seen.get(struct["name"], -1) + 1
        uid = f"{metadata['name']}/{metadata.get('resourceVersion')}/{struct['name']}/{number}"
        hooks.append(before.get(uid) or _hook(metadata["name"], uid, struct))
    return hooks


def _hook(configuration: str, uid: str, struct: Mapping[str, Any]) -> Hook:
    conditions = struct.get("matchConditions")
    fails_open = struct.get("failurePolicy") == "Ignore"
    problem, selectors, to = "", _ANY, _NOWHERE
    try:
        selectors = Selectors(struct)
        to = Destination.of(struct.get("clientConfig") or {})
    except ValueError as error:
        problem = str(error)
    return Hook(
        configuration=configuration,
        name=struct["name"],
        uid=uid,
        rules=compile_rules(struct.get("rules")),
        match_policy=struct.get("matchPolicy") or "Equivalent",
        selectors=selectors,
        conditions=Conditions(conditions, fails_open=fails_open) if conditions else None,
        to=to,
        fails_open=fails_open,
        timeout=float(struct.get("timeoutSeconds") or DEFAULT_SECONDS),
        dry_runs=struct.get("sideEffects") in _HARMLESS,
        reinvoked=struct.get("reinvocationPolicy") == "IfNeeded",
        review_versions=tuple(struct.get("admissionReviewVersions") or ()),
        problem=problem,
    )
