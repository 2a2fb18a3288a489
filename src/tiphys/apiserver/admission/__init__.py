"""Admission: plugins that change or refuse what is about to be written. `plugins` lists them in order, once.

Each plugin is a small class; they read other objects through the Reader. None writes, but for ResourceQuota, which
charges quotas through the `QuotaLedger` that it is given.
"""

from __future__ import annotations

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
from tiphys.apiserver.types import Authorizer, Plugin, Reader

__all__ = ["QuotaLedger", "plugins"]


def plugins(reader: Reader, authorizer: Authorizer, ledger: QuotaLedger | None = None) -> list[Plugin]:
    """Those that kube-apiserver enables by default, and NodeRestriction, in its order.

    Without a `ledger` resource quotas are not enforced.
    """
    chain: list[Plugin] = [
        NamespaceLifecycle(reader),
        LimitRanger(reader),
        ServiceAccount(reader),
        NodeRestriction(reader),
        TaintNodesByCondition(),
        Priority(reader),
        DefaultTolerationSeconds(),
        DefaultStorageClass(reader),
        StorageObjectInUseProtection(),
        PersistentVolumeClaimResize(reader),
        RuntimeClass(reader),
        CertificateApproval(authorizer),
        CertificateSigning(authorizer),
        CertificateSubjectRestriction(),
        DefaultIngressClass(reader),
    ]
    if ledger is not None:
        chain.append(ResourceQuota(reader, ledger))
    return chain
