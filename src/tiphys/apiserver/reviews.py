"""Endpoints of resources that are questions: reviews of access and tokens; and what else has no objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tiphys.api.apply.manager import Writer
from tiphys.api.catalog import ResourceInfo
from tiphys.apiserver import bodies, options, respond
from tiphys.apiserver.authz import reviews
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import expected
from tiphys.apiserver.types import RequestInfo
from tiphys.base.clock import rfc3339
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import ANONYMOUS, User

Obj = dict[str, Any]
Answer = Callable[[Obj, User, str], Awaitable[Obj]]
"""(object, who asks, namespace of the request) -> the completed object."""
Unstored = Callable[[Request, RequestInfo, ResourceInfo], Awaitable[Response]]


ECHOED = {
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authentication.k8s.io", "tokenreviews"),
}
"""Reviews that are answered with the question, filled in; the others with an object of their own."""


class Reviews:
    """One `Unstored` for each (group, plural, verb), made of an `Answer`."""

    def __init__(self, parts: Parts, answers: Mapping[tuple[str, str], Answer]) -> None:
        self._parts, self._answers = parts, answers

    def endpoints(self) -> dict[tuple[str, str, str], Unstored]:
        return {(group, plural, "create"): self.create for group, plural in self._answers}

    async def create(self, request: Request, info: RequestInfo, resource: ResourceInfo) -> Response:
        """POST: decode the question, answer 201 with the completed object."""
        codec = self._parts.codec
        validation = (request.param("fieldValidation") if request.query_string else "") or "Warn"
        decoded = bodies.decode(codec, request, expected(resource), validation)
        request.attributes.setdefault("warnings", []).extend(decoded.warnings)
        answer, kind = self._answers[info.group, info.resource], resource.behaviour
        question = kind.convert(decoded.obj, resource.version, kind.stored_version)
        await self._parts.admission.consult_review(request, info, resource, question)
        done = await answer(question, request.user or ANONYMOUS, info.namespace)
        done = kind.convert(dict(done), kind.stored_version, resource.version)
        if (info.group, info.resource) in ECHOED and not request.local:
            self._own(request, resource, question, done)
        head = {"kind": resource.kind, "apiVersion": resource.api_version}
        return respond.plain(request, {**head, **done}, 201)

    def _own(self, request: Request, resource: ResourceInfo, question: Obj, done: Obj) -> None:
        """The question is tracked like any object that is created."""
        manager = (request.param("fieldManager") if request.query_string else "") or options.agent(request)
        writer = Writer(manager, rfc3339(self._parts.clock.time()), {})
        found = self._parts.ownership.asked(expected(resource), question, writer)
        if found:
            done["metadata"] = {**(done.get("metadata") or {}), "managedFields": found}


def access_reviews(
    authorizer: Any, rbac: Any, tokens: Any, audiences: Any, now: Callable[[], float]
) -> dict[tuple[str, str], Answer]:
    """The built-in reviews."""
    authorization, authentication = "authorization.k8s.io", "authentication.k8s.io"

    async def subject(obj: Obj, user: User, namespace: str) -> Obj:
        return await reviews.subject_access_review(obj, authorizer)

    async def self_subject(obj: Obj, user: User, namespace: str) -> Obj:
        return await reviews.self_subject_access_review(obj, user, authorizer)

    async def local_subject(obj: Obj, user: User, namespace: str) -> Obj:
        return await reviews.local_subject_access_review(obj, namespace, authorizer)

    async def rules(obj: Obj, user: User, namespace: str) -> Obj:
        return await reviews.self_subject_rules_review(obj, user, authorizer, rbac)

    async def token(obj: Obj, user: User, namespace: str) -> Obj:
        return await reviews.token_review(obj, tokens, audiences)

    async def who_am_i(obj: Obj, user: User, namespace: str) -> Obj:
        return await reviews.self_subject_review(obj, user, now())

    return {
        (authorization, "subjectaccessreviews"): subject,
        (authorization, "selfsubjectaccessreviews"): self_subject,
        (authorization, "localsubjectaccessreviews"): local_subject,
        (authorization, "selfsubjectrulesreviews"): rules,
        (authentication, "tokenreviews"): token,
        (authentication, "selfsubjectreviews"): who_am_i,
    }
