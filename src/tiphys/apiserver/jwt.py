"""JSON Web Tokens in compact form: parsing, signatures, keys (RFC 7515, 7517, 7518, 7519).

The algorithm of a token's header only chooses among those that the key at hand is made for: `none` and the symmetric
algorithms do not exist here, so a public key can never be taken for a secret. What claims mean is the callers'
business.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

    PublicKey = EllipticCurvePublicKey | RSAPublicKey
    PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey

Claims = Mapping[str, Any]

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
MAX_TOKEN = 256 * 1024
"""Characters; longer ones are not looked at."""
CURVES = {"P-256": ("secp256r1", "ES256", 32), "P-384": ("secp384r1", "ES384", 48), "P-521": ("secp521r1", "ES512", 66)}
_CURVE_NAMES = {curve: name for name, (curve, _, _) in CURVES.items()}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class Malformed(ValueError):
    """This is no token, or no key, of the kinds that are known here."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that has been taken apart; nothing in it is to be believed yet."""

    header: Mapping[str, Any]
    claims: Claims
    signed: bytes
    signature: bytes

    @property
    def algorithm(self) -> str:
        found = self.header.get("alg")
        return found if isinstance(found, str) else ""

    @property
    def key_id(self) -> str:
        found = self.header.get("kid")
        return found if isinstance(found, str) else ""


def parse(token: str) -> Token:
    """Raises Malformed."""
    parts = token.split(".") if len(token) <= MAX_TOKEN else []
    if len(parts) != 3:
        raise Malformed("compact JWS format must have three parts")
    try:
        header, claims = orjson.loads(decode(parts[0])), orjson.loads(decode(parts[1]))
    except ValueError as error:
        raise Malformed(f"malformed token: {error}") from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Malformed("malformed token: header and claims must be objects")
    if "crit" in header:
        raise Malformed("malformed token: unsupported critical header")
    return Token(header, claims, f"{parts[0]}.{parts[1]}".encode(), decode(parts[2]))


def issuer_of(token: str) -> str | None:
    """What a token says of its issuer, unverified; None if it is no token."""
    parts = token.split(".") if len(token) <= MAX_TOKEN else []
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(decode(parts[1]))
    except ValueError:
        return None
    found = claims.get("iss") if isinstance(claims, dict) else None
    return found if isinstance(found, str) else None


def verify(token: Token, key: PublicKey) -> bool:
    """Whether `key` made the token's signature, by an algorithm that is for keys of its kind."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        if isinstance(key, rsa.RSAPublicKey):
            return _verify_rsa(token, key)
        if isinstance(key, ec.EllipticCurvePublicKey):
            return _verify_ec(token, key)
    except InvalidSignature:
        return False
    return False


def _verify_rsa(token: Token, key: RSAPublicKey) -> bool:
    from cryptography.hazmat.primitives.asymmetric import padding

    family, digest = token.algorithm[:2], _digest(token.algorithm)
    if family not in ("RS", "PS") or digest is None:
        return False
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if family == "PS":
        scheme = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
    key.verify(token.signature, token.signed, scheme, digest)
    return True


def _verify_ec(token: Token, key: EllipticCurvePublicKey) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    name = _CURVE_NAMES.get(key.curve.name)
    digest = _digest(token.algorithm)
    if name is None or token.algorithm != CURVES[name][1] or digest is None:
        return False
    size, raw = CURVES[name][2], token.signature
    if len(raw) != 2 * size:
        return False
    der = encode_dss_signature(int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big"))
    key.verify(der, token.signed, ec.ECDSA(digest))
    return True


def _digest(algorithm: str) -> Any:
    """The hash of an algorithm's name, None for an unknown name."""
    from cryptography.hazmat.primitives import hashes

    if algorithm not in ALGORITHMS:
        return None
    return {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]


def algorithm_for(key: PrivateKey | PublicKey) -> str:
    """The algorithm that a key signs by: RS256 for RSA, that of its curve for an elliptic curve. Raises Malformed."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return "RS256"
    name = _CURVE_NAMES.get(key.curve.name)
    if name is None:
        raise Malformed(f"unknown private key curve, must be 256, 384, or 521: {key.curve.name}")
    return CURVES[name][1]


def sign(claims: Claims, key: PrivateKey, key_id: str) -> str:
    """A token."""
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    algorithm = algorithm_for(key)
    signed = f"{encode(orjson.dumps({'alg': algorithm, 'kid': key_id}))}.{encode(orjson.dumps(claims))}"
    digest = _digest(algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = CURVES[_CURVE_NAMES[key.curve.name]][2]
        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(digest)))
        return f"{signed}.{encode(r.to_bytes(size, 'big') + s.to_bytes(size, 'big'))}"
    return f"{signed}.{encode(key.sign(signed.encode(), padding.PKCS1v15(), digest))}"


def key_id(key: PublicKey) -> str:
    """The ID that Kubernetes gives to a key: the hash of its DER form."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encode(hashlib.sha256(der).digest())


def to_jwk(key: PublicKey) -> dict[str, str]:
    """A public key as a JSON Web Key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePublicKey):
        name = _CURVE_NAMES[key.curve.name]
        size, point = CURVES[name][2], key.public_numbers()
        fields = {"crv": name, "x": encode(point.x.to_bytes(size, "big")), "y": encode(point.y.to_bytes(size, "big"))}
        kind = "EC"
    else:
        numbers, kind = key.public_numbers(), "RSA"
        fields = {"n": _number(numbers.n), "e": _number(numbers.e)}
    head = {"use": "sig", "kty": kind, "kid": key_id(key)}
    if kind == "EC":
        return {**head, "crv": fields.pop("crv"), "alg": algorithm_for(key), **fields}
    return {**head, "alg": algorithm_for(key), **fields}


def from_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    """The public key in a JSON Web Key. Raises Malformed for keys of other kinds (secrets above all)."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        if jwk.get("kty") == "RSA":
            return rsa.RSAPublicNumbers(_integer(jwk["e"]), _integer(jwk["n"])).public_key()
        if jwk.get("kty") == "EC" and jwk.get("crv") in CURVES:
            curve = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[jwk["crv"]]
            return ec.EllipticCurvePublicNumbers(_integer(jwk["x"]), _integer(jwk["y"]), curve).public_key()
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(f"malformed key: {error}") from error
    raise Malformed(f"unknown json web key type '{jwk.get('kty')}'")


def load_private(pem: bytes) -> PrivateKey:
    """A signing key in PEM. Raises ValueError."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Malformed("data does not contain a valid RSA or ECDSA private key")
    algorithm_for(key)
    return key


def load_public(pem: bytes) -> list[PublicKey]:
    """All keys of a PEM file: public ones, certificates', and the public halves of private ones. Raises ValueError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found: list[PublicKey] = []
    for kind, block in _blocks(pem):
        if kind.endswith("PRIVATE KEY"):
            found.append(load_private(block).public_key())
        elif kind in ("PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"):
            certificate = kind == "CERTIFICATE"
            key = x509.load_pem_x509_certificate(block).public_key() if certificate else load_pem_public_key(block)
            if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
                algorithm_for(key)
                found.append(key)
    if not found:
        raise ValueError("data does not contain any valid RSA or ECDSA public keys")
    return found


def _blocks(pem: bytes) -> list[tuple[str, bytes]]:
    pattern = rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----"
    return [(match[1].decode(), match[0] + b"\n") for match in re.finditer(pattern, pem, re.DOTALL)]


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Base64url without padding, strictly. Raises Malformed."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise Malformed("illegal base64 data")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _number(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _integer(text: str) -> int:
    return int.from_bytes(decode(text), "big")
