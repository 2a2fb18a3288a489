"""Who is asking: certificates, static tokens, service account and bootstrap tokens, nobody."""

from __future__ import annotations

import asyncio
import base64
import datetime
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from tiphys.apiserver.authn import (
    Authenticator,
    BootstrapTokens,
    Certificates,
    Refused,
    ServiceAccounts,
    TokenAuthenticator,
    TokenFile,
    authenticate,
    authenticate_token,
)
from tiphys.apiserver.authn.token_file import parse
from tiphys.apiserver.authz.reviews import self_subject_review, token_review
from tiphys.apiserver.tokens import Binding, TokenIssuer, new_key
from tiphys.base.errors import BadRequest, Unauthorized
from tiphys.base.http.types import Peer, Request, Response
from tiphys.base.identity import ANONYMOUS, User

KEY = new_key()
TABLE = 'secret,admin,1,"system:masters,devs"\nplain,bob,2\n'


class FixedClock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def issuer(clock: FixedClock) -> TokenIssuer:
    return TokenIssuer(KEY, clock=clock)


@pytest.fixture
def account(reader: Any) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "shop", "uid": "u1"}
    return reader.add("", "serviceaccounts", {"metadata": metadata})  # type: ignore[no-any-return]


def who(
    request: Request,
    authenticators: Sequence[Authenticator] = (),
    tokens: Sequence[TokenAuthenticator] = (),
    **options: Any,
) -> User:
    """The user that the link lets through."""
    seen: list[User | None] = []

    async def handler(request: Request) -> Response:
        seen.append(request.user)
        return Response()

    asyncio.run(_call(authenticate(authenticators, tokens, **options)(handler), request))
    assert seen[0] is not None
    return seen[0]


async def _call(handler: Any, request: Request) -> None:
    await handler(request)


def bearer(token: str) -> Request:
    return Request("GET", "/api", headers={"authorization": f"Bearer {token}"})


