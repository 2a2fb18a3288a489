"""Makes certificates for approved requests: the subject and names asked for, the usages granted, never an authority.

Like upstream's signers: valid from five minutes before now, and no longer than the authority itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tiphys.base.clock import utc
from tiphys.controllers.csr_rules import alternative_names

if TYPE_CHECKING:
    from cryptography import x509

BACKDATE = 300.0
SHORT = 8 * 3600.0
"""Seconds; certificates that live shorter get all of their time after now."""
SHORTEST = 600
YEAR = 365 * 24 * 3600.0
KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_SUBJECT = (6, 10, 11, 7, 8, 9, 17, 3, 5)
"""X.500 attributes: country, organization, unit, locality, province, street, postal code; name and serial number."""
EXTENDED = {
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}


@dataclass
class SigningAuthority:
    """A CA's certificate and key, both PEM. The key may be RSA or elliptic curve."""

    certificate: bytes
    key: bytes

    @cached_property
    def _loaded(self) -> tuple[x509.Certificate, Any]:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        return x509.load_pem_x509_certificate(self.certificate), load_pem_private_key(self.key, None)

    def issue(self, csr: x509.CertificateSigningRequest, usages: Sequence[str], seconds: float, now: float) -> bytes:
        """A certificate in PEM that lives `seconds`. Raises ValueError when the authority has expired."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ed448, ed25519

        authority, key = self._loaded
        start, end = self._validity(authority, seconds, now)
        builder = x509.CertificateBuilder(
            authority.subject, _subject(csr), csr.public_key(), x509.random_serial_number()
        )
        builder = builder.not_valid_before(start).not_valid_after(end)
        for extension, critical in self._extensions(csr, usages, key):
            builder = builder.add_extension(extension, critical=critical)
        plain = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        return builder.sign(key, None if plain else hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    @staticmethod
    def _validity(authority: x509.Certificate, seconds: float, now: float) -> tuple[Any, Any]:
        last = authority.not_valid_after_utc
        moment = utc(now).replace(microsecond=0)
        if moment >= last:
            raise ValueError(f"refusing to sign a certificate that expired in the past: NotAfter={last}")
        end = moment + timedelta(seconds=seconds if seconds < SHORT else seconds - BACKDATE)
        return moment - timedelta(seconds=BACKDATE), min(end, last)

    @staticmethod
    def _extensions(csr: x509.CertificateSigningRequest, usages: Sequence[str], key: Any) -> list[tuple[Any, bool]]:
        from cryptography import x509

        granted = {KEY_USAGES[usage] for usage in usages if usage in KEY_USAGES}
        # These two only mean something beside key agreement (RFC 5280, 4.2.1.3).
        if "key_agreement" not in granted:
            granted -= {"encipher_only", "decipher_only"}
        found: list[tuple[Any, bool]] = []
        if granted:
            found.append((x509.KeyUsage(**{name: name in granted for name in KEY_USAGES.values()}), True))
        extended = sorted({EXTENDED[usage] for usage in usages if usage in EXTENDED})
        if extended:
            found.append((x509.ExtendedKeyUsage([x509.ObjectIdentifier(each) for each in extended]), False))
        found.append((x509.BasicConstraints(ca=False, path_length=None), True))
        found.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False))
        names = _names(csr)
        if names:
            found.append((x509.SubjectAlternativeName(names), False))
        return found


def _subject(csr: x509.CertificateSigningRequest) -> Any:
    """The subject in the order and form of Go's: values of one kind together, kinds that it does not know left out."""
    from cryptography import x509

    order = [f"2.5.4.{number}" for number in _SUBJECT]
    grouped = {each: csr.subject.get_attributes_for_oid(x509.ObjectIdentifier(each)) for each in order}
    for single in order[-2:]:
        grouped[single] = grouped[single][-1:]
    return x509.Name([x509.RelativeDistinguishedName(set(found)) for found in grouped.values() if found])


def _names(csr: x509.CertificateSigningRequest) -> list[Any]:
    """The alternative names of kinds that Go's certificates know; others are not carried over."""
    from cryptography import x509

    kinds: dict[str, Any] = {
        "DNS": x509.DNSName,
        "Email": x509.RFC822Name,
        "IP": x509.IPAddress,
        "URI": x509.UniformResourceIdentifier,
    }
    return [kinds[kind](value) for kind, values in alternative_names(csr).items() for value in values]


def lifetime(wanted: int | None, longest: float) -> float:
    """Seconds that a certificate lives: as asked, from ten minutes to the signer's longest."""
    return longest if wanted is None else min(max(float(wanted), SHORTEST), longest)
