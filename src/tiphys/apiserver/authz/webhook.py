"""Authorization by a remote service: it is asked by a SubjectAccessReview, its answers are kept for a while.

Match conditions (CEL over `request`, the review's spec) say which requests it is asked about at all. Source: API
reference, "Webhook Mode".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from tiphys.apiserver.authz import selectors
from tiphys.apiserver.authz.chain import Reason
from tiphys.apiserver.remembered import Remembered
from tiphys.apiserver.reviewer import ReviewFailed
from tiphys.apiserver.types import RequestInfo
from tiphys.base.clock import Clock
from tiphys.base.identity import User

if TYPE_CHECKING:
    from tiphys.api.cel import Environment, Program
    from tiphys.apiserver.reviewer import RemoteReviewer

LONGEST_KEY = 10_000
"""Answers about requests with longer names and paths are not kept."""
Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """One webhook, but for where it is."""

    version: str = "v1beta1"
    """Of the review: v1 or v1beta1."""
    authorized_seconds: float = 300.0
    unauthorized_seconds: float = 30.0
    keep_authorized: bool = True
    keep_unauthorized: bool = True
    deny_on_failure: bool = False
    """Whether what cannot be asked is denied, or left to the next authorizer."""
    conditions: tuple[tuple[str, Program], ...] = ()


class WebhookAuthorizer:
    """See the module's docstring."""

    def __init__(self, reviewer: RemoteReviewer, rules: WebhookRules, clock: Clock) -> None:
        self.reviewer, self._rules = reviewer, rules
        self._known: Remembered[bytes, Mapping[str, Any]] = Remembered(clock)

    async def authorize(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        spec = spec_of(user, info)
        try:
            if not self._matches(spec):
                return False, ""
            status = await self._status(spec, info)
        except ReviewFailed as error:
            return False, Reason("", final=self._rules.deny_on_failure, trouble=str(error))
        allowed, denied, reason = status.get("allowed") is True, status.get("denied") is True, _text(status)
        if denied:
            both = "webhook subject access review returned both allow and deny response" if allowed else ""
            return False, Reason(reason, final=True, trouble=both)
        return allowed, reason

    def _matches(self, spec: Spec) -> bool:
        """Whether all conditions hold. One that does not ends it, else one that fails raises ReviewFailed."""
        if not self._rules.conditions:
            return True
        from tiphys.api.cel import Budget, CelError

        failures, request = [], _for_conditions(spec)
        for source, program in self._rules.conditions:
            try:
                if program.run({"request": request}, Budget()) is not True:
                    return False
            except CelError as error:
                failures.append(f"cel evaluation error: expression '{source}' resulted in error: {error}")
        if failures:
            raise ReviewFailed(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")
        return True

    async def _status(self, spec: Spec, info: RequestInfo) -> Mapping[str, Any]:
        key = orjson.dumps(spec)
        known = self._known.get(key)
        if known is not None:
            return known
        spec = spec if self._rules.version == "v1" else _of_beta(spec)
        review = {
            "kind": "SubjectAccessReview",
            "apiVersion": f"authorization.k8s.io/{self._rules.version}",
            "metadata": {"creationTimestamp": None},
            "spec": spec,
            "status": {"allowed": False},
        }
        status = (await self.reviewer.post(review)).get("status")
        if not isinstance(status, dict):
            raise ReviewFailed("webhook subject access review has no status")
        self._keep(key, status, info)
        return status

    def _keep(self, key: bytes, status: Mapping[str, Any], info: RequestInfo) -> None:
        rules = self._rules
        of_resource = (info.namespace, info.verb, info.group, info.version, info.resource, info.subresource, info.name)
        if sum(map(len, (*of_resource, info.path))) >= LONGEST_KEY:
            return
        if status.get("allowed") is True:
            if rules.keep_authorized:
                self._known.put(key, status, rules.authorized_seconds)
        elif rules.keep_unauthorized:
            self._known.put(key, status, rules.unauthorized_seconds)


def spec_of(user: User, info: RequestInfo) -> Spec:
    """A SubjectAccessReviewSpec."""
    spec: Spec = {}
    if info.resource_request:
        names = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
        attributes: Spec = {name: getattr(info, name) for name in names if getattr(info, name)}
        for name, found in (("fieldSelector", selectors.fields(info)), ("labelSelector", selectors.labels(info))):
            if found:
                attributes[name] = {"requirements": [each.shown() for each in found]}
        spec["resourceAttributes"] = attributes
    else:
        spec["nonResourceAttributes"] = {"path": info.path, "verb": info.verb}
    spec["user"] = user.name
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in sorted(user.extra.items())}
    if user.uid:
        spec["uid"] = user.uid
    return spec


def _of_beta(spec: Spec) -> Spec:
    """v1beta1 calls the groups `group`."""
    return {("group" if key == "groups" else key): value for key, value in spec.items()}


def _for_conditions(spec: Spec) -> Spec:
    """The spec with the fields that are empty, which expressions may name too."""
    out: Spec = {"user": spec["user"], "groups": spec.get("groups", []), "uid": spec.get("uid", "")}
    out["extra"] = spec.get("extra", {})
    if "resourceAttributes" in spec:
        empty = dict.fromkeys(("namespace", "verb", "group", "version", "resource", "subresource", "name"), "")
        out["resourceAttributes"] = {**empty, **spec["resourceAttributes"]}
    else:
        out["nonResourceAttributes"] = spec["nonResourceAttributes"]
    return out


def _text(status: Mapping[str, Any]) -> str:
    reason = status.get("reason")
    return reason if isinstance(reason, str) else ""


def environment() -> Environment:
    """The CEL environment of match conditions."""
    from tiphys.api.cel import STRING, Environment, Field, Type, list_of, map_of, named

    def struct(name: str, /, **types: Type) -> Type:
        return named(f"kubernetes.{name}", {key: Field(key, kind) for key, kind in types.items()})

    def texts(*names: str) -> dict[str, Type]:
        return dict.fromkeys(names, STRING)

    strings = list_of(STRING)
    requirement = struct("SelectorRequirement", **texts("key", "operator"), values=strings)
    field = struct("FieldSelectorAttributes", rawSelector=STRING, requirements=list_of(requirement))
    label = struct("LabelSelectorAttributes", rawSelector=STRING, requirements=list_of(requirement))
    names = texts("namespace", "verb", "group", "version", "resource", "subresource", "name")
    resource = struct("ResourceAttributes", **names, fieldSelector=field, labelSelector=label)
    request = struct(
        "SubjectAccessReviewSpec",
        resourceAttributes=resource,
        nonResourceAttributes=struct("NonResourceAttributes", **texts("path", "verb")),
        **texts("user", "uid"),
        groups=strings,
        extra=map_of(STRING, strings),
    )
    return Environment.kubernetes().with_variables({"request": request})


def compile_conditions(sources: Sequence[str]) -> tuple[tuple[str, Program], ...]:
    """Raises CompileError."""
    from tiphys.api.cel import BOOL

    scope = environment()
    return tuple((source, scope.compile(source, expect=BOOL)) for source in sources)
