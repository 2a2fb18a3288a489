"""TLS of the fronts: a context for each certificate, chosen by the name that a client asks for (SNI)."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Mapping
from functools import cached_property

from tiphys.base.clock import Clock
from tiphys.base.tls import Authority, KeyPair, server_context
from tiphys.client.types import Object

DEFAULT_NAME = "tiphys-default-certificate"


class BadCertificate(ValueError):
    """Why a Secret is no certificate with its key."""


def pair_of(secret: Object) -> KeyPair:
    """Raises BadCertificate."""
    data = secret.get("data") or {}
    try:
        certificate, key = (base64.b64decode(data[name], validate=True) for name in ("tls.crt", "tls.key"))
    except (KeyError, binascii.Error, ValueError, TypeError) as error:
        raise BadCertificate(f"no tls.crt and tls.key in it ({error})") from error
    return KeyPair(certificate, key)


def context_of(secret: Object) -> ssl.SSLContext:
    """Raises BadCertificate."""
    try:
        return server_context(pair_of(secret))
    except (ssl.SSLError, ValueError, OSError) as error:
        raise BadCertificate(f"its certificate and key cannot be used ({error})") from error


def names_in(secret: Object) -> tuple[str, ...]:
    """The DNS names that the certificate is for. Raises BadCertificate."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(pair_of(secret).certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    except ValueError as error:
        raise BadCertificate(f"its certificate cannot be read ({error})") from error
    return tuple(names.get_values_for_type(x509.DNSName))


class Contexts:
    """Contexts of Secrets, made once for each version of one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[tuple[str, str], tuple[str, ssl.SSLContext | BadCertificate]] = {}

    @cached_property
    def default_pair(self) -> KeyPair:
        """A certificate that nobody trusts, for names that have none: not kept, another one at each start."""
        authority = Authority.create(DEFAULT_NAME, clock=self._clock)
        return authority.issue(DEFAULT_NAME, names=("ingress.local",), server=True, days=365)

    def get(self, secret: Object) -> ssl.SSLContext:
        """Raises BadCertificate."""
        metadata = secret["metadata"]
        key = metadata["namespace"], metadata["name"]
        version = f"{metadata.get('uid')} {metadata.get('resourceVersion')}"
        known = self._made.get(key)
        if known is None or known[0] != version:
            try:
                known = version, context_of(secret)
            except BadCertificate as error:
                known = version, error
            self._made[key] = known
        if isinstance(known[1], BadCertificate):
            raise known[1]
        return known[1]

    def keep(self, keys: set[tuple[str, str]]) -> None:
        """Forget all others."""
        self._made = {key: made for key, made in self._made.items() if key in keys}


class Chooser:
    """The context of a front: shakes hands by the context of the name that is asked for. `table` may be replaced."""

    def __init__(self, default: KeyPair) -> None:
        self.table: Mapping[str, ssl.SSLContext] = {}
        """By host, which may begin with "*."; "" for any."""
        self.context = server_context(default)
        self.context.sni_callback = self._choose  # type: ignore[assignment]  # typeshed wants it to take SSLObjects

    def _choose(self, sock: ssl.SSLSocket, name: str | None, own: ssl.SSLContext) -> None:
        found = self.find((name or "").lower().rstrip("."))
        if found is not None:
            sock.context = found

    def find(self, name: str) -> ssl.SSLContext | None:
        """For the name itself, for a wildcard of its domain (one label, RFC 6125), for any."""
        table = self.table
        return table.get(name) or table.get(f"*.{name.partition('.')[2]}") or table.get("")
