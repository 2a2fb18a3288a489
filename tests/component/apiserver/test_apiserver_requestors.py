"""Who asks, as objects record it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Play = Callable[..., None]


def _request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


def test_a_signing_request_records_the_groups_of_its_author_whatever_it_says(play: Play) -> None:
    async def scenario(world: Any) -> None:
        spec = {
            "request": _request(),
            "signerName": "example.com/signer",
            "usages": ["client auth"],
            "username": "forged",
            "groups": ["forged"],
        }
        body = {"metadata": {"name": "x"}, "spec": spec}
        made = await world.json("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", body)
        assert made["spec"]["username"] == "admin"
        assert made["spec"]["groups"] == ["system:masters", "system:authenticated"]

    play(scenario)
