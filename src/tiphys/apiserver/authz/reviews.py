"""Reviews: questions about authorization and authentication that are asked by creating an object.

Each function takes the decoded object and returns the completed one; nothing is stored. Metadata of the answer is
that of the object without managedFields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api import errors, selectors
from tiphys.api.kinds.base import FieldError, forbidden, invalid, required
from tiphys.apiserver.authn.chain import Refused, TokenAuthenticator, aggregate, authenticate_token
from tiphys.apiserver.authz.chain import Reason
from tiphys.apiserver.authz.node import node_name
from tiphys.apiserver.authz.rbac import RbacAuthorizer
from tiphys.apiserver.authz.rules import Rule
from tiphys.apiserver.types import Authorizer, RequestInfo
from tiphys.base.clock import rfc3339
from tiphys.base.errors import BadRequest
from tiphys.base.identity import User

GROUP = "authorization.k8s.io"
RESOURCE_FIELDS = (
    "namespace",
    "verb",
    "group",
    "version",
    "resource",
    "subresource",
    "name",
    "fieldSelector",
    "labelSelector",
)
SPEC_FIELDS = ("resourceAttributes", "nonResourceAttributes", "user", "groups", "extra", "uid")
OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
EVERYTHING = Rule(("*",), ("*",), ("*",)), Rule(("*",), urls=("*",))

Review = dict[str, Any]


async def subject_access_review(obj: Review, authorizer: Authorizer) -> Review:
    """SubjectAccessReview. Raises Invalid."""
    spec = obj.get("spec") or {}
    problems = _check_spec(spec, subject=True)
    if _metadata(obj):
        problems.append(invalid("metadata", obj["metadata"], "must be empty"))
    return await _answer(obj, spec, _subject(spec), authorizer, problems)


async def self_subject_access_review(obj: Review, user: User, authorizer: Authorizer) -> Review:
    """SelfSubjectAccessReview. Raises Invalid."""
    spec = obj.get("spec") or {}
    problems = _check_spec(spec, subject=False)
    if _metadata(obj):
        problems.append(invalid("metadata", obj["metadata"], "must be empty"))
    return await _answer(obj, spec, user, authorizer, problems)


async def local_subject_access_review(obj: Review, namespace: str, authorizer: Authorizer) -> Review:
    """LocalSubjectAccessReview in `namespace`, that of the request. Raises Invalid, BadRequest."""
    spec = obj.get("spec") or {}
    obj = {**obj, "metadata": {"namespace": namespace, **(obj.get("metadata") or {})}}
    if obj["metadata"]["namespace"] != namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    problems = _check_spec(spec, subject=True)
    if _metadata(obj).keys() - {"namespace"}:
        problems.append(invalid("metadata", obj["metadata"], "must be empty except for namespace"))
    problems += _check_namespace(spec, namespace)
    return await _answer(obj, spec, _subject(spec), authorizer, problems)


async def self_subject_rules_review(obj: Review, user: User, authorizer: Authorizer, rbac: RbacAuthorizer) -> Review:
    """SelfSubjectRulesReview: what RBAC says; nodes have rights besides, so theirs are incomplete.

    Raises BadRequest."""
    namespace = (obj.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise BadRequest("no namespace on request")
    rules = EVERYTHING if getattr(authorizer, "allows_all", False) else rbac.rules_for(user, namespace)
    unknown = ["node authorizer does not support user rule resolution"] if node_name(user) is not None else []
    if getattr(authorizer, "asks_webhooks", False):
        unknown.append("webhook authorizer does not support user rule resolution")
    status: dict[str, Any] = {
        "resourceRules": [_resource_rule(rule) for rule in rules if rule.resources],
        "nonResourceRules": [{"verbs": rule.verbs, "nonResourceURLs": rule.urls} for rule in rules if rule.urls],
        "incomplete": bool(unknown),
    }
    if unknown:
        status["evaluationError"] = aggregate(unknown)
    return {**_head(obj), "metadata": {}, "spec": {}, "status": status}


async def token_review(obj: Review, tokens: Sequence[TokenAuthenticator], audiences: Sequence[str]) -> Review:
    """TokenReview; `audiences` are this server's, for reviews that name none. Raises BadRequest."""
    spec = obj.get("spec") or {}
    token = spec.get("token", "")
    if not token:
        raise BadRequest("token is required for TokenReview in authentication")
    status: dict[str, Any]
    try:
        user, good = await authenticate_token(token, tokens, spec.get("audiences") or audiences)
        status = {"authenticated": True, "user": user_info(user), "audiences": list(good)}
    except Refused as refused:
        status = {"user": {}, "error": str(refused)}
    return {**_head(obj), "metadata": _metadata(obj), "spec": _present(spec), "status": status}


