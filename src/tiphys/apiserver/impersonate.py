"""Impersonation: Impersonate-User and its companions, allowed by the verb `impersonate` (API reference, User
impersonation). The rest of the chain sees only the impersonated user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import unquote

from tiphys.apiserver.types import Authorizer, RequestInfo
from tiphys.base.errors import Forbidden, InternalError
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.identity import ANONYMOUS, User

EXTRA = "impersonate-extra-"
SERVICE_ACCOUNT = "system:serviceaccount:"


def impersonate(authorizer: Authorizer) -> Callable[[Handler], Handler]:
    """The link; costs one look into the headers for those who do not impersonate."""

    def middleware(handler: Handler) -> Handler:
        async def link(request: Request) -> Response:
            if any(name.startswith("impersonate-") for name in request.headers):
                await _impersonate(request, authorizer)
            return await handler(request)

        return link

    return middleware


async def _impersonate(request: Request, authorizer: Authorizer) -> None:
    wanted = _wanted(request)
    asker = request.user or ANONYMOUS
    for info in _questions(wanted):
        allowed, why = await authorizer.authorize(asker, info)
        if not allowed:
            raise Forbidden(_refusal(asker, info, why), details={"name": info.name, "kind": info.resource})
    for header in [name for name in request.headers if name.startswith("impersonate-")]:
        del request.headers[header]  # those behind a proxy subresource need not know
    request.attributes["impersonator"] = asker
    request.user = wanted


def _wanted(request: Request) -> User:
    headers = request.headers
    name = headers.get("impersonate-user", "")
    if not name:
        raise InternalError("requested impersonation without a user: Impersonate-User is missing")
    groups = [group.strip() for group in headers.get("impersonate-group", "").split(",") if group.strip()]
    extra = {
        unquote(key[len(EXTRA) :]): tuple(item.strip() for item in value.split(","))
        for key, value in headers.items()
        if key.startswith(EXTRA)
    }
    if name.startswith(SERVICE_ACCOUNT) and not groups:
        namespace = name.removeprefix(SERVICE_ACCOUNT).partition(":")[0]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    if name == ANONYMOUS.name:
        if "system:unauthenticated" not in groups:
            groups.append("system:unauthenticated")
    elif "system:authenticated" not in groups:
        groups.append("system:authenticated")
    return User(name, headers.get("impersonate-uid", ""), tuple(groups), extra)


def _questions(wanted: User) -> Iterator[RequestInfo]:
    """What the asker must be allowed to impersonate."""
    if wanted.name.startswith(SERVICE_ACCOUNT):
        namespace, _, name = wanted.name.removeprefix(SERVICE_ACCOUNT).partition(":")
        yield _question("", "serviceaccounts", name, namespace=namespace)
    else:
        yield _question("", "users", wanted.name)
    implied = {"system:authenticated", "system:unauthenticated"}
    if wanted.name.startswith(SERVICE_ACCOUNT):
        implied |= {"system:serviceaccounts", "system:serviceaccounts:" + wanted.name.split(":")[2]}
    for group in wanted.groups:
        if group not in implied:
            yield _question("", "groups", group)
    if wanted.uid:
        yield _question("authentication.k8s.io", "uids", wanted.uid)
    for key, values in wanted.extra.items():
        for value in values:
            yield _question("authentication.k8s.io", "userextras", value, subresource=key)


def _question(group: str, resource: str, name: str, *, namespace: str = "", subresource: str = "") -> RequestInfo:
    return RequestInfo(
        "impersonate", "", True, group, "v1", namespace=namespace, resource=resource, subresource=subresource, name=name
    )


def _refusal(asker: User, info: RequestInfo, why: str) -> str:
    where = f' in the namespace "{info.namespace}"' if info.namespace else " at the cluster scope"
    text = (
        f'{info.resource} "{info.name}" is forbidden: User "{asker.name}" cannot impersonate resource '
        f'"{info.resource}" in API group "{info.group}"{where}'
    )
    return f"{text}: {why}" if why else text
