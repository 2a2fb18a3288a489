"""Front proxies: X-Remote-User and its companions, believed only from who shows a certificate of the proxies' own
authority (API reference, "Authenticating Proxy"; how aggregated API servers hear of users).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from tiphys.apiserver.authn.certificate import VerifiedPeers
from tiphys.apiserver.authn.chain import Refused
from tiphys.base.certificates import Unverified
from tiphys.base.http.types import Headers, Request
from tiphys.base.identity import User


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """Upstream's --requestheader-* flags."""

    authority: bytes = b""
    """PEM of the CA that signs the proxies' certificates."""
    allowed_names: tuple[str, ...] = ()
    """Common names that a proxy may have; none: any."""
    usernames: tuple[str, ...] = ("X-Remote-User",)
    uids: tuple[str, ...] = ("X-Remote-Uid",)
    groups: tuple[str, ...] = ("X-Remote-Group",)
    extras: tuple[str, ...] = ("X-Remote-Extra-",)
    """What the names of headers with extra information begin with."""


STANDARD = RequestHeaders()


class FrontProxy:
    """Authenticates by headers, for peers whose certificate `peers` knows."""

    def __init__(self, settings: RequestHeaders, peers: VerifiedPeers) -> None:
        self._peers = peers
        self._allowed = frozenset(settings.allowed_names)
        self._usernames = _lower(settings.usernames)
        self._uids, self._groups, self._extras = (
            _lower(names) for names in (settings.uids, settings.groups, settings.extras)
        )
        self._clear = clearing(settings)

    async def authenticate(self, request: Request) -> User | None:
        headers = request.headers
        if not request.peer.presented or not any(headers.get(name) for name in self._usernames):
            return None
        self._check_proxy(request)
        name = _first(request, self._usernames)
        groups = tuple(group for header in self._groups for group in request.values(header) if group)
        user = User(name, _first(request, self._uids), groups, self._extra(request))
        self._clear(headers)
        return user

    def _check_proxy(self, request: Request) -> None:
        from cryptography.x509.oid import NameOID

        try:
            certificate = self._peers.verify(request.peer.presented)
        except Unverified as error:
            raise Refused(str(error)) from error
        names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if self._allowed and (not names or names[-1] not in self._allowed):
            found = names[-1] if names else ""
            raise Refused(f"x509: subject with cn={found} is not in the allowed list")

    def _extra(self, request: Request) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for prefix in self._extras:
            for name in request.headers:
                if name.startswith(prefix):
                    key = unquote(name[len(prefix) :])
                    found[key] = (*found.get(key, ()), *request.values(name))
        return found


def clearing(settings: RequestHeaders) -> Callable[[Headers], None]:
    """What removes the headers of front proxies, the standard ones and those of `settings`: nobody behind
    authentication may believe them."""
    exact = {name for each in (STANDARD, settings) for name in _lower((*each.usernames, *each.uids, *each.groups))}
    prefixes = tuple({*_lower(STANDARD.extras), *_lower(settings.extras)})

    def clear(headers: Headers) -> None:
        for name in [name for name in headers if name in exact or name.startswith(prefixes)]:
            del headers[name]

    return clear


def _lower(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _first(request: Request, names: Iterable[str]) -> str:
    """The first value of the first field that has one."""
    return next((request.values(name)[0] for name in names if request.headers.get(name)), "")
