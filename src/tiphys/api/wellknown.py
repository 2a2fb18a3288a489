"""Names of our own in the API, by which components that do not know each other agree."""

from __future__ import annotations

CLUSTER_DNS_LABEL = "tiphys.io/cluster-dns"
"""Of nodes that run a name server for the cluster: "true", or "false" to take it out of use."""
