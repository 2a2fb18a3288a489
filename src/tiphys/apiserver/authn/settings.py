"""What the flags about authentication say, besides certificates and token files, which `serve` reads itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tiphys.apiserver.authn.request_header import RequestHeaders
from tiphys.apiserver.jwt import ALGORITHMS

if TYPE_CHECKING:
    from tiphys.apiserver.authn.oidc.config import AuthenticationConfiguration


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """--authentication-token-webhook-*"""

    kubeconfig: Path
    version: str = "v1beta1"
    seconds: float = 120.0
    """How long an answer is good."""


@dataclass(frozen=True, slots=True)
class AuthenticationSettings:
    """See the module's docstring."""

    configuration: AuthenticationConfiguration | None = None
    """Other issuers, and what is said of anonymous requests; None: nothing."""
    configuration_file: Path | None = None
    """Where it was read from, and is read again when it changes."""
    algorithms: tuple[str, ...] = ALGORITHMS
    """What other issuers' tokens may be signed by."""
    webhook: WebhookSettings | None = None
    request_headers: RequestHeaders = field(default_factory=RequestHeaders)
    verification_keys: tuple[bytes, ...] = ()
    """PEM of further keys of service account tokens (--service-account-key-file)."""
    further_issuers: tuple[str, ...] = ()
    """Issuers of service account tokens that are accepted besides the one that signs."""
    longest_token: int = 0
    """Seconds; 0: as asked (--service-account-max-token-expiration)."""
    extend_tokens: bool = True
    """--service-account-extend-token-expiration"""
    jwks_uri: str = ""
    """--service-account-jwks-uri"""
