"""Service account tokens: JSON Web Tokens with upstream's claims, signed by one key, verified by several.

`TokenIssuer` signs and checks signatures; who a token stands for, and whether its account, pod or secret still
exists, is `authn.service_account`'s business.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tiphys.apiserver import jwt
from tiphys.apiserver.types import Object
from tiphys.base.clock import Clock, SystemClock

if TYPE_CHECKING:
    from tiphys.apiserver.jwt import PrivateKey, PublicKey

ISSUER = "https://kubernetes.default.svc.cluster.local"
LEGACY_ISSUER = "kubernetes/serviceaccount"
PREFIX = "kubernetes.io/serviceaccount/"
"""What the claims of a legacy token begin with."""
WARN_ONLY_SECONDS = 3607
"""The expiration that admission asks for on behalf of pods; such tokens stay valid longer, see `issue`."""
EXTENSION_SECONDS = 365 * 24 * 3600
LEEWAY = 60
"""Seconds that clocks may differ by."""
CACHE = 2048
"""Tokens whose signature need not be checked again."""

Claims = Mapping[str, Any]


class InvalidToken(Exception):
    """The token is malformed, signed by somebody else, or no longer good. The message may be shown."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a token is bound to: it is good as long as the object lives. At most one of pod and secret."""

    pod: Object | None = None
    secret: Object | None = None
    node: Object | None = None
    """The pod's node, or the node itself that the token is bound to."""


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """What the flags about service account tokens say."""

    longest: int = 0
    """Seconds that a token may live at most (--service-account-max-token-expiration); 0: as asked."""
    extend: bool = True
    """Whether pods' tokens for this server outlive their time (--service-account-extend-token-expiration)."""
    jwks_uri: str = ""
    """Where others find the keys (--service-account-jwks-uri); "": at this server."""


