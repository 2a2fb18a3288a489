"""AuthenticationConfiguration (apiserver.config.k8s.io/v1): which issuers are believed, and what their claims mean.

Read from --authentication-config, or made from the --oidc-* flags, which are the same with less to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tiphys.api.kinds.base import FieldError, too_many
from tiphys.api.validation.errors import Errors
from tiphys.apiserver import configfile
from tiphys.apiserver.authn.oidc import rules
from tiphys.base.errors import Permanent

GROUP, KIND, VERSIONS = "apiserver.config.k8s.io", "AuthenticationConfiguration", ("v1", "v1beta1", "v1alpha1")
MAX_ISSUERS = 64
_CLAIM = {"claim": None, "prefix": None, "expression": None}
SHAPE = {
    "jwt": [
        {
            "issuer": {
                "url": None,
                "discoveryURL": None,
                "certificateAuthority": None,
                "audiences": None,
                "audienceMatchPolicy": None,
                "egressSelectorType": None,
            },
            "claimValidationRules": [{"claim": None, "requiredValue": None, "expression": None, "message": None}],
            "claimMappings": {
                "username": _CLAIM,
                "groups": _CLAIM,
                "uid": {"claim": None, "expression": None},
                "extra": [{"key": None, "valueExpression": None}],
            },
            "userValidationRules": [{"expression": None, "message": None}],
        }
    ],
    "anonymous": {"enabled": None, "conditions": [{"path": None}]},
}


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer, and what its claims mean."""

    url: str
    audiences: tuple[str, ...]
    discovery_url: str = ""
    authority: bytes = b""
    """PEM of who signs its server's certificate; none: the system's authorities."""
    mapping: rules.ClaimMapping = field(default_factory=rules.ClaimMapping)


@dataclass(frozen=True, slots=True)
class AuthenticationConfiguration:
    """See the module's docstring."""

    issuers: tuple[Issuer, ...] = ()
    anonymous: tuple[bool, tuple[str, ...] | None] | None = None
    """Whether, and for which paths only; None: not said here."""


def load(path: Path, own_issuers: Sequence[str] = ()) -> AuthenticationConfiguration:
    """Read a file. `own_issuers` are those of service account tokens. Raises Permanent with all that is wrong."""
    return of(configfile.read(path, GROUP, KIND, VERSIONS, SHAPE), own_issuers)


def of(document: Mapping[str, Any], own_issuers: Sequence[str] = ()) -> AuthenticationConfiguration:
    """The configuration in a document of the right shape. Raises Permanent."""
    errors = Errors()
    jwt = document.get("jwt") or []
    if len(jwt) > MAX_ISSUERS:
        errors.append(too_many("jwt", len(jwt), MAX_ISSUERS))
    seen: set[str] = set()
    issuers = []
    for index, entry in enumerate(jwt[:MAX_ISSUERS]):
        path = f"jwt[{index}]"
        issuers.append(_issuer(errors, entry, path, own_issuers))
        for name, where in (("url", "issuer.url"), ("discoveryURL", "issuer.discoveryURL")):
            url = (entry.get("issuer") or {}).get(name) or ""
            if url and f"{name} {url}" in seen:
                errors.duplicate(f"{path}.{where}", url)
            seen.add(f"{name} {url}")
    anonymous = _anonymous(errors, document.get("anonymous"))
    if errors:
        raise Permanent(f"invalid authentication configuration: {aggregate(errors)}")
    return AuthenticationConfiguration(tuple(issuers), anonymous)


def aggregate(errors: Sequence[FieldError]) -> str:
    """Several problems in one text."""
    texts = [str(error) for error in errors]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _anonymous(errors: Errors, entry: Mapping[str, Any] | None) -> tuple[bool, tuple[str, ...] | None] | None:
    if entry is None:
        return None
    enabled, conditions = bool(entry.get("enabled")), entry.get("conditions") or []
    if not enabled and conditions:
        detail = "enabled should be set to true when conditions are defined"
        errors.invalid("anonymous.conditions", [{"Path": each.get("path", "")} for each in conditions], detail)
    return enabled, tuple(each.get("path", "") for each in conditions) if conditions else None


def _issuer(errors: Errors, entry: Mapping[str, Any], path: str, own_issuers: Sequence[str]) -> Issuer:
    issuer, where = entry.get("issuer") or {}, f"{path}.issuer"
    url, discovery = str(issuer.get("url") or ""), str(issuer.get("discoveryURL") or "")
    if not url:
        errors.required(f"{where}.url")
    else:
        if url in own_issuers:
            listed = " ".join(sorted(own_issuers))
            errors.invalid(f"{where}.url", url, f"URL must not overlap with disallowed issuers: [{listed}]")
        _check_url(errors, url, f"{where}.url")
    if discovery:
        if url.rstrip("/") == discovery.rstrip("/"):
            errors.invalid(f"{where}.discoveryURL", discovery, "discoveryURL must be different from URL")
        _check_url(errors, discovery, f"{where}.discoveryURL")
    audiences = _audiences(errors, issuer, where)
    authority = str(issuer.get("certificateAuthority") or "").encode()
    if authority and b"-----BEGIN CERTIFICATE-----" not in authority:
        detail = "data does not contain any valid RSA or ECDSA certificates"
        errors.invalid(f"{where}.certificateAuthority", "<omitted>", detail)
    if issuer.get("egressSelectorType"):
        detail = "egress selectors are not supported: connections are made directly"
        errors.invalid(f"{where}.egressSelectorType", issuer["egressSelectorType"], detail)
    return Issuer(url, audiences, discovery, authority, rules.of(errors, entry, path))


def _check_url(errors: Errors, url: str, path: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        errors.invalid(path, url, str(error))
        return
    if parts.scheme != "https":
        errors.invalid(path, url, "URL scheme must be https")
    if parts.username is not None:
        errors.invalid(path, url, "URL must not contain a username or password")
    if parts.query:
        errors.invalid(path, url, "URL must not contain a query")
    if parts.fragment:
        errors.invalid(path, url, "URL must not contain a fragment")


def _audiences(errors: Errors, issuer: Mapping[str, Any], where: str) -> tuple[str, ...]:
    audiences, policy = issuer.get("audiences") or [], issuer.get("audienceMatchPolicy") or ""
    path = f"{where}.audiences"
    if not audiences:
        errors.required(path, f"at least one {path} is required")
        return ()
    for index, audience in enumerate(audiences):
        if not audience:
            errors.required(f"{path}[{index}]")
        if audience in audiences[:index]:
            errors.duplicate(f"{path}[{index}]", audience)
    if policy != "MatchAny" and (policy or len(audiences) > 1):
        many = "MatchAny for multiple audiences" if len(audiences) > 1 else "empty or MatchAny for single audience"
        errors.invalid(f"{where}.audienceMatchPolicy", policy, f"audienceMatchPolicy must be {many}")
    return tuple(str(each) for each in audiences)