def certificate(*attributes: tuple[x509.ObjectIdentifier, str]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])
    start = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1))
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def test_a_certificate_names_user_and_groups() -> None:
    oid = x509.NameOID
    der = certificate((oid.COMMON_NAME, "jane"), (oid.ORGANIZATION_NAME, "devs"), (oid.ORGANIZATION_NAME, "ops"))
    user = who(Request("GET", "/", peer=Peer(certificate=der)), [Certificates()])
    assert user.name == "jane"
    assert set(user.groups) == {"devs", "ops", "system:authenticated"}
    assert user.extra["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


def test_a_certificate_without_common_name_is_nobody() -> None:
    der = certificate((x509.NameOID.ORGANIZATION_NAME, "devs"))
    assert who(Request("GET", "/", peer=Peer(certificate=der)), [Certificates()]) == ANONYMOUS


def test_a_static_token_is_its_user_and_the_token_goes_no_further() -> None:
    request = bearer("secret")
    user = who(request, tokens=[TokenFile(parse(TABLE.splitlines()))])
    assert user == User("admin", "1", ("system:masters", "devs", "system:authenticated"))
    assert "authorization" not in request.headers


def test_a_token_may_come_as_a_websocket_subprotocol() -> None:
    encoded = base64.urlsafe_b64encode(b"plain").decode().rstrip("=")
    offered = f"v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{encoded}"
    request = Request("GET", "/", headers={"upgrade": "websocket", "sec-websocket-protocol": offered})
    assert who(request, tokens=[TokenFile(parse(TABLE.splitlines()))]).name == "bob"
    assert request.headers["sec-websocket-protocol"] == "v4.channel.k8s.io"


@pytest.mark.parametrize(("line", "message"), [("only", "line 1: needs at least 3 columns"), ("a,b", "has 2")])
def test_a_malformed_token_file_names_the_line(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse([line])


def test_no_credential_is_anonymous_unless_forbidden() -> None:
    assert who(Request("GET", "/")) == ANONYMOUS
    with pytest.raises(Unauthorized) as caught:
        who(Request("GET", "/"), anonymous=False)
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }


def test_a_bad_token_is_refused_and_not_anonymous() -> None:
    with pytest.raises(Unauthorized):
        who(bearer("wrong"), tokens=[TokenFile(parse(TABLE.splitlines()))])


def test_a_local_client_keeps_its_user() -> None:
    assert who(Request("GET", "/", user=User("system:kube-scheduler"))).name == "system:kube-scheduler"


def test_a_bound_token_stands_for_its_account_while_the_pod_lives(
    reader: Any, issuer: TokenIssuer, clock: FixedClock, account: dict[str, Any]
) -> None:
    pod = reader.add("", "pods", {"metadata": {"name": "web-1", "namespace": "shop", "uid": "p1"}, "spec": {}})
    node = {"metadata": {"name": "n1", "uid": "n-uid"}}
    token = issuer.issue(account, binding=Binding(pod=pod, node=node))
    tokens = [ServiceAccounts(issuer, reader, clock)]
    user = who(bearer(token), tokens=tokens, audiences=issuer.audiences)
    assert (user.name, user.uid) == ("system:serviceaccount:shop:web", "u1")
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("web-1",)
    assert user.extra["authentication.kubernetes.io/node-uid"] == ("n-uid",)
    assert user.extra["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
    reader.remove("", "pods", "shop", "web-1")
    with pytest.raises(Unauthorized):
        who(bearer(token), tokens=tokens, audiences=issuer.audiences)


def test_a_token_dies_with_its_account_or_its_time(
    reader: Any, issuer: TokenIssuer, clock: FixedClock, account: dict[str, Any]
) -> None:
    token = issuer.issue(account, seconds=600)
    tokens = [ServiceAccounts(issuer, reader, clock)]

    def refusal() -> str:
        with pytest.raises(Refused) as caught:
            asyncio.run(authenticate_token(token, tokens, issuer.audiences))
        return str(caught.value)

    asyncio.run(authenticate_token(token, tokens, issuer.audiences))
    account["metadata"]["uid"] = "u2"
    assert refusal() == "[invalid bearer token, service account UID (u2) does not match claim (u1)]"
    account["metadata"]["uid"] = "u1"
    clock.now += 661  # clocks may differ by a minute
    assert refusal() == "[invalid bearer token, service account token has expired]"


def test_a_pods_default_token_outlives_its_requested_hour(
    reader: Any, issuer: TokenIssuer, clock: FixedClock, account: dict[str, Any]
) -> None:
    pod = {"metadata": {"name": "p", "uid": "p1"}}
    claims = issuer.verify(issuer.issue(account, seconds=3607, binding=Binding(pod=pod)))
    assert claims["exp"] - claims["iat"] == 365 * 24 * 3600
    assert claims["kubernetes.io"]["warnafter"] - claims["iat"] == 3607


def test_a_token_for_another_audience_is_refused(
    reader: Any, issuer: TokenIssuer, clock: FixedClock, account: dict[str, Any]
) -> None:
    token = issuer.issue(account, audiences=["vault"])
    tokens = [ServiceAccounts(issuer, reader, clock)]
    with pytest.raises(Unauthorized):
        who(bearer(token), tokens=tokens, audiences=issuer.audiences)
    assert asyncio.run(authenticate_token(token, tokens, ["vault", "x"]))[1] == ("vault",)


def test_a_token_that_was_tampered_with_is_refused(
    reader: Any, issuer: TokenIssuer, clock: FixedClock, account: dict[str, Any]
) -> None:
    head, _, rest = issuer.issue(account).partition(".")
    other = issuer.issue({"metadata": {"name": "root", "namespace": "shop", "uid": "u1"}}).split(".")
    tokens = [ServiceAccounts(issuer, reader, clock)]
    for forged in (f"{head}.{other[1]}.{rest.split('.')[1]}", f"{head}.{rest.split('.')[0]}.", "a.b.c"):
        with pytest.raises(Unauthorized):
            who(bearer(forged), tokens=tokens, audiences=issuer.audiences)
    stranger = TokenIssuer(new_key(), clock=clock)
    with pytest.raises(Unauthorized):
        who(bearer(stranger.issue(account)), tokens=tokens, audiences=issuer.audiences)


def test_a_legacy_token_lives_as_long_as_its_secret(
    reader: Any, issuer: TokenIssuer, clock: FixedClock, account: dict[str, Any]
) -> None:
    secret = {"metadata": {"name": "web-token", "namespace": "shop"}, "data": {}}
    token = issuer.issue_legacy(account, secret)
    secret["data"]["token"] = base64.b64encode(token.encode()).decode()
    reader.add("", "secrets", secret)
    tokens = [ServiceAccounts(issuer, reader, clock)]
    assert who(bearer(token), tokens=tokens, audiences=issuer.audiences).name == "system:serviceaccount:shop:web"
    reader.remove("", "secrets", "shop", "web-token")
    with pytest.raises(Unauthorized):
        who(bearer(token), tokens=tokens, audiences=issuer.audiences)


def test_the_key_set_verifies_tokens(issuer: TokenIssuer, account: dict[str, Any]) -> None:
    (key,) = issuer.jwks()["keys"]
    assert (key["kty"], key["crv"], key["alg"]) == ("EC", "P-256", "ES256")
    assert issuer.discovery("https://x/openid/v1/jwks")["issuer"] == issuer.issuer


def test_a_bootstrap_token_is_its_secrets(reader: Any, clock: FixedClock) -> None:
    texts = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:nodes",
        "expiration": "2030-01-01T00:00:00Z",
    }
    data = {key: base64.b64encode(value.encode()).decode() for key, value in texts.items()}
    metadata = {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}
    reader.add("", "secrets", {"metadata": metadata, "type": "bootstrap.kubernetes.io/token", "data": data})
    tokens = [BootstrapTokens(reader, clock)]
    user = who(bearer("abcdef.0123456789abcdef"), tokens=tokens)
    assert user.name == "system:bootstrap:abcdef"
    assert user.groups == ("system:bootstrappers", "system:bootstrappers:nodes", "system:authenticated")
    with pytest.raises(Unauthorized):
        who(bearer("abcdef.0123456789abcdee"), tokens=tokens)
    clock.now = 2e9
    with pytest.raises(Unauthorized):
        who(bearer("abcdef.0123456789abcdef"), tokens=tokens)


def test_a_token_review_answers_as_upstream() -> None:
    tokens = [TokenFile(parse(TABLE.splitlines()))]
    head = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1"}
    good = asyncio.run(token_review({**head, "spec": {"token": "secret"}}, tokens, ["api"]))
    assert good["status"] == {
        "authenticated": True,
        "user": {"username": "admin", "uid": "1", "groups": ["system:masters", "devs", "system:authenticated"]},
        "audiences": ["api"],
    }
    bad = asyncio.run(token_review({**head, "spec": {"token": "x"}}, tokens, ["api"]))
    assert bad["status"] == {"user": {}, "error": "invalid bearer token"}
    with pytest.raises(BadRequest, match="token is required for TokenReview in authentication"):
        asyncio.run(token_review({**head}, tokens, ["api"]))


def test_a_self_subject_review_says_who_one_is() -> None:
    answer = asyncio.run(self_subject_review({"kind": "SelfSubjectReview"}, User("jane", groups=("devs",)), 0.0))
    assert answer["status"] == {"userInfo": {"username": "jane", "groups": ["devs"]}}
    assert answer["metadata"] == {"creationTimestamp": "1970-01-01T00:00:00Z"}
