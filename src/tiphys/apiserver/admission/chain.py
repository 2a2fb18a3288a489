"""Which admission plugins there are, in what order they run, and how each is made of what the server has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
)
from tiphys.apiserver.admission.ingress_class import DefaultIngressClass
from tiphys.apiserver.admission.limit_ranger import LimitRanger
from tiphys.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from tiphys.apiserver.admission.node_restriction import NodeRestriction
from tiphys.apiserver.admission.pod_tolerations import DefaultTolerationSeconds, TaintNodesByCondition
from tiphys.apiserver.admission.priority import Priority
from tiphys.apiserver.admission.resource_quota import QuotaLedger, ResourceQuota
from tiphys.apiserver.admission.runtime_class import RuntimeClass
from tiphys.apiserver.admission.service_account import ServiceAccount
from tiphys.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from tiphys.apiserver.policies.plugin import MutatingPolicies, ValidatingPolicies
from tiphys.apiserver.types import Authorizer, Plugin, Reader
from tiphys.apiserver.webhooks.client import WebhookClient
from tiphys.apiserver.webhooks.plugins import MutatingWebhooks, ValidatingWebhooks
from tiphys.apiserver.webhooks.versions import Versions
from tiphys.base.errors import Permanent

ORDER = (
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "Priority",
    "DefaultTolerationSeconds",
    "DefaultStorageClass",
    "StorageObjectInUseProtection",
    "PersistentVolumeClaimResize",
    "RuntimeClass",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
)
"""All plugins that there are, as they run."""
DEFAULT = frozenset(ORDER)
"""Those that run unless they are left out: upstream's, and NodeRestriction, which upstream's installers add."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What plugins are made of."""

    reader: Reader
    authorizer: Authorizer
    ledger: QuotaLedger
    webhooks: WebhookClient
    versions: Versions
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """By plugin: what --admission-control-config-file says."""


MAKERS: Mapping[str, Callable[[Materials], Plugin]] = {
    "NamespaceLifecycle": lambda m: NamespaceLifecycle(m.reader),
    "LimitRanger": lambda m: LimitRanger(m.reader),
    "ServiceAccount": lambda m: ServiceAccount(m.reader),
    "NodeRestriction": lambda m: NodeRestriction(m.reader),
    "TaintNodesByCondition": lambda m: TaintNodesByCondition(),
    "Priority": lambda m: Priority(m.reader),
    "DefaultTolerationSeconds": lambda m: DefaultTolerationSeconds(),
    "DefaultStorageClass": lambda m: DefaultStorageClass(m.reader),
    "StorageObjectInUseProtection": lambda m: StorageObjectInUseProtection(),
    "PersistentVolumeClaimResize": lambda m: PersistentVolumeClaimResize(m.reader),
    "RuntimeClass": lambda m: RuntimeClass(m.reader),
    "CertificateApproval": lambda m: CertificateApproval(m.authorizer),
    "CertificateSigning": lambda m: CertificateSigning(m.authorizer),
    "CertificateSubjectRestriction": lambda m: CertificateSubjectRestriction(),
    "DefaultIngressClass": lambda m: DefaultIngressClass(m.reader),
    "MutatingAdmissionPolicy": lambda m: MutatingPolicies(m.reader, m.versions, m.authorizer),
    "MutatingAdmissionWebhook": lambda m: MutatingWebhooks(m.reader, m.webhooks, m.versions, m.authorizer),
    "ValidatingAdmissionPolicy": lambda m: ValidatingPolicies(m.reader, m.versions, m.authorizer),
    "ValidatingAdmissionWebhook": lambda m: ValidatingWebhooks(m.reader, m.webhooks, m.versions, m.authorizer),
    "ResourceQuota": lambda m: ResourceQuota(m.reader, m.ledger),
}


def choose(enabled: Collection[str], disabled: Collection[str]) -> tuple[str, ...]:
    """The names of the plugins to run, in order. Raises Permanent for unknown names and contradictions."""
    unknown = sorted({*enabled, *disabled} - set(ORDER))
    if unknown:
        raise Permanent(f"admission plugins: {', '.join(unknown)}: no such plugin; known are {', '.join(ORDER)}")
    both = sorted(set(enabled) & set(disabled))
    if both:
        raise Permanent(f"admission plugins: {', '.join(both)}: both enabled and disabled")
    wanted = (DEFAULT | set(enabled)) - set(disabled)
    return tuple(name for name in ORDER if name in wanted)


def plugins(materials: Materials, names: Collection[str]) -> list[Plugin]:
    """The plugins of these names, in order."""
    return [MAKERS[name](materials) for name in ORDER if name in names and name in MAKERS]
