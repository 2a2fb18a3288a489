"""Impersonation: Impersonate-User and its companions (API reference, User impersonation). The rest of the chain sees
only the impersonated user.

Two sorts of permission allow it. The verb `impersonate` on users, groups and so on allows everything that these may do.
Constrained impersonation (KEP-5284) allows certain actions on behalf of a certain sort of user: it takes both
`impersonate-on:<mode>:<verb>` on what the request is about and `impersonate:<mode>` on the identity. The constrained
modes are tried first, what allowed this requestor the last time before them; a refusal is the first one's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote

from tiphys.api.kinds.base import quote
from tiphys.api.validation.names import dns_label, dns_subdomain
from tiphys.apiserver.authz.chain import Reason, refusal
from tiphys.apiserver.types import Authorizer, RequestInfo
from tiphys.base.errors import BadRequest, Forbidden
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.identity import ANONYMOUS, User

PREFIX = "impersonate-"
EXTRA = "impersonate-extra-"
NAMED = ("impersonate-user", "impersonate-group", "impersonate-uid")
SERVICE_ACCOUNT, NODE = "system:serviceaccount:", "system:node:"
NODE_OF_ACCOUNT = "authentication.kubernetes.io/node-name"
NODE_KEYS = "authentication.kubernetes.io/associated-node-keys"
AUTHENTICATED, UNAUTHENTICATED, MASTERS = "system:authenticated", "system:unauthenticated", "system:masters"
AUTHENTICATION = "authentication.k8s.io"
MANY = 4
"""So many groups or extra values are first asked for all at once."""
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants to be whom, to do what."""

    requestor: User
    wanted: User
    info: RequestInfo


def impersonate(authorizer: Authorizer) -> Callable[[Handler], Handler]:
    """The link; costs one look into the headers for those who do not impersonate."""
    modes = Modes(authorizer)

    def middleware(handler: Handler) -> Handler:
        async def link(request: Request) -> Response:
            if PREFIX in "\n".join(request.headers):  # nearly always there is none: one search is faster than many
                wanted = wanted_user(request)
                if wanted is not None:
                    await _become(request, wanted, modes)
            return await handler(request)

        return link

    return middleware


async def _become(request: Request, wanted: User, modes: Modes) -> None:
    requestor = request.user or ANONYMOUS
    user, constraint = await modes.allowed(Question(requestor, wanted, request.attributes["info"]))
    for header in [name for name in request.headers if name in NAMED or name.startswith(EXTRA)]:
        del request.headers[header]  # those behind a proxy subresource need not know
    request.attributes["impersonator"] = requestor
    request.user = user
    if "audit" in request.attributes:
        request.attributes["audit"].impersonated(user, constraint)


def wanted_user(request: Request) -> User | None:
    """Whom the headers ask for, as they say it; None for nobody. Raises BadRequest."""
    name, uid = (request.values(header)[:1] for header in ("impersonate-user", "impersonate-uid"))
    groups = request.values("impersonate-group")
    extra: dict[str, tuple[str, ...]] = {}
    for header in request.headers:
        if header.startswith(EXTRA):
            key = unquote(header[len(EXTRA) :])
            extra[key] = (*extra.get(key, ()), *request.values(header))
    wanted = User(name[0] if name else "", uid[0] if uid else "", tuple(groups), extra)
    if wanted.name:
        return wanted
    if wanted.uid or groups or extra:
        raise BadRequest(f"requested {_go_user(wanted)} without impersonating a user name")
    return None


class Modes:
    """All ways in which an impersonation can be allowed."""

    def __init__(self, authorizer: Authorizer) -> None:
        ask = _Asker(authorizer)
        kinds = (_AssociatedNode, _ArbitraryNode, _ServiceAccount, _UserInfo, _Legacy)
        self._modes: tuple[_Legacy, ...] = tuple(kind(ask) for kind in kinds)
        self._last: dict[str, int] = {}

    async def allowed(self, question: Question) -> tuple[User, str]:
        """The user that it becomes, and the verb that allowed it ("" for `impersonate`). Raises Forbidden."""
        first: Forbidden | None = None
        for index in self._order(question.requestor.name):
            mode = self._modes[index]
            if not mode.concerns(question):
                continue
            try:
                user = await mode.check(question)
            except Forbidden as error:
                first = first or error
                continue
            if len(self._last) >= REMEMBERED:
                self._last.clear()
            self._last[question.requestor.name] = index
            return user, mode.constraint
        raise first or Forbidden("all impersonation modes failed")

    def _order(self, requestor: str) -> Iterator[int]:
        last = self._last.get(requestor)
        if last is not None:
            yield last
        yield from (index for index in range(len(self._modes)) if index != last)