async def self_subject_review(obj: Review, user: User, now: float) -> Review:
    """SelfSubjectReview; `now` is in seconds since the epoch."""
    metadata = {**_metadata(obj), "creationTimestamp": rfc3339(now)}
    return {**_head(obj), "metadata": metadata, "status": {"userInfo": user_info(user)}}


def user_info(user: User) -> dict[str, Any]:
    """authentication/v1 UserInfo, without what is empty."""
    extra = {key: list(values) for key, values in user.extra.items()}
    return _present({"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": extra})


async def _answer(
    obj: Review, spec: Mapping[str, Any], user: User, authorizer: Authorizer, problems: list[FieldError]
) -> Review:
    if problems:
        raise errors.invalid(GROUP, "", "", problems)
    allowed, reason = await authorizer.authorize(user, _question(spec))
    status: dict[str, Any] = {"allowed": allowed}
    trouble = ""
    if isinstance(reason, Reason):
        trouble = reason.trouble
        if reason.final:
            status["denied"] = True
    if reason:
        status["reason"] = str(reason)
    ignored = _ignored_selectors(spec.get("resourceAttributes") or {})
    if trouble or ignored:
        status["evaluationError"] = "; ".join(text for text in (trouble, ignored) if text)
    return {**_head(obj), "metadata": _metadata(obj), "spec": _clean(spec), "status": status}


