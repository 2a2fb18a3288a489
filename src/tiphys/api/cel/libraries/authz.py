"""The `authz` library of Kubernetes: what somebody is allowed to do, asked of the server's own authorizer.

The values here only collect a question; `Asker` answers it. Whoever runs expressions hands in one for the request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from tiphys.api.cel.costs import LIST, ONE, STRUCT, TRAVERSAL, CallEstimate, Node, Range
from tiphys.api.cel.types import BOOL, STRING, EvaluationError, Function, Library, Overload, Type, named
from tiphys.api.cel.values import size_of
from tiphys.api.validation.names import dns_label, dns_subdomain
from tiphys.base.identity import User

AUTHORIZER = named("kubernetes.authorization.Authorizer", equality=ONE)
PATH_CHECK = named("kubernetes.authorization.PathCheck", equality=ONE)
GROUP_CHECK = named("kubernetes.authorization.GroupCheck", equality=ONE)
RESOURCE_CHECK = named("kubernetes.authorization.ResourceCheck", equality=ONE)
DECISION = named("kubernetes.authorization.Decision", equality=ONE)

_CHECK = 350_000
"""Two checks are what one expression can afford."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An authorizer's answer."""

    cel_type: ClassVar[Type] = DECISION
    allowed: bool
    reason: str = ""
    error: str = ""


class Asker(Protocol):
    """Answers questions. Expressions run without waiting: it may raise what tells its owner to wait and repeat."""

    def path(self, user: User, path: str, verb: str) -> Decision: ...

    def resource(self, check: ResourceCheck, verb: str) -> Decision: ...


@dataclass(frozen=True, slots=True)
class AuthorizerValue:
    """The variable `authorizer`."""

    cel_type: ClassVar[Type] = AUTHORIZER
    user: User
    asker: Asker = field(compare=False)


@dataclass(frozen=True, slots=True)
class PathCheck:
    cel_type: ClassVar[Type] = PATH_CHECK
    authorizer: AuthorizerValue
    path: str


@dataclass(frozen=True, slots=True)
class GroupCheck:
    cel_type: ClassVar[Type] = GROUP_CHECK
    authorizer: AuthorizerValue
    group: str


@dataclass(frozen=True, slots=True)
class ResourceCheck:
    """The variable `authorizer.requestResource`, or one that an expression built."""

    cel_type: ClassVar[Type] = RESOURCE_CHECK
    authorizer: AuthorizerValue
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""


def _path(authorizer: AuthorizerValue, path: str) -> PathCheck:
    if not path.strip():
        raise EvaluationError("path must not be empty")
    return PathCheck(authorizer, path)


def _resource(check: GroupCheck, resource: str) -> ResourceCheck:
    if not resource.strip():
        raise EvaluationError("resource must not be empty")
    return ResourceCheck(check.authorizer, check.group, resource)


def _service_account(authorizer: AuthorizerValue, namespace: str, name: str) -> AuthorizerValue:
    if dns_subdomain(name):
        raise EvaluationError("Invalid service account name")
    if dns_label(namespace):
        raise EvaluationError("Invalid service account namespace")
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return replace(authorizer, user=User(f"system:serviceaccount:{namespace}:{name}", groups=groups))


def _check_path(check: PathCheck, verb: str) -> Decision:
    return check.authorizer.asker.path(check.authorizer.user, check.path, verb)


def _check_resource(check: ResourceCheck, verb: str) -> Decision:
    return check.authorizer.asker.resource(check, verb)


def _selector_range(length: Range) -> Range:
    """Parsing a selector: its text, and a structure with a list for every requirement it may have."""
    requirements = length.scaled(0.5).scaled(LIST + STRUCT)
    return Range(LIST, LIST).plus(length.scaled(TRAVERSAL)).plus(requirements)


def _selector_cost(arguments: tuple[Any, ...], result: Any) -> int:
    size = size_of(arguments[1])
    return _selector_range(Range(size, size)).maximum


def _estimate_selector(nodes: Sequence[Node]) -> CallEstimate:
    return CallEstimate(_selector_range(nodes[1].size))


def _estimate_check(nodes: Sequence[Node]) -> CallEstimate:
    return CallEstimate(Range(_CHECK, _CHECK))


def _function(name: str, id: str, implementation: Callable[..., Any], result: Type, *parameters: Type) -> Function:
    return Function(name, (Overload(id, parameters, result, implementation, member=True),))


def _narrowing(name: str, attribute: str) -> Function:
    def narrow(check: ResourceCheck, value: str) -> ResourceCheck:
        narrowed: dict[str, Any] = {attribute: value}
        return replace(check, **narrowed)

    return _function(name, f"resourcecheck_{name}", narrow, RESOURCE_CHECK, RESOURCE_CHECK, STRING)


def _selecting(name: str, attribute: str) -> Function:
    def select(check: ResourceCheck, value: str) -> ResourceCheck:
        selected: dict[str, Any] = {attribute: value}
        return replace(check, **selected)

    overload = Overload(
        f"authorizer_{name.lower()}",
        (RESOURCE_CHECK, STRING),
        RESOURCE_CHECK,
        select,
        member=True,
        cost=_selector_cost,
        estimate=_estimate_selector,
    )
    return Function(name, (overload,))


def _checking(id: str, of: Type, implementation: Callable[..., Decision]) -> Overload:
    return Overload(id, (of, STRING), DECISION, implementation, member=True, cost=_CHECK, estimate=_estimate_check)


AUTHZ = Library(
    "kubernetes.authz",
    (
        _function("path", "authorizer_path", _path, PATH_CHECK, AUTHORIZER, STRING),
        _function("group", "authorizer_group", GroupCheck, GROUP_CHECK, AUTHORIZER, STRING),
        _function(
            "serviceAccount", "authorizer_serviceaccount", _service_account, AUTHORIZER, AUTHORIZER, STRING, STRING
        ),
        _function("resource", "groupcheck_resource", _resource, RESOURCE_CHECK, GROUP_CHECK, STRING),
        _narrowing("subresource", "subresource"),
        _narrowing("namespace", "namespace"),
        _narrowing("name", "name"),
        Function(
            "check",
            (
                _checking("pathcheck_check", PATH_CHECK, _check_path),
                _checking("resourcecheck_check", RESOURCE_CHECK, _check_resource),
            ),
        ),
        _function("errored", "decision_errored", lambda decision: bool(decision.error), BOOL, DECISION),
        _function("error", "decision_error", lambda decision: decision.error, STRING, DECISION),
        _function("allowed", "decision_allowed", lambda decision: decision.allowed, BOOL, DECISION),
        _function("reason", "decision_reason", lambda decision: decision.reason, STRING, DECISION),
    ),
    types=(AUTHORIZER, PATH_CHECK, GROUP_CHECK, RESOURCE_CHECK, DECISION),
)

AUTHZ_SELECTORS = Library(
    "kubernetes.authzSelectors",
    (_selecting("fieldSelector", "field_selector"), _selecting("labelSelector", "label_selector")),
)
