"""Upstream's flags about authentication, and the settings that they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tiphys.apiserver.authn.settings import AuthenticationSettings, WebhookSettings
from tiphys.apiserver.configfile import duration
from tiphys.apiserver.jwt import ALGORITHMS
from tiphys.base.errors import Permanent

OIDC = ("issuer_url", "client_id", "ca_file", "username_prefix", "groups_claim", "groups_prefix", "required_claim")


def add_flags(parser: argparse.ArgumentParser) -> None:
    _add_oidc(parser)
    _add_request_headers(parser)
    add = parser.add_argument
    add(
        "--authentication-config",
        type=Path,
        help="AuthenticationConfiguration file: issuers of tokens, anonymous access",
    )
    add("--authentication-token-webhook-config-file", type=Path, help="kubeconfig of a service that knows tokens")
    add("--authentication-token-webhook-version", choices=("v1", "v1beta1"), default="v1beta1", help="of its reviews")
    add("--authentication-token-webhook-cache-ttl", type=seconds, default=120.0, help="how long its answers are good")
    add(
        "--service-account-key-file",
        type=Path,
        action="append",
        default=[],
        help="PEM file of keys that verify service account tokens; may be repeated",
    )
    add("--service-account-max-token-expiration", type=seconds, default=0.0, help="longest life of a token; 0: any")
    add("--service-account-extend-token-expiration", type=boolean, default=True, metavar="BOOL", help="of pods' tokens")
    add("--service-account-jwks-uri", default="", help="where others find the keys of service account tokens")
    add("--service-account-lookup", type=boolean, default=True, metavar="BOOL", help="must be true")
    add(
        "--enable-bootstrap-token-auth",
        type=boolean,
        nargs="?",
        const=True,
        default=True,
        metavar="BOOL",
        help="(true)",
    )


def _add_oidc(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--oidc-issuer-url", default="", help="https URL of the issuer whose tokens are taken")
    add("--oidc-client-id", default="", help="audience that its tokens must have")
    add("--oidc-ca-file", type=Path, help="PEM file of the authorities of the issuer's server")
    add("--oidc-username-claim", default="sub", help="claim that is the user's name")
    add("--oidc-username-prefix", default="", help="before names; '-' for none")
    add("--oidc-groups-claim", default="", help="claim that is the user's groups")
    add("--oidc-groups-prefix", default="", help="before groups")
    add("--oidc-signing-algs", default="RS256", help=f"of {', '.join(ALGORITHMS)}")
    add("--oidc-required-claim", action="append", default=[], metavar="KEY=VALUE", help="that tokens must have")


def _add_request_headers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--requestheader-client-ca-file", type=Path, help="PEM file of the CA of front proxies")
    add("--requestheader-allowed-names", type=texts, default=(), help="common names of front proxies; none: any")
    add("--requestheader-username-headers", type=texts, default=("X-Remote-User",), help="where proxies name the user")
    add("--requestheader-uid-headers", type=texts, default=(), help="where they put its UID")
    add("--requestheader-group-headers", type=texts, default=("X-Remote-Group",), help="where they put its groups")
    add("--requestheader-extra-headers-prefix", type=texts, default=("X-Remote-Extra-",), help="of further headers")


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1", "t")


def seconds(text: str) -> float:
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def texts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def settings(options: argparse.Namespace) -> AuthenticationSettings:
    """What the flags mean. Raises Permanent, OSError."""
    from tiphys.apiserver.authn.request_header import RequestHeaders

    if not options.service_account_lookup:
        raise Permanent("--service-account-lookup=false is not supported: tokens of what is gone are never good")
    issuers = texts(options.service_account_issuer)
    authority = options.requestheader_client_ca_file
    webhook = options.authentication_token_webhook_config_file
    configuration, algorithms = _configuration(options, issuers)
    return AuthenticationSettings(
        configuration=configuration,
        configuration_file=options.authentication_config,
        algorithms=algorithms,
        webhook=WebhookSettings(
            webhook, options.authentication_token_webhook_version, options.authentication_token_webhook_cache_ttl
        )
        if webhook
        else None,
        request_headers=RequestHeaders(
            authority.read_bytes() if authority else b"",
            options.requestheader_allowed_names,
            options.requestheader_username_headers,
            options.requestheader_uid_headers,
            options.requestheader_group_headers,
            options.requestheader_extra_headers_prefix,
        ),
        verification_keys=tuple(path.read_bytes() for path in options.service_account_key_file),
        further_issuers=issuers[1:],
        longest_token=_longest(options.service_account_max_token_expiration),
        extend_tokens=options.service_account_extend_token_expiration,
        jwks_uri=options.service_account_jwks_uri,
    )


def _longest(wanted: float) -> int:
    if wanted and not 3600 <= wanted <= 2**32:
        raise Permanent("--service-account-max-token-expiration must be between 1 hour and 2^32 seconds")
    return int(wanted)


def _configuration(options: argparse.Namespace, own_issuers: tuple[str, ...]) -> Any:
    """The AuthenticationConfiguration and the algorithms that its tokens may be signed by."""
    by_flags = any(getattr(options, f"oidc_{name}") for name in OIDC)
    if not by_flags and not options.authentication_config:
        return None, ALGORITHMS
    from tiphys.apiserver.authn.oidc import config

    if options.authentication_config:
        if by_flags:
            raise Permanent("authentication-config file and oidc-* flags are mutually exclusive")
        return config.load(options.authentication_config, own_issuers), ALGORITHMS
    if not (options.oidc_issuer_url and options.oidc_client_id):
        raise Permanent("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set")
    algorithms = texts(options.oidc_signing_algs)
    unknown = [each for each in algorithms if each not in ALGORITHMS]
    if unknown:
        raise Permanent(f"--oidc-signing-algs: unsupported signing alg: {', '.join(unknown)}")
    return config.of(_oidc_document(options), own_issuers), algorithms


def _oidc_document(options: argparse.Namespace) -> dict[str, Any]:
    """What the --oidc-* flags would be in a file."""
    prefix = options.oidc_username_prefix
    if not prefix and options.oidc_username_claim != "email":
        prefix = f"{options.oidc_issuer_url}#"
    mappings: dict[str, Any] = {
        "username": {"claim": options.oidc_username_claim, "prefix": "" if prefix == "-" else prefix}
    }
    if options.oidc_groups_claim:
        mappings["groups"] = {"claim": options.oidc_groups_claim, "prefix": options.oidc_groups_prefix}
    issuer = {"url": options.oidc_issuer_url, "audiences": [options.oidc_client_id]}
    if options.oidc_ca_file:
        issuer["certificateAuthority"] = options.oidc_ca_file.read_text()
    required = [each.partition("=") for each in options.oidc_required_claim]
    rules = [{"claim": name, "requiredValue": value} for name, _, value in required]
    return {"jwt": [{"issuer": issuer, "claimMappings": mappings, "claimValidationRules": rules}]}
