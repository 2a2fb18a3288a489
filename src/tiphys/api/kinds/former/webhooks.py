"""Webhook configurations of admissionregistration.k8s.io/v1beta1: the same fields, more lenient defaults."""

from __future__ import annotations

from tiphys.api.kinds.admissionregistration.webhooks import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.common import setdefaults
from tiphys.api.kinds.former.base import Former, structs

_TIMEOUT = 30


def _default(obj: MutableObject) -> None:
    for hook in structs(obj.get("webhooks")):
        setdefaults(hook, failurePolicy="Ignore", matchPolicy="Exact", sideEffects="Unknown", timeoutSeconds=_TIMEOUT)
        if not hook.get("admissionReviewVersions"):
            hook["admissionReviewVersions"] = ["v1beta1"]


class FormerMutatingWebhooks(Former, MutatingWebhookConfiguration):
    any_side_effects = True

    def default(self, obj: MutableObject, version: str) -> None:
        _default(obj)
        super().default(obj, version)


class FormerValidatingWebhooks(Former, ValidatingWebhookConfiguration):
    any_side_effects = True

    def default(self, obj: MutableObject, version: str) -> None:
        _default(obj)
        super().default(obj, version)
