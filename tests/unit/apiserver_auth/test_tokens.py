"""Tokens: keys and algorithms that fit each other, and what a token of a service account is bound to."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tiphys.apiserver import jwt
from tiphys.apiserver.authn import Refused, ServiceAccounts, authenticate_token
from tiphys.apiserver.tokens import Binding, InvalidToken, TokenIssuer, TokenSettings, new_key

RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "RS256": RSA,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
}
KEYS["ES512"] = ec.generate_private_key(ec.SECP521R1())
ACCOUNT: dict[str, Any] = {"metadata": {"name": "robot", "namespace": "default", "uid": "u1"}}


class Fixed:
    now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def private(key: Any) -> bytes:
    found: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return found


def public(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


@pytest.mark.parametrize("algorithm", list(KEYS))
def test_each_kind_of_key_signs_by_its_algorithm_and_no_other_key_verifies_it(algorithm: str) -> None:
    key = KEYS[algorithm]
    token = jwt.parse(jwt.sign({"a": 1}, key, "k"))
    assert token.algorithm == algorithm
    for other, found in KEYS.items():
        assert jwt.verify(token, found.public_key()) is (other == algorithm)
    assert jwt.from_jwk(jwt.to_jwk(key.public_key())).public_numbers() == key.public_key().public_numbers()


def test_a_keys_algorithm_cannot_be_changed_by_the_header() -> None:
    claims = jwt.encode(b'{"a":1}')
    for header in ({"alg": "none"}, {"alg": "HS256"}, {"alg": "ES256"}, {"alg": "RS256 "}, {}, {"alg": ["RS256"]}):
        signed = f"{jwt.encode(orjson.dumps(header))}.{claims}"
        mac = hmac.new(public(RSA), signed.encode(), hashlib.sha256).digest()
        for signature in (b"", mac):
            assert not jwt.verify(jwt.parse(f"{signed}.{jwt.encode(signature)}"), RSA.public_key())


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c.d", "!.!.!", "e30.W10.", "e30=.e30.", "e30.e30.A", "eyJjcml0IjpbImIiXX0.e30.", "é.é.é"]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(jwt.Malformed):
        jwt.parse(text)


def test_tokens_of_an_rsa_key_and_of_keys_that_only_verify_are_good() -> None:
    clock = Fixed()
    old, new = TokenIssuer(private(RSA), clock=clock), new_key()
    files = (public(RSA), private(KEYS["ES256"]))
    issuer = TokenIssuer(new, clock=clock, verification_keys=(*files, new))
    other = TokenIssuer(private(KEYS["ES256"]), clock=clock)
    for each in (old, other, issuer):
        assert issuer.verify(each.issue(ACCOUNT))["sub"] == "system:serviceaccount:default:robot"
    assert len(issuer.jwks()["keys"]) == 3
    assert issuer.discovery("u")["id_token_signing_alg_values_supported"] == ["ES256", "RS256"]
    with pytest.raises(InvalidToken):
        TokenIssuer(new, clock=clock, verification_keys=files).verify(issuer.issue(ACCOUNT))


def test_a_token_is_checked_by_the_key_that_it_names() -> None:
    clock = Fixed()
    issuer = TokenIssuer(private(RSA), clock=clock, verification_keys=(public(RSA), public(KEYS["ES256"])))
    claims = issuer.verify(issuer.issue(ACCOUNT))
    with pytest.raises(InvalidToken):
        issuer.verify(jwt.sign(claims, KEYS["ES256"], jwt.key_id(RSA.public_key())))


@pytest.mark.parametrize(
    "change",
    [
        {"kubernetes.io": None},
        {"kubernetes.io": {"namespace": "default"}},
        {"kubernetes.io": {"namespace": [], "serviceaccount": {"name": "robot"}}},
        {"kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "robot"}, "pod": "x"}},
        {"exp": "never"},
        {"aud": {"a": 1}},
    ],
)
def test_signed_claims_of_the_wrong_shape_are_refused_not_stumbled_over(change: Any) -> None:
    issuer = TokenIssuer(private(RSA), clock=Fixed())
    claims = {**issuer.verify(issuer.issue(ACCOUNT)), **change}
    with pytest.raises(InvalidToken):
        issuer.verify(jwt.sign(claims, RSA, "k"))


def test_pods_tokens_outlive_their_time_only_as_far_as_allowed() -> None:
    clock, pod = Fixed(), Binding(pod={"metadata": {"name": "p", "uid": "p1"}})

    def life(settings: TokenSettings) -> float:
        issuer = TokenIssuer(private(RSA), clock=clock, settings=settings)
        return float(issuer.verify(issuer.issue(ACCOUNT, seconds=3607, binding=pod))["exp"]) - clock.now

    assert life(TokenSettings()) == 365 * 24 * 3600
    assert life(TokenSettings(extend=False)) == 3607
    assert life(TokenSettings(longest=86400)) == 86400


@pytest.mark.parametrize(("plural", "word"), [("pods", "pod"), ("secrets", "secret"), ("nodes", "node")])
def test_a_token_dies_with_what_it_is_bound_to_even_if_that_comes_back(reader: Any, plural: str, word: str) -> None:
    clock = Fixed()
    issuer = TokenIssuer(private(RSA), clock=clock)
    reader.add("", "serviceaccounts", ACCOUNT)
    where = {} if plural == "nodes" else {"namespace": "default"}
    bound = reader.add("", plural, {"metadata": {"name": "b", "uid": "b1", **where}})
    token = issuer.issue(ACCOUNT, binding=Binding(**{word: bound}))
    tokens = [ServiceAccounts(issuer, reader, clock)]
    user, _ = asyncio.run(authenticate_token(token, tokens, issuer.audiences))
    assert user.extra["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
    reader.remove("", plural, where.get("namespace", ""), "b")
    with pytest.raises(Refused, match="service account token has been invalidated"):
        asyncio.run(authenticate_token(token, tokens, issuer.audiences))
    reader.add("", plural, {"metadata": {"name": "b", "uid": "b2", **where}})
    with pytest.raises(Refused, match=rf"{word} UID \(b2\) does not match service account {word} ref claim \(b1\)"):
        asyncio.run(authenticate_token(token, tokens, issuer.audiences))


def test_a_token_for_somebody_else_is_not_for_this_server(reader: Any) -> None:
    clock = Fixed()
    issuer = TokenIssuer(private(RSA), clock=clock)
    reader.add("", "serviceaccounts", ACCOUNT)
    tokens = [ServiceAccounts(issuer, reader, clock)]
    token = issuer.issue(ACCOUNT, audiences=["vault"])
    with pytest.raises(Refused, match="is invalid for the target audiences"):
        asyncio.run(authenticate_token(token, tokens, issuer.audiences))
    assert asyncio.run(authenticate_token(token, tokens, ["vault", "x"]))[1] == ("vault",)