class _Asker:
    """Asks the authorizer. Raises Forbidden with upstream's message."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def confirm(self, user: User, info: RequestInfo) -> None:
        allowed, reason = await self._authorizer.authorize(user, info)
        if not allowed:
            trouble = reason.trouble if isinstance(reason, Reason) else ""
            raise refusal(user, info, ": ".join(part for part in (trouble, str(reason)) if part))


class _Legacy:
    """`impersonate` on users, groups, service accounts, UIDs and extras."""

    verb, group = "impersonate", ""
    constraint = ""

    def __init__(self, asker: _Asker) -> None:
        self._asker = asker

    def concerns(self, question: Question) -> bool:
        return True

    async def check(self, question: Question) -> User:
        return await self._identity(question.requestor, question.wanted)

    async def _identity(self, requestor: User, wanted: User) -> User:
        """The user as it will be, if all of it may be impersonated."""
        groups = await self._check_name(requestor, wanted)
        if wanted.uid:
            await self._asker.confirm(requestor, self._about("uids", wanted.uid, AUTHENTICATION))
        await self._check_groups(requestor, wanted.groups)
        await self._check_extra(requestor, wanted.extra)
        return replace(wanted, groups=_with_standing(wanted.name, groups))

    async def _check_name(self, requestor: User, wanted: User) -> tuple[str, ...]:
        info, groups = self._about("users", wanted.name), wanted.groups
        account = account_of(wanted.name)
        if account is not None:
            namespace, name = account
            info = replace(info, resource="serviceaccounts", namespace=namespace, name=name)
            groups = groups or ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        await self._asker.confirm(requestor, info)
        return groups

    async def _check_groups(self, requestor: User, groups: tuple[str, ...]) -> None:
        for group in groups:
            await self._asker.confirm(requestor, self._about("groups", group))

    async def _check_extra(self, requestor: User, extra: Mapping[str, tuple[str, ...]]) -> None:
        for key, values in extra.items():
            for value in values:
                info = replace(self._about("userextras", value, AUTHENTICATION), subresource=key)
                await self._asker.confirm(requestor, info)

    def _about(self, resource: str, name: str, group: str | None = None) -> RequestInfo:
        where = self.group if group is None else group
        return RequestInfo(self.verb, "", True, where, "v1", resource=resource, name=name)


class _Constrained(_Legacy):
    """What the constrained modes have in common; each has its `mode` and the users that it is for."""

    mode = ""
    group = AUTHENTICATION

    def __init__(self, asker: _Asker) -> None:
        super().__init__(asker)
        self.verb = self.constraint = f"impersonate:{self.mode}"

    async def check(self, question: Question) -> User:
        requestor = self._as_asked(question.requestor)
        action = replace(question.info, verb=f"impersonate-on:{self.mode}:{question.info.verb}")
        await self._asker.confirm(requestor, action)
        return await self._identity(requestor, question.wanted)

    def _as_asked(self, requestor: User) -> User:
        return requestor

    async def _check_groups(self, requestor: User, groups: tuple[str, ...]) -> None:
        about = self._about("groups", "")
        if "" in groups:
            raise refusal(requestor, about, "impersonating the empty string group is not allowed")
        if MASTERS in groups:
            about = replace(about, name=MASTERS)
            raise refusal(requestor, about, "impersonating the system:masters group is not allowed")
        if len(groups) < MANY or not await self._all_allowed(requestor, replace(about, name="*")):
            await super()._check_groups(requestor, groups)

    async def _check_extra(self, requestor: User, extra: Mapping[str, tuple[str, ...]]) -> None:
        about = self._about("userextras", "", AUTHENTICATION)
        problem = _extra_problem(extra)
        if problem:
            raise refusal(requestor, about, problem)
        many = len(extra) >= MANY or sum(map(len, extra.values())) >= MANY
        if not many or not await self._all_allowed(requestor, replace(about, subresource="*", name="*")):
            await super()._check_extra(requestor, extra)

    async def _all_allowed(self, requestor: User, info: RequestInfo) -> bool:
        try:
            await self._asker.confirm(requestor, info)
        except Forbidden:
            return False
        return True


class _ArbitraryNode(_Constrained):
    """Any node, by name."""

    mode = "arbitrary-node"

    def concerns(self, question: Question) -> bool:
        return only_named(question.wanted) and node_of(question.wanted.name) is not None

    async def _check_name(self, requestor: User, wanted: User) -> tuple[str, ...]:
        about = self._about("nodes", self._node_name(node_of(wanted.name) or ""))
        await self._asker.confirm(requestor, about)
        return ("system:nodes",)

    def _node_name(self, name: str) -> str:
        return name


class _AssociatedNode(_ArbitraryNode):
    """The node that a service account's pod is on: one permission for all nodes."""

    mode = "associated-node"

    def concerns(self, question: Question) -> bool:
        requestor = question.requestor
        own = requestor.extra.get(NODE_OF_ACCOUNT, ())
        return (
            super().concerns(question)
            and account_of(requestor.name) is not None
            and tuple(own) == (node_of(question.wanted.name),)
        )

    def _as_asked(self, requestor: User) -> User:
        return replace(requestor, extra={NODE_KEYS: tuple(sorted(requestor.extra))})

    def _node_name(self, name: str) -> str:
        return "*"


