"""The certificate authority and what it issues."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tiphys.base import tls


def test_issued_certificates_carry_user_groups_names_and_usages(authority: tls.Authority) -> None:
    pair = authority.issue("system:node:a", organizations=["system:nodes"], names=["a", "10.0.0.1", "::1"], client=True)
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    assert certificate.subject.rfc4514_string() == "CN=system:node:a,O=system:nodes"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))


def test_keys_are_saved_for_their_owner_only_and_loaded_again(tmp_path: Path) -> None:
    made = tls.Authority.ensure(tmp_path / "pki/ca.crt", tmp_path / "pki/ca.key", "kubernetes")
    assert (tmp_path / "pki/ca.key").stat().st_mode & 0o777 == 0o600
    again = tls.Authority.ensure(tmp_path / "pki/ca.crt", tmp_path / "pki/ca.key", "kubernetes")
    assert again.pair == made.pair
    assert sorted(path.name for path in (tmp_path / "pki").iterdir()) == ["ca.crt", "ca.key"]


def test_requests_are_signed_with_their_subject_and_names(authority: tls.Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jane")])
    request = (
        x509.CertificateSigningRequestBuilder(subject)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("j")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = authority.sign(request.public_bytes(serialization.Encoding.PEM), client=True, days=1)
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.subject == subject
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 1
    with pytest.raises(ValueError):
        authority.sign(b"nonsense")


def test_contexts_need_matching_keys_and_refuse_old_tls(authority: tls.Authority, server_pair: tls.KeyPair) -> None:
    other = authority.issue("other", server=True)
    with pytest.raises(ssl.SSLError):
        tls.server_context(tls.KeyPair(server_pair.certificate, other.key))
    assert tls.server_context(server_pair).minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.client_context(authority.certificate).verify_mode == ssl.CERT_REQUIRED
