"""Service account tokens: JSON Web Tokens signed by ES256 (RFC 7519, RFC 7518), with upstream's claims.

`TokenIssuer` signs and checks signatures; who a token stands for, and whether its account, pod or secret still
exists, is `authn.service_account`'s business.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from tiphys.apiserver.types import Object
from tiphys.base.clock import Clock, SystemClock

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ISSUER = "https://kubernetes.default.svc.cluster.local"
LEGACY_ISSUER = "kubernetes/serviceaccount"
PREFIX = "kubernetes.io/serviceaccount/"
"""What the claims of a legacy token begin with."""
WARN_ONLY_SECONDS = 3607
"""The expiration that admission asks for on behalf of pods; such tokens stay valid longer, see `issue`."""
EXTENSION_SECONDS = 365 * 24 * 3600
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


def new_key() -> bytes:
    """A new private key, as PEM (PKCS #8)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class TokenIssuer:
    """Signs tokens with one P-256 key and knows its own again.

    `key` is PEM. `audiences` are what tokens are for when nobody says otherwise: this API server.
    """

    def __init__(
        self, key: bytes, *, issuer: str = ISSUER, audiences: Sequence[str] = (), clock: Clock | None = None
    ) -> None:
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self._pem = key
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
        extended = binding.pod is not None and seconds == WARN_ONLY_SECONDS and set(wanted) <= set(self.audiences)
        private = _private_claims(account, binding)
        if extended:
            private["warnafter"] = now + seconds
        return self._sign(
            {
                "aud": list(wanted),
                "exp": now + (EXTENSION_SECONDS if extended else seconds),
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

    def ours(self, token: str) -> bool:
        """Whether the token says that this issuer made it; its signature is not checked."""
        parts = token.split(".")
        if len(parts) != 3:
            return False
        try:
            claims = orjson.loads(_decode(parts[1]))
        except (ValueError, binascii.Error):
            return False
        return isinstance(claims, dict) and claims.get("iss") in (self.issuer, LEGACY_ISSUER)

    def verify(self, token: str) -> Claims:
        """The claims of a token that this issuer signed and that is good now. Raises InvalidToken."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._check_signature(token)
            if len(self._verified) >= CACHE:
                self._verified.clear()
            self._verified[token] = claims
        now = self._clock.time()
        if "exp" in claims and now > claims["exp"]:
            raise InvalidToken("service account token has expired")
        if now < claims.get("nbf", 0):
            raise InvalidToken("service account token is not valid yet")
        if now < claims.get("iat", 0):
            raise InvalidToken("service account token is issued in the future")
        return claims

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set, for /openid/v1/jwks (RFC 7517)."""
        numbers = self._key.public_key().public_numbers()
        point = {"x": _encode(numbers.x.to_bytes(32, "big")), "y": _encode(numbers.y.to_bytes(32, "big"))}
        return {"keys": [{"use": "sig", "kty": "EC", "kid": self._key_id, "crv": "P-256", "alg": "ES256", **point}]}

    def discovery(self, jwks_uri: str) -> dict[str, Any]:
        """The answer of /.well-known/openid-configuration (OpenID Connect Discovery)."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    @cached_property
    def _key(self) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(self._pem, None)
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ValueError("the service account key is not an EC P-256 private key")
        return key

    @cached_property
    def _key_id(self) -> str:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return _encode(hashlib.sha256(der).digest())

    def _sign(self, claims: Claims) -> str:
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        head = _encode(orjson.dumps({"alg": "ES256", "kid": self._key_id}))
        signed = f"{head}.{_encode(orjson.dumps(claims))}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ECDSA(SHA256())))
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _check_signature(self, token: str) -> Claims:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        signed, _, signature = token.rpartition(".")
        head, _, payload = signed.partition(".")
        try:
            raw = _decode(signature)
            if len(raw) != 64 or orjson.loads(_decode(head)).get("alg") != "ES256":
                raise InvalidToken("the token is not signed by ES256")
            der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._key.public_key().verify(der, signed.encode(), ECDSA(SHA256()))
            claims: Claims = orjson.loads(_decode(payload))
        except (ValueError, AttributeError, InvalidSignature) as error:
            raise InvalidToken("invalid bearer token") from error
        return claims


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


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Raises ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
