"""Certificates and TLS contexts: one small certificate authority, EC P-256 throughout (RSA keys cost 100 ms each).

`Authority` signs server and client certificates; `server_context` and `client_context` make `ssl` contexts from PEM
in memory. Nothing here knows which components exist: `cluster` decides names, groups and places.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tiphys.base.clock import Clock, SystemClock, utc
from tiphys.base.files import write_atomic
from tiphys.base.tls_request import RequestingContext, request_certificates

if TYPE_CHECKING:  # cryptography takes 20 ms to import
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

DAY = 86400.0
BACKDATE = 300.0
"""Seconds that certificates are valid before they were made, for peers whose clocks are behind."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate (PEM, its chain after it) and its private key (PEM)."""

    certificate: bytes
    key: bytes

    def save(self, certificate: Path, key: Path) -> None:
        """Both files, each replaced in one step; the key readable by its owner only."""
        for path, data, mode in ((key, self.key, 0o600), (certificate, self.certificate, 0o644)):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data, mode)

    @staticmethod
    def load(certificate: Path, key: Path) -> KeyPair:
        """Raises OSError."""
        return KeyPair(certificate.read_bytes(), key.read_bytes())


class Authority:
    """A certificate authority: its own key pair, and `issue`."""

    def __init__(self, pair: KeyPair, clock: Clock | None = None) -> None:
        self.pair = pair
        self._clock = clock or SystemClock()
        self._loaded: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None

    @property
    def certificate(self) -> bytes:
        """The CA certificate, PEM: what others trust."""
        return self.pair.certificate

    @staticmethod
    def create(name: str, *, days: float = 3650, clock: Clock | None = None) -> Authority:
        """A new self-signed CA with `name` as its common name."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        clock = clock or SystemClock()
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name, ())
        builder = _builder(subject, subject, key.public_key(), _validity(clock, days)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        builder = builder.add_extension(_key_usage(ca=True), critical=True).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        return Authority(_signed(builder, key, key), clock)

    @staticmethod
    def load(certificate: Path, key: Path, clock: Clock | None = None) -> Authority:
        """From PEM files. Raises OSError."""
        return Authority(KeyPair.load(certificate, key), clock)

    @staticmethod
    def ensure(certificate: Path, key: Path, name: str, clock: Clock | None = None) -> Authority:
        """Load it; create and save it the first time."""
        if certificate.exists() and key.exists():
            return Authority.load(certificate, key, clock)
        authority = Authority.create(name, clock=clock)
        authority.pair.save(certificate, key)
        return authority

    def issue(
        self,
        common_name: str,
        *,
        organizations: Sequence[str] = (),
        names: Sequence[str] = (),
        server: bool = False,
        client: bool = False,
        days: float = 365,
    ) -> KeyPair:
        """A new key and its certificate.

        `common_name` and `organizations` are a Kubernetes user's name and groups; `names` are the DNS names and IP
        addresses that a server answers to; `server` and `client` are the permitted usages.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._leaf(key.public_key(), common_name, organizations, names, server, client, days)
        return _signed(builder, self._signer()[1], key)

    def sign(
        self,
        request: bytes,
        *,
        server: bool = False,
        client: bool = False,
        days: float = 365,
    ) -> bytes:
        """The certificate (PEM) for a certificate signing request (PEM): its subject and its names are granted as
        they are, so approve it first. Raises ValueError for a malformed request."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        wanted = x509.load_pem_x509_csr(request)
        if not wanted.is_signature_valid:
            raise ValueError("the signature of the certificate request is not valid")
        builder = self._fill(wanted.public_key(), wanted.subject, server, client, days)  # type: ignore[arg-type]
        with contextlib.suppress(x509.ExtensionNotFound):
            names = wanted.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            builder = builder.add_extension(names.value, critical=names.critical)
        certificate = builder.sign(self._signer()[1], hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _signer(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if self._loaded is None:
            from cryptography import x509
            from cryptography.hazmat.primitives import serialization

            key = serialization.load_pem_private_key(self.pair.key, None)
            self._loaded = x509.load_pem_x509_certificate(self.pair.certificate), key  # type: ignore[assignment]
        assert self._loaded is not None
        return self._loaded

    def _fill(
        self, public: ec.EllipticCurvePublicKey, subject: x509.Name, server: bool, client: bool, days: float
    ) -> x509.CertificateBuilder:
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        authority, key = self._signer()
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
        builder = _builder(subject, authority.subject, public, _validity(self._clock, days))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(ca=False), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        return builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False) if usages else builder

    def _leaf(
        self,
        public: ec.EllipticCurvePublicKey,
        common_name: str,
        organizations: Sequence[str],
        names: Sequence[str],
        server: bool,
        client: bool,
        days: float,
    ) -> x509.CertificateBuilder:
        from cryptography import x509

        builder = self._fill(public, _name(common_name, organizations), server, client, days)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        return builder


def _san(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _validity(clock: Clock, days: float) -> tuple[datetime, datetime]:
    start = utc(clock.time() - BACKDATE).replace(microsecond=0)
    return start, start + timedelta(seconds=BACKDATE + days * DAY)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, validity: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    from cryptography import x509

    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(validity[0]).not_valid_after(validity[1])


def _signed(
    builder: x509.CertificateBuilder, signer: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePrivateKey
) -> KeyPair:
    from cryptography.hazmat.primitives import hashes, serialization

    certificate = builder.sign(signer, hashes.SHA256())
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        # The SEC 1 form ("EC PRIVATE KEY") is what kubeconfig files usually carry.
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
    )


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path that OpenSSL can read `data` from, without it ever being on a disk."""
    handle = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _present(context: ssl.SSLContext, pair: KeyPair) -> None:
    with _in_memory(pair.certificate.rstrip() + b"\n" + pair.key) as path:
        context.load_cert_chain(path)


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def server_context(pair: KeyPair, client_ca: bytes | None = None, *, verify_later: bool = False) -> ssl.SSLContext:
    """For servers: TLS 1.2 or newer, HTTP/1.1. With `client_ca` (PEM) clients may, but need not, present a
    certificate signed by it. Raises ssl.SSLError for a key that does not fit.

    `verify_later` lets in whatever is presented, for who verifies at each request: see `base.tls_request`."""
    made = RequestingContext if verify_later else ssl.SSLContext
    context = _hardened(made(ssl.PROTOCOL_TLS_SERVER))
    _present(context, pair)
    if client_ca and verify_later:
        with _in_memory(client_ca) as names:
            if request_certificates(context, names):
                return context
    if client_ca:
        context.load_verify_locations(cadata=client_ca.decode("ascii"))
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(ca: bytes | None = None, pair: KeyPair | None = None, *, verify: bool = True) -> ssl.SSLContext:
    """For clients: trusts `ca` (PEM; None: the system's), presents `pair`.

    `verify=False` trusts anybody: kubeconfig's insecure-skip-tls-verify.
    """
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=ca.decode("ascii"))
    if pair is not None:
        _present(context, pair)
    return context
