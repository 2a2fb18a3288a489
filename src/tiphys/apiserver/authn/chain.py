"""The link that authenticates: asks each authenticator, adds system:authenticated, refuses with 401."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from tiphys.apiserver import jwt
from tiphys.apiserver.authn.notes import noting
from tiphys.base.errors import TiphysError, Unauthorized
from tiphys.base.http.types import Handler, Headers, Middleware, Request, Response
from tiphys.base.identity import ANONYMOUS, User

log = logging.getLogger(__name__)

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
WEBSOCKET_PREFIX = "base64url.bearer.authorization.k8s.io."
"""How a browser hands a token to a WebSocket: as a subprotocol."""


class Refused(TiphysError):
    """The request carries a credential that is not good; the message may be shown to who reviews a token."""


class Authenticator(Protocol):
    async def authenticate(self, request: Request) -> User | None:
        """The user, or None if the request carries no credential of this kind. Raises Refused."""
        ...


class TokenAuthenticator(Protocol):
    """An authenticator of bearer tokens; TokenReview asks these too."""

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> tuple[User, tuple[str, ...]] | None:
        """The user and those of `audiences` that the token is for; None for a token of another kind.

        Raises Refused."""
        ...


@dataclass(slots=True)
class Anonymous:
    """Who may come without a credential. One value, whose fields a reload of the configuration replaces."""

    enabled: bool = True
    paths: Collection[str] | None = None
    """Only these; None: all."""

    def allows(self, path: str) -> bool:
        return self.enabled and (self.paths is None or path in self.paths)


def authenticate(
    authenticators: Sequence[Authenticator],
    tokens: Sequence[TokenAuthenticator] = (),
    *,
    audiences: Sequence[str] = (),
    anonymous: bool | Anonymous = True,
    clear: Callable[[Headers], None] | None = None,
) -> Middleware:
    """The link. `audiences` are this server's own: a token must be for one of them. `clear` takes off headers that
    nobody behind this link may believe.

    Requests of a local client come with their user and pass."""
    strangers = anonymous if isinstance(anonymous, Anonymous) else Anonymous(anonymous)
    asked = (*authenticators, _BearerToken(tokens, audiences), _WebSocketToken(tokens, audiences))

    def middleware(handler: Handler) -> Handler:
        async def link(request: Request) -> Response:
            if request.user is None:
                request.user = await _user(request, asked, strangers)
                # Nobody behind this link (proxies above all) may see the credential.
                request.headers.pop("authorization", None)
                if clear is not None:
                    clear(request.headers)
            return await handler(request)

        return link

    return middleware


async def _user(request: Request, authenticators: Sequence[Authenticator], anonymous: Anonymous) -> User:
    refused: list[str] = []
    for authenticator in authenticators:
        try:
            user = await authenticator.authenticate(request)
        except Refused as error:
            refused.append(str(error))
            continue
        if user is not None:
            return with_group(user, AUTHENTICATED)
    if refused or not anonymous.allows(request.path):
        log.info(
            "unable to authenticate %s %s: %s", request.method, request.path, "; ".join(refused) or "no credential"
        )
        request.attributes["authentication-error"] = aggregate(refused)
        raise Unauthorized("Unauthorized")
    return ANONYMOUS


def bearer_token(request: Request) -> str | None:
    """The token of the Authorization header, None without one."""
    given = request.values("authorization")  # of several the first one counts
    scheme, _, token = given[0].strip().partition(" ") if given else ("", "", "")
    return token.split(" ")[0] or None if scheme.lower() == "bearer" else None


def websocket_token(request: Request) -> tuple[str, str] | None:
    """The token among a WebSocket's subprotocols, and the others; None without one. Raises Refused."""
    if request.headers.get("upgrade", "").lower() != "websocket":
        return None
    protocols = [each.strip() for each in request.headers.get("sec-websocket-protocol", "").split(",")]
    tokens = [each for each in protocols if each.startswith(WEBSOCKET_PREFIX)]
    others = [each for each in protocols if each and not each.startswith(WEBSOCKET_PREFIX)]
    if not tokens:
        return None
    if len(tokens) > 1:
        raise Refused("multiple base64.bearer.authorization tokens specified")
    try:
        token = jwt.decode(tokens[0].removeprefix(WEBSOCKET_PREFIX)).decode()
    except UnicodeDecodeError as error:
        raise Refused("invalid base64.bearer.authorization token") from error
    except jwt.Malformed as error:
        raise Refused("invalid base64.bearer.authorization token encoding") from error
    if token and not others:
        raise Refused("missing additional subprotocol")
    return (token, ",".join(others)) if token else None


class _BearerToken:
    """The token authenticators, as one Authenticator."""

    def __init__(self, tokens: Sequence[TokenAuthenticator], audiences: Sequence[str]) -> None:
        self._tokens, self._audiences = tokens, audiences

    async def authenticate(self, request: Request) -> User | None:
        token = bearer_token(request)
        return None if token is None else await self._ask(request, token)

    async def _ask(self, request: Request, token: str) -> User:
        with noting(request):
            user, _ = await authenticate_token(token, self._tokens, self._audiences)
        return user


class _WebSocketToken(_BearerToken):
    """The same for a token in the subprotocols, which is taken out when it was good."""

    async def authenticate(self, request: Request) -> User | None:
        found = websocket_token(request)
        if found is None:
            return None
        user = await self._ask(request, found[0])
        request.headers["sec-websocket-protocol"] = found[1]
        return user


async def authenticate_token(
    token: str, tokens: Sequence[TokenAuthenticator], audiences: Sequence[str]
) -> tuple[User, tuple[str, ...]]:
    """Whose token it is and for which of `audiences`. Raises Refused, with upstream's messages."""
    reasons: list[str] = []
    for authenticator in tokens:
        try:
            found = await authenticator.authenticate_token(token, audiences)
        except Refused as error:
            reasons.append(str(error))
            continue
        if found is not None:
            return with_group(found[0], AUTHENTICATED), found[1]
    raise Refused(aggregate(["invalid bearer token", *reasons]))


def aggregate(reasons: Sequence[str]) -> str:
    """Several reasons in one text, each once."""
    unique = list(dict.fromkeys(reasons))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]" if unique else ""


def with_group(user: User, group: str) -> User:
    """`user` as a member of `group`; the anonymous user keeps what it has."""
    if group in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return User(user.name, user.uid, (*user.groups, group), user.extra)