class _ServiceAccount(_Constrained):
    """A service account, with the groups that it has."""

    mode = "serviceaccount"

    def concerns(self, question: Question) -> bool:
        return only_named(question.wanted) and account_of(question.wanted.name) is not None


class _UserInfo(_Constrained):
    """Anybody else."""

    mode = "user-info"

    def concerns(self, question: Question) -> bool:
        return node_of(question.wanted.name) is None and account_of(question.wanted.name) is None


def only_named(user: User) -> bool:
    return not (user.uid or user.groups or user.extra)


def node_of(name: str) -> str | None:
    """The node that a user name is of; None for others."""
    node = name.removeprefix(NODE)
    return node if name.startswith(NODE) and not dns_subdomain(node) else None


def account_of(name: str) -> tuple[str, str] | None:
    """Namespace and name of the service account that a user name is of; None for others."""
    parts = name.removeprefix(SERVICE_ACCOUNT).split(":")
    if not name.startswith(SERVICE_ACCOUNT) or len(parts) != 2 or dns_label(parts[0]) or dns_subdomain(parts[1]):
        return None
    return parts[0], parts[1]


def _with_standing(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    """With the group that says whether the user has been authenticated."""
    if name == ANONYMOUS.name:
        return groups if UNAUTHENTICATED in groups else (*groups, UNAUTHENTICATED)
    return groups if UNAUTHENTICATED in groups or AUTHENTICATED in groups else (*groups, AUTHENTICATED)


def _extra_problem(extra: Mapping[str, tuple[str, ...]]) -> str:
    for key, values in extra.items():
        if not key:
            return "impersonating the empty string key in extra is not allowed"
        domain, slash, path = key.partition("/")
        if not slash or not path or dns_subdomain(domain):
            detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
            error = f"extra.key: Invalid value: {quote(key)}: {detail}"
            return f"impersonating an invalid key in extra is not allowed: {error}"
        if key != key.lower():
            return f"impersonating a non-lowercase key in extra is not allowed: {quote(key)}"
        if "" in values:
            return "impersonating the empty string value in extra is not allowed"
    return ""


def _go_user(user: User) -> str:
    """As Go's %#v prints it."""

    def texts(values: tuple[str, ...]) -> str:
        return "{" + ", ".join(quote(value) for value in values) + "}"

    groups = f"[]string{texts(user.groups)}" if user.groups else "[]string(nil)"
    pairs = ", ".join(f"{quote(key)}:[]string{texts(values)}" for key, values in sorted(user.extra.items()))
    extra = f"map[string][]string{{{pairs}}}" if user.extra else "map[string][]string(nil)"
    return f"&user.DefaultInfo{{Name:{quote(user.name)}, UID:{quote(user.uid)}, Groups:{groups}, Extra:{extra}}}"