def _subject(spec: Mapping[str, Any]) -> User:
    extra = {key: tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups") or ()), extra)


def _question(spec: Mapping[str, Any]) -> RequestInfo:
    asked = spec.get("resourceAttributes")
    if asked is None:
        asked = spec["nonResourceAttributes"]
        return RequestInfo(asked.get("verb", ""), asked.get("path", ""))
    return RequestInfo(
        asked.get("verb", ""),
        "",
        True,
        asked.get("group", ""),
        asked.get("version") or "*",
        asked.get("namespace", ""),
        asked.get("resource", ""),
        asked.get("subresource", ""),
        asked.get("name", ""),
        field_selector=_selector(asked.get("fieldSelector")),
        label_selector=_selector(asked.get("labelSelector")),
    )


def _selector(selector: Mapping[str, Any] | None) -> str:
    """A field or label selector as text; requirements that cannot be understood are left out."""
    if not selector:
        return ""
    terms = [_term(requirement) for requirement in selector.get("requirements") or ()]
    return ",".join(term for term in terms if term) or str(selector.get("rawSelector", ""))


def _term(requirement: Mapping[str, Any]) -> str:
    key, operator, values = requirement.get("key", ""), requirement.get("operator"), requirement.get("values") or ()
    if operator in ("Exists", "DoesNotExist"):
        return str(key) if operator == "Exists" else f"!{key}"
    if operator not in ("In", "NotIn") or not values:
        return ""
    if len(values) > 1:
        return f"{key} {operator.lower()} ({','.join(values)})"
    escaped = str(values[0]).replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
    return f"{key}{'=' if operator == 'In' else '!='}{escaped}"


def _ignored_selectors(asked: Mapping[str, Any]) -> str:
    """What of the selectors could not be understood, as evaluationError says it."""
    texts = []
    for name in ("fieldSelector", "labelSelector"):
        selector = asked.get(name) or {}
        requirements = selector.get("requirements") or ()
        if not requirements and not _readable(name, selector.get("rawSelector", "")):
            texts.append(f"spec.resourceAttributes.{name} ignored due to parse error")
        bad = [r for r in requirements if not _understood(name, r)]
        if bad:
            part = "ignored" if len(bad) == len(requirements) else "partially ignored"
            texts.append(f"spec.resourceAttributes.{name} {part} due to parse error")
    return "; ".join(texts)


def _readable(name: str, raw: str) -> bool:
    """Whether a selector given as text is one."""
    try:
        (selectors.parse_fields if name == "fieldSelector" else selectors.parse_labels)(raw)
    except (ValueError, BadRequest):
        return False
    return True


def _understood(name: str, requirement: Mapping[str, Any]) -> bool:
    operator, values = requirement.get("operator"), requirement.get("values") or ()
    if name == "fieldSelector":
        return operator in ("In", "NotIn") and len(values) == 1
    return operator in OPERATORS


def _check_spec(spec: Mapping[str, Any], *, subject: bool) -> list[FieldError]:
    problems = []
    asked, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if asked is not None and other is not None:
        detail = "cannot be specified in combination with resourceAttributes"
        problems.append(invalid("spec.nonResourceAttributes", _go_struct(other), detail))
    if asked is None and other is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        problems.append(invalid("spec.resourceAttributes", None, detail))
    if subject and not spec.get("user") and not spec.get("groups"):
        problems.append(invalid("spec.user", "", "at least one of user or group must be specified"))
    for name in ("fieldSelector", "labelSelector"):
        selector = (asked or {}).get(name)
        if selector is not None:
            problems += _check_selector(selector, f"spec.resourceAttributes.{name}")
    return problems


def _check_selector(selector: Mapping[str, Any], path: str) -> list[FieldError]:
    raw, requirements = selector.get("rawSelector"), selector.get("requirements") or ()
    problems = []
    if raw and requirements:
        problems.append(invalid(f"{path}.rawSelector", raw, "may not specified at the same time as requirements"))
    if not raw and not requirements:
        detail = f"when {path} is specified, requirements or rawSelector is required"
        problems.append(required(f"{path}.requirements", detail))
    for index, requirement in enumerate(requirements):
        problems += _check_requirement(requirement, f"{path}.requirements[{index}]")
    return problems


def _check_requirement(requirement: Mapping[str, Any], path: str) -> list[FieldError]:
    operator, values = requirement.get("operator", ""), requirement.get("values") or ()
    problems = []
    if operator in ("In", "NotIn") and not values:
        problems.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    if operator in ("Exists", "DoesNotExist") and values:
        detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        problems.append(forbidden(f"{path}.values", detail))
    if not requirement.get("key"):
        problems.append(required(f"{path}.key", "must be specified"))
    return problems


def _check_namespace(spec: Mapping[str, Any], namespace: str) -> list[FieldError]:
    problems = []
    asked, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if asked is not None and asked.get("namespace", "") != namespace:
        where = asked.get("namespace", "")
        problems.append(invalid("spec.resourceAttributes.namespace", where, "must match metadata.namespace"))
    if other is not None:
        detail = "disallowed on this kind of request"
        problems.append(invalid("spec.nonResourceAttributes", _go_struct(other), detail))
    return problems


def _go_struct(attributes: Mapping[str, Any]) -> dict[str, str]:
    """NonResourceAttributes as upstream prints them."""
    return {"Path": attributes.get("path", ""), "Verb": attributes.get("verb", "")}


def _resource_rule(rule: Rule) -> dict[str, Any]:
    fields = {"apiGroups": rule.groups, "resources": rule.resources, "resourceNames": rule.names}
    return {"verbs": list(rule.verbs), **{key: list(values) for key, values in fields.items() if values}}


def _head(obj: Review) -> dict[str, Any]:
    return {key: obj[key] for key in ("kind", "apiVersion") if key in obj}


def _metadata(obj: Review) -> dict[str, Any]:
    return _present({key: value for key, value in (obj.get("metadata") or {}).items() if key != "managedFields"})


def _clean(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec in the API's order, without what is empty; an attributes object stays even if it is."""
    out: dict[str, Any] = {}
    for key in SPEC_FIELDS:
        value = spec.get(key)
        if key == "resourceAttributes" and value is not None:
            out[key] = _present({field: value.get(field) for field in RESOURCE_FIELDS})
        elif key == "nonResourceAttributes" and value is not None:
            out[key] = _present({field: value.get(field) for field in ("path", "verb")})
        elif value:
            out[key] = value
    return out


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in (None, "", [], {})}
