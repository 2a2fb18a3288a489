"""The link that authenticates: asks each authenticator, adds system:authenticated, refuses with 401."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from tiphys.base.errors import TiphysError, Unauthorized
from tiphys.base.http.types import Handler, Middleware, Request, Response
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


def authenticate(
    authenticators: Sequence[Authenticator],
    tokens: Sequence[TokenAuthenticator] = (),
    *,
    audiences: Sequence[str] = (),
    anonymous: bool = True,
) -> Middleware:
    """The link. `audiences` are this server's own: a token must be for one of them.

    Requests of a local client come with their user and pass."""

    def middleware(handler: Handler) -> Handler:
        async def link(request: Request) -> Response:
            if request.user is None:
                request.user = await _user(request, authenticators, tokens, audiences, anonymous)
            return await handler(request)

        return link

    return middleware


async def _user(
    request: Request,
    authenticators: Sequence[Authenticator],
    tokens: Sequence[TokenAuthenticator],
    audiences: Sequence[str],
    anonymous: bool,
) -> User:
    refused: Refused | None = None
    for authenticator in (*authenticators, _BearerToken(tokens, audiences)):
        try:
            user = await authenticator.authenticate(request)
        except Refused as error:
            refused = error
            continue
        if user is not None:
            # Nobody behind this link (proxies above all) may see the credential.
            request.headers.pop("authorization", None)
            return user
    if refused is not None or not anonymous:
        log.info("unable to authenticate %s %s: %s", request.method, request.path, refused or "no credential")
        raise Unauthorized("Unauthorized")
    return ANONYMOUS


def bearer_token(request: Request) -> str | None:
    """The token of the Authorization header or of the WebSocket subprotocols, None without one."""
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return token.strip() or None
    for protocol in request.headers.get("sec-websocket-protocol", "").split(","):
        encoded = protocol.strip()
        if encoded.startswith(WEBSOCKET_PREFIX):
            return _websocket_token(request, encoded)
    return None


def _websocket_token(request: Request, protocol: str) -> str | None:
    text = protocol.removeprefix(WEBSOCKET_PREFIX)
    try:
        token = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    others = [p.strip() for p in request.headers["sec-websocket-protocol"].split(",") if p.strip() != protocol]
    request.headers["sec-websocket-protocol"] = ", ".join(others)
    return token


class _BearerToken:
    """The token authenticators, as one Authenticator."""

    def __init__(self, tokens: Sequence[TokenAuthenticator], audiences: Sequence[str]) -> None:
        self._tokens, self._audiences = tokens, audiences

    async def authenticate(self, request: Request) -> User | None:
        token = bearer_token(request)
        if token is None:
            return None
        user, _ = await authenticate_token(token, self._tokens, self._audiences)
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
    reasons = list(dict.fromkeys(["invalid bearer token", *reasons]))
    raise Refused(reasons[0] if len(reasons) == 1 else f"[{', '.join(reasons)}]")


def with_group(user: User, group: str) -> User:
    """`user` as a member of `group`; the anonymous user keeps what it has."""
    if group in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return replace(user, groups=(*user.groups, group))
