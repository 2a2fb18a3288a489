"""How objects of a definition get from one version to another: spec.conversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.apiextensions import bundles
from tiphys.api.kinds.base import Object
from tiphys.api.meta import is_true
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns1035_label
from tiphys.api.validation.webhooks import webhook_service, webhook_url

Struct = Mapping[str, Any]
REVIEWS = ("v1", "v1beta1")
"""Versions of ConversionReview that the server speaks."""


def wants_bundle(old: Object) -> bool:
    """Whether the CA bundle has to be readable: the definition is established, and it was readable before."""
    if not old or not is_true(old, "Established"):
        return False
    config = (((old.get("spec") or {}).get("conversion") or {}).get("webhook") or {}).get("clientConfig") or {}
    return not config.get("caBundle") or not bundles.problem(config["caBundle"])


def check(errors: Errors, path: str, spec: Struct, *, known_review: bool, bundle: bool) -> None:
    """Add what is wrong with spec.conversion. `known_review`: a version of the review that this server speaks is
    needed; `bundle`: the CA bundle has to be readable."""
    conversion: Struct = spec.get("conversion") or {}
    if conversion.get("strategy", "None") != "None" and spec.get("preserveUnknownFields"):
        detail = "must be None if spec.preserveUnknownFields is true"
        errors.invalid(f"{path}.strategy", conversion["strategy"], detail)
    strategy, webhook = conversion.get("strategy", ""), conversion.get("webhook") or {}
    config, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    where = f"{path}.webhookClientConfig"
    errors.enum(f"{path}.strategy", strategy, ("None", "Webhook"))
    if strategy != "Webhook":
        for name, value in (("webhookClientConfig", config), ("conversionReviewVersions", versions or None)):
            if value is not None:
                errors.forbidden(f"{path}.{name}", "should not be set when strategy is not set to Webhook")
        return
    if config is None:
        errors.required(where, "required when strategy is set to Webhook")
    elif (config.get("url") is None) == (config.get("service") is None):
        errors.required(where, "exactly one of url or service is required")
    elif config.get("url") is not None:
        webhook_url(errors, f"{where}.url", config["url"])
    else:
        webhook_service(errors, f"{where}.service", config["service"])
    if bundle and config and config.get("caBundle") and (detail := bundles.problem(config["caBundle"])):
        errors.invalid(f"{where}.caBundle", config["caBundle"], detail)
    _review_versions(errors, f"{path}.conversionReviewVersions", versions, known_review=known_review)


def _review_versions(errors: Errors, path: str, versions: Sequence[str], *, known_review: bool) -> None:
    if not errors.non_empty(path, versions):
        return
    for i, version in enumerate(versions):
        if version in versions[:i]:
            errors.invalid(f"{path}[{i}]", version, "duplicate version")
        else:
            errors.each(f"{path}[{i}]", version, dns1035_label(version))
    if known_review and not set(versions) & set(REVIEWS):
        errors.invalid(path, versions, f"must include at least one of {', '.join(REVIEWS)}")
