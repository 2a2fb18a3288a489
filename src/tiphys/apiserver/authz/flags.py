"""Upstream's flags about authorization, and the settings that they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiphys.apiserver.authn.flags import seconds, texts
from tiphys.apiserver.authz import config
from tiphys.apiserver.authz.config import AuthorizationSettings, AuthorizerConfiguration, Webhook
from tiphys.base.errors import Permanent

DEFAULT_MODES = "Node,RBAC"
ALWAYS_ALLOWED = "/healthz,/livez,/readyz"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--authorization-mode", default="", help=f"ordered list of {', '.join(config.TYPES)} ({DEFAULT_MODES})")
    add("--authorization-config", type=Path, help="AuthorizationConfiguration file, instead of the mode")
    add("--authorization-webhook-config-file", type=Path, help="kubeconfig of the service of mode Webhook")
    add("--authorization-webhook-version", choices=("v1", "v1beta1"), default="v1beta1", help="of its reviews")
    add("--authorization-webhook-cache-authorized-ttl", type=seconds, default=300.0, help="how long a yes is good")
    add("--authorization-webhook-cache-unauthorized-ttl", type=seconds, default=30.0, help="how long a no is good")
    add("--authorization-always-allow-paths", type=texts, default=texts(ALWAYS_ALLOWED), help="open to everybody")


def settings(options: argparse.Namespace) -> AuthorizationSettings:
    """What the flags mean. Raises Permanent."""
    file, webhook = options.authorization_config, options.authorization_webhook_config_file
    if file:
        if options.authorization_mode or webhook:
            raise Permanent("--authorization-config can not be specified when --authorization-mode or "
                            "--authorization-webhook-* flags are defined")  # fmt: skip
        return config.load(file)
    modes = texts(options.authorization_mode or DEFAULT_MODES)
    for mode in modes:
        if mode not in config.TYPES:
            raise Permanent(f"--authorization-mode: {mode} is not one of {', '.join(config.TYPES)}")
    if len(set(modes)) < len(modes):
        raise Permanent(f"--authorization-mode: {options.authorization_mode}: a mode is named twice")
    if ("Webhook" in modes) is not bool(webhook):
        raise Permanent("--authorization-mode Webhook and --authorization-webhook-config-file belong together")
    return AuthorizationSettings(
        tuple(AuthorizerConfiguration(mode, mode.lower(), _webhook(options, mode)) for mode in modes)
    )


def of_modes(modes: tuple[str, ...]) -> AuthorizationSettings:
    """Settings of modes that need nothing else."""
    return AuthorizationSettings(tuple(AuthorizerConfiguration(mode, mode.lower()) for mode in modes))


def _webhook(options: argparse.Namespace, mode: str) -> Webhook | None:
    if mode != "Webhook":
        return None
    from tiphys.apiserver.authz.webhook import WebhookRules

    rules = WebhookRules(
        options.authorization_webhook_version,
        options.authorization_webhook_cache_authorized_ttl,
        options.authorization_webhook_cache_unauthorized_ttl,
    )
    return Webhook(options.authorization_webhook_config_file, rules)
