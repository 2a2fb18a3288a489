"""Authenticates the tokens of one issuer: signature, time, audience, then what its rules say of the claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.apiserver import jwt
from tiphys.apiserver.authn.certificate import CREDENTIAL_ID
from tiphys.apiserver.authn.chain import Refused
from tiphys.apiserver.authn.oidc.config import Issuer
from tiphys.apiserver.authn.oidc.keys import IssuerKeys
from tiphys.apiserver.authn.oidc.rules import Claims, Rule, Source
from tiphys.base.clock import Clock, utc
from tiphys.base.identity import User

LEEWAY = 300.0
"""Seconds by which a token may be early."""
NOT_TEXTS = "expression must return a string or a list of strings"


class IssuerTokens:
    """A TokenAuthenticator. `audiences` are this server's own, which its tokens count for."""

    def __init__(
        self, issuer: Issuer, keys: IssuerKeys, clock: Clock, audiences: Sequence[str], algorithms: Sequence[str]
    ) -> None:
        self._issuer, self._keys, self._clock = issuer, keys, clock
        self._audiences, self._algorithms = tuple(audiences), tuple(algorithms)

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> tuple[User, tuple[str, ...]] | None:
        if jwt.issuer_of(token) != self._issuer.url:
            return None
        common = tuple(each for each in audiences if each in self._audiences)
        if audiences and not common:
            return None
        claims = await self._verify(token)
        try:
            user = self._user(claims)
            self._check(claims, user)
        except jwt.Malformed as error:
            raise Refused(str(error)) from error
        return user, common

    async def _verify(self, text: str) -> Claims:
        try:
            token = jwt.parse(text)
        except jwt.Malformed as error:
            raise Refused(f"oidc: verify token: oidc: malformed jwt: {error}") from error
        if not self._keys.ready:
            await self._keys.fetch()
        if not self._keys.ready:
            raise Refused("oidc: authenticator not initialized")
        audience = _texts(token.claims.get("aud"))
        if not set(audience) & set(self._issuer.audiences):
            wanted, got = (" ".join(f'"{each}"' for each in some) for some in (self._issuer.audiences, audience))
            raise Refused(f"oidc: verify token: oidc: expected audience in [{wanted}] got [{got}]")
        self._check_time(token.claims)
        if token.algorithm not in self._algorithms:
            wanted = " ".join(f'"{each}"' for each in self._algorithms)
            raise Refused(
                "oidc: verify token: oidc: id token signed with unsupported algorithm, expected "
                f'[{wanted}] got "{token.algorithm}"'
            )
        if not any(jwt.verify(token, each.key) for each in await self._keys.candidates(token.key_id)):
            raise Refused("oidc: verify token: failed to verify signature: failed to verify id token signature")
        return token.claims

    def _check_time(self, claims: Claims) -> None:
        now, expiry, before = self._clock.time(), claims.get("exp"), claims.get("nbf")
        until = expiry if isinstance(expiry, int | float) and _is_number(expiry) else None
        if until is None or until < now:
            when = _go_time(until) if until is not None else "0001-01-01 00:00:00 +0000 UTC"
            raise Refused(f"oidc: verify token: oidc: token is expired (Token Expiry: {when})")
        if before is not None and (not _is_number(before) or now + LEEWAY < before):
            raise Refused("oidc: verify token: oidc: current time is before the nbf (not before) time")

    def _user(self, claims: Claims) -> User:
        mapping = self._issuer.mapping
        extra: dict[str, tuple[str, ...]] = {}
        if isinstance(claims.get("jti"), str) and claims["jti"]:
            extra[CREDENTIAL_ID] = (f"JTI={claims['jti']}",)
        name, groups = _username(mapping.username, claims), _groups(mapping.groups, claims)
        uid = _uid(mapping.uid, claims)
        for key, source in mapping.extra:
            values = _evaluated_texts(source, claims, f"extra claim expression: {source.expression}")
            if values:
                extra[key] = values
        return User(name, uid, groups, extra)

    def _check(self, claims: Claims, user: User) -> None:
        for claim, wanted in self._issuer.mapping.required:
            if claim not in claims:
                raise Refused(f"oidc: required claim {claim} not present in ID token")
            if claims[claim] != wanted:
                got = claims[claim]
                raise Refused(f"oidc: required claim {claim} value does not match. Got = {got}, want = {wanted}")
        _hold(self._issuer.mapping.claim_rules, {"claims": claims}, "claim validation expression")
        if self._issuer.mapping.user_rules:
            extra = {key: list(values) for key, values in user.extra.items()}
            info = {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": extra}
            _hold(self._issuer.mapping.user_rules, {"user": info}, "user info validation rule")


def _hold(rules: Sequence[Rule], variables: Mapping[str, Any], what: str) -> None:
    """Raises Refused for the first rule that does not hold."""
    from tiphys.api.cel import Budget, CelError

    for rule in rules:
        try:
            holds = rule.program.run(variables, Budget())
        except CelError as error:
            raise Refused(f"oidc: error evaluating {what}: {error}") from error
        if holds is not True:
            detail = f"validation expression '{rule.expression}' failed: {rule.message}"
            raise Refused(f"oidc: error evaluating {what}: {detail}")


def _username(source: Source, claims: Claims) -> str:
    if source.program is not None:
        name = _evaluate(source, claims, "username claim expression")
        if not isinstance(name, str):
            raise Refused(
                "oidc: error evaluating username claim expression: username claim expression must return a string"
            )
        if not name:
            raise Refused("oidc: empty username via CEL expression is not allowed")
        return name
    name = claims.get(source.claim)
    if not isinstance(name, str):
        missing = "claim not present" if source.claim not in claims else "claim is not a string"
        raise Refused(f'oidc: parse username claims "{source.claim}": {missing}')
    if source.claim == "email" and "email_verified" in claims and claims["email_verified"] is not True:
        raise Refused("oidc: email not verified")
    return source.prefix + name


def _groups(source: Source, claims: Claims) -> tuple[str, ...]:
    if source.program is not None:
        return _evaluated_texts(source, claims, "group claim expression")
    if not source.claim or source.claim not in claims:
        return ()
    value = claims[source.claim]
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise Refused(f'oidc: parse groups claim "{source.claim}": neither a string nor a list of strings')
    return tuple(source.prefix + each for each in values)


def _uid(source: Source, claims: Claims) -> str:
    if source.program is None and not source.claim:
        return ""
    if source.program is None:
        found = claims.get(source.claim)
        if not isinstance(found, str):
            missing = "claim not present" if source.claim not in claims else "claim is not a string"
            raise Refused(f'oidc: parse uid claim "{source.claim}": {missing}')
        return found
    found = _evaluate(source, claims, "uid claim expression")
    if not isinstance(found, str):
        raise Refused("oidc: error evaluating uid claim expression: uid claim expression must return a string")
    return found


def _evaluate(source: Source, claims: Claims, what: str) -> Any:
    from tiphys.api.cel import Budget, CelError

    assert source.program is not None
    try:
        return source.program.run({"claims": claims}, Budget())
    except CelError as error:
        raise Refused(f"oidc: error evaluating {what}: {error}") from error


def _evaluated_texts(source: Source, claims: Claims, what: str) -> tuple[str, ...]:
    value = _evaluate(source, claims, what)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise Refused(f"oidc: error evaluating {what}: {NOT_TEXTS}")
    return tuple(each for each in values if each)


def _texts(value: Any) -> list[str]:
    """An `aud` claim: a string or a list of strings."""
    values = [value] if isinstance(value, str) else value
    return [each for each in values if isinstance(each, str)] if isinstance(values, list) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _go_time(seconds: float) -> str:
    try:
        return utc(seconds).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
    except (OverflowError, ValueError, OSError):
        return str(seconds)
