"""CA bundles of conversion webhooks: PEM in base64."""

from __future__ import annotations

import base64
import binascii
import re

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)-----END \1-----\s*", re.DOTALL)
_FAILED = "unable to load root certificates: "


def problem(bundle: str) -> str:
    """What is wrong with a bundle (base64); "" if a certificate can be read from it."""
    try:
        rest = base64.b64decode(bundle)
    except binascii.Error:
        return f"{_FAILED}unable to parse bytes as PEM block"
    from cryptography import x509

    failed = ""
    while rest:
        match = _BLOCK.search(rest)
        if match is None:
            return failed or f"{_FAILED}unable to parse bytes as PEM block"
        rest = rest[match.end() :]
        if match[1] != b"CERTIFICATE" or b":" in match[2]:
            continue
        try:
            x509.load_der_x509_certificate(base64.b64decode(match[2]))
        except ValueError as error:
            failed = failed or f"{_FAILED}failed to parse certificate: {error}"
        else:
            return ""
    return failed or f"{_FAILED}no valid certificate authority data seen"