def new_key() -> bytes:
    """A new private key, as PEM (PKCS #8)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class TokenIssuer:
    """Signs tokens with one key, RSA or elliptic curve, and knows its own again.

    `key` is PEM. `verification_keys` are PEM files' contents whose keys are good besides (all, as upstream's
    --service-account-key-file, may be public ones); none: the signing key alone. `accepted_issuers` are further names
    that tokens of these keys may carry. `audiences` are what tokens are for when nobody says otherwise: this server.
    """

    def __init__(
        self,
        key: bytes,
        *,
        issuer: str = ISSUER,
        audiences: Sequence[str] = (),
        clock: Clock | None = None,
        verification_keys: Sequence[bytes] = (),
        accepted_issuers: Sequence[str] = (),
        settings: TokenSettings | None = None,
    ) -> None:
        self.issuer = issuer
        self.issuers = frozenset((issuer, LEGACY_ISSUER, *accepted_issuers))
        self.audiences = tuple(audiences) or (issuer, *accepted_issuers)
        self.settings = settings or TokenSettings()
        self._pem, self._verification = key, tuple(verification_keys)
        self._clock = clock or SystemClock()
        self._verified: dict[str, Claims] = {}

    def issue(
        self, account: Object, *, audiences: Sequence[str] = (), seconds: int = 3600, binding: Binding | None = None
    ) -> str:
        """A token for a service account. `seconds` is its life.

        A pod's token of exactly 3607 s for this API server lives a year and is only reported as stale after that
        time, as upstream's --service-account-extend-token-expiration (on by default).
        """
        binding = binding or Binding()
        wanted = tuple(audiences) or self.audiences
        now = int(self._clock.time())
        own = set(wanted) <= set(self.audiences)
        extended = self.settings.extend and binding.pod is not None and seconds == WARN_ONLY_SECONDS and own
        private = _private_claims(account, binding)
        if extended:
            private["warnafter"] = now + seconds
        return self._sign(
            {
                "aud": list(wanted),
                "exp": now + (self._extension() if extended else seconds),
                "iat": now,
                "iss": self.issuer,
                "jti": str(uuid.uuid4()),
                "kubernetes.io": private,
                "nbf": now,
                "sub": f"system:serviceaccount:{private['namespace']}:{private['serviceaccount']['name']}",
            }
        )

    def issue_legacy(self, account: Object, secret: Object) -> str:
        """The token of a Secret of type kubernetes.io/service-account-token: it never expires."""
        metadata = account["metadata"]
        return self._sign(
            {
                "iss": LEGACY_ISSUER,
                PREFIX + "namespace": metadata["namespace"],
                PREFIX + "secret.name": secret["metadata"]["name"],
                PREFIX + "service-account.name": metadata["name"],
                PREFIX + "service-account.uid": metadata["uid"],
                "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
            }
        )

    def _extension(self) -> int:
        return min(EXTENSION_SECONDS, self.settings.longest or EXTENSION_SECONDS)

    def ours(self, token: str) -> bool:
        """Whether the token says that this issuer made it; its signature is not checked."""
        return jwt.issuer_of(token) in self.issuers

    def verify(self, token: str) -> Claims:
        """The claims of a token that this issuer signed and that is good now. Raises InvalidToken."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._check_signature(token)
            if len(self._verified) >= CACHE:
                self._verified.clear()
            self._verified[token] = claims
        now = self._clock.time()
        if "exp" in claims and now - LEEWAY > claims["exp"]:
            raise InvalidToken("service account token has expired")
        if now + LEEWAY < claims.get("nbf", 0):
            raise InvalidToken("service account token is not valid yet")
        if now + LEEWAY < claims.get("iat", 0):
            raise InvalidToken("service account token is issued in the future")
        return claims

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set, for /openid/v1/jwks (RFC 7517)."""
        return {"keys": [jwt.to_jwk(key) for key in self._public]}

    def discovery(self, jwks_uri: str) -> dict[str, Any]:
        """The answer of /.well-known/openid-configuration (OpenID Connect Discovery)."""
        return {
            "issuer": self.issuer,
            "jwks_uri": self.settings.jwks_uri or jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({jwt.algorithm_for(key) for key in self._public}),
        }

    @cached_property
    def _key(self) -> PrivateKey:
        return jwt.load_private(self._pem)

    @cached_property
    def _public(self) -> list[PublicKey]:
        """The keys to verify by, each once."""
        found = [key for pem in self._verification for key in jwt.load_public(pem)]
        if self._pem and not self._verification:
            found.append(self._key.public_key())
        return list({jwt.key_id(key): key for key in found}.values())

    @cached_property
    def _by_id(self) -> dict[str, PublicKey]:
        return {jwt.key_id(key): key for key in self._public}

    def _sign(self, claims: Claims) -> str:
        return jwt.sign(claims, self._key, jwt.key_id(self._key.public_key()))

    def _check_signature(self, text: str) -> Claims:
        try:
            token = jwt.parse(text)
        except jwt.Malformed as error:
            raise InvalidToken("invalid bearer token") from error
        # The key that the token names, if there is one of this name; else any of ours may have made it.
        named = self._by_id.get(token.key_id)
        if not any(jwt.verify(token, key) for key in ([named] if named is not None else self._public)):
            raise InvalidToken("invalid bearer token")
        if not _well_typed(token.claims):
            raise InvalidToken("invalid bearer token")
        return token.claims


def _well_typed(claims: Claims) -> bool:
    """Whether the claims that are looked at have their types; even a signed token is foreign input."""
    times = [claims[name] for name in ("exp", "nbf", "iat") if name in claims]
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in times):
        return False
    if claims.get("iss") == LEGACY_ISSUER:
        return True
    private, audiences = claims.get("kubernetes.io"), claims.get("aud", [])
    if not isinstance(private, dict) or not isinstance(audiences, str | list):
        return False
    bound = [private[name] for name in ("pod", "node", "secret") if private.get(name) is not None]
    references = [private.get("serviceaccount"), *bound]
    return isinstance(private.get("namespace"), str) and all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in references
    )


def _private_claims(account: Object, binding: Binding) -> dict[str, Any]:
    """The claim kubernetes.io."""
    claims: dict[str, Any] = {"namespace": account["metadata"]["namespace"]}
    for name in ("node", "pod", "secret"):
        bound = getattr(binding, name)
        if bound is not None:
            claims[name] = _reference(bound)
    claims["serviceaccount"] = _reference(account)
    return claims


def _reference(obj: Object) -> dict[str, str]:
    metadata = obj["metadata"]
    reference = {"name": metadata["name"]}
    if metadata.get("uid"):
        reference["uid"] = metadata["uid"]
    return reference
