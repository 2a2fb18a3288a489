"""Admission: plugins that change or refuse what is about to be written. `ORDER` lists them, as upstream runs them.

Each plugin is a small class; they read other objects through the Reader. None writes, but for ResourceQuota, which
charges quotas through the `QuotaLedger` that it is given, and NamespaceAutoProvision, which is off by default.
"""

from __future__ import annotations

from tiphys.apiserver.admission.chain import DEFAULT, ORDER, Materials, choose, plugins
from tiphys.apiserver.admission.resource_quota import QuotaLedger

__all__ = ["DEFAULT", "ORDER", "Materials", "QuotaLedger", "choose", "plugins"]
