"""Tokens of other issuers: found by discovery, verified, mapped, and refused for all the known tricks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tiphys.apiserver import jwt
from tiphys.base.clock import SystemClock
from tiphys.base.http.types import Request, Response

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP384R1())


class Issuer:
    """An OpenID provider: what it publishes, and the tokens that it signs."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[Any] = [RSA, EC]

    def answer(self, request: Request) -> Any:
        if request.path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if request.path == "/keys":
            return {"keys": [jwt.to_jwk(key.public_key()) for key in self.keys]}
        return Response(404)

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(SystemClock().time())
        return {"iss": self.url, "aud": "tiphys", "sub": "jane", "exp": now + 600, "iat": now, **more}

    def token(self, key: Any = RSA, **more: Any) -> str:
        return jwt.sign(self.claims(**more), key, jwt.key_id(key.public_key()))


def flags(service: Any, tmp_path: Any) -> tuple[str, ...]:
    (tmp_path / "issuer.crt").write_bytes(service.authority.certificate)
    return (
        f"--oidc-issuer-url={service.url}", "--oidc-client-id=tiphys", f"--oidc-ca-file={tmp_path}/issuer.crt",
        "--oidc-groups-claim=groups", "--oidc-groups-prefix=oidc:", "--oidc-signing-algs=RS256,ES384",
        "--oidc-required-claim=tenant=a",
    )  # fmt: skip


def test_an_issuers_users_log_in(start: Any, remote: Any, tmp_path: Any) -> None:
    issuer = Issuer()

    async def main() -> None:
        async with remote(issuer.answer) as service:
            issuer.url = service.url
            async with start(*flags(service, tmp_path)) as server:
                for key in (RSA, EC):
                    found = await server.user(token=issuer.token(key, tenant="a", groups=["x"], jti="7"))
                    assert found["username"] == f"{service.url}#jane"
                    assert found["groups"] == ["oidc:x", "system:authenticated"]
                    assert found["extra"] == {"authentication.kubernetes.io/credential-id": ["JTI=7"]}

    asyncio.run(main())


def _unsigned(claims: dict[str, Any]) -> str:
    return f"{jwt.encode(orjson.dumps({'alg': 'none'}))}.{jwt.encode(orjson.dumps(claims))}."


def _by_public_key(claims: dict[str, Any]) -> str:
    """HS256 with the public key as the secret: good where one function verifies both sorts of signature."""
    secret = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = {"alg": "HS256", "kid": jwt.key_id(RSA.public_key())}
    signed = f"{jwt.encode(orjson.dumps(head))}.{jwt.encode(orjson.dumps(claims))}"
    return f"{signed}.{jwt.encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def _own_key(claims: dict[str, Any]) -> str:
    """Signed by a key that the token itself brings along."""
    mine = rsa.generate_private_key(65537, 2048)
    head = {"alg": "RS256", "kid": jwt.key_id(RSA.public_key()), "jwk": jwt.to_jwk(mine.public_key())}
    genuine = jwt.sign(claims, mine, "x").split(".")
    return ".".join([jwt.encode(orjson.dumps(head)), *genuine[1:]])


@pytest.mark.parametrize("trick", [_unsigned, _by_public_key, _own_key])
def test_forged_tokens_are_refused(start: Any, remote: Any, tmp_path: Any, trick: Any) -> None:
    issuer = Issuer()

    async def main() -> None:
        async with remote(issuer.answer) as service:
            issuer.url = service.url
            async with start(*flags(service, tmp_path)) as server:
                assert (await server.user(token=trick(issuer.claims(tenant="a"))))["code"] == 401

    asyncio.run(main())


def test_tokens_for_others_late_or_of_the_wrong_key_are_refused(start: Any, remote: Any, tmp_path: Any) -> None:
    issuer = Issuer()

    async def main() -> None:
        async with remote(issuer.answer) as service:
            issuer.url = service.url
            async with start(*flags(service, tmp_path)) as server:
                good = issuer.token(tenant="a")
                head, body, signature = good.split(".")
                flipped = base64.urlsafe_b64decode(signature + "==")[::-1]
                bad = {
                    "another audience": issuer.token(tenant="a", aud="others"),
                    "expired": issuer.token(tenant="a", exp=1),
                    "not yet good": issuer.token(tenant="a", nbf=9_999_999_999),
                    "required claim missing": issuer.token(),
                    "required claim differs": issuer.token(tenant="b"),
                    "named key is another one": jwt.sign(issuer.claims(tenant="a"), EC, jwt.key_id(RSA.public_key())),
                    "changed signature": f"{head}.{body}.{jwt.encode(flipped)}",
                    "unsigned part added": f"{good}.x",
                    "padding": f"{good}=",
                }
                for why, token in bad.items():
                    assert (await server.user(token=token))["code"] == 401, why
                assert "username" in await server.user(token=good)

    asyncio.run(main())


CONFIGURATION = """
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {{url: {url}, audiences: [a, tiphys], audienceMatchPolicy: MatchAny, certificateAuthority: {ca}}}
  claimMappings:
    username: {{expression: "'{prefix}' + claims.sub"}}
    groups: {{expression: "claims.?roles.orValue([])"}}
    uid: {{claim: sub}}
    extra: [{{key: example.com/team, valueExpression: claims.team}}]
  claimValidationRules: [{{expression: "claims.team != 'evil'", message: "no evil"}}]
  userValidationRules: [{{expression: "!user.username.startsWith('system:')", message: reserved}}]
anonymous: {{enabled: true, conditions: [{{path: /healthz}}]}}
"""


def test_a_configuration_maps_claims_by_expressions_and_is_reloaded(start: Any, remote: Any, tmp_path: Any) -> None:
    issuer = Issuer()

    async def main() -> None:
        async with remote(issuer.answer) as service:
            issuer.url = service.url
            ca = orjson.dumps(service.authority.certificate.decode()).decode()
            path = tmp_path / "authentication.yaml"
            path.write_text(CONFIGURATION.format(url=service.url, ca=ca, prefix="x:"))
            async with start(f"--authentication-config={path}") as server:
                found = await server.user(token=issuer.token(roles=["r"], team="t"))
                assert (found["username"], found["uid"], found["groups"][0]) == ("x:jane", "jane", "r")
                assert found["extra"] == {"example.com/team": ["t"]}
                assert (await server.user(token=issuer.token(team="evil")))["code"] == 401
                assert (await server.ask("/healthz")).status == 200
                assert (await server.ask("/version")).status == 401, "anonymous is for one path only"
                draft = tmp_path / "draft"
                draft.write_text(CONFIGURATION.format(url=service.url, ca=ca, prefix="system:"))
                draft.replace(path)
                async with asyncio.timeout(10):
                    while "username" in await server.user(token=issuer.token(team="t")):
                        await asyncio.to_thread(lambda: None)

    asyncio.run(main())
