"""What a cluster starts with, and that a later start mends it without undoing what people added."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tiphys.apiserver.bootstrap import BootstrapConfig, ensure

CONFIG = BootstrapConfig("192.0.2.2", 6443, client_ca="PEM")
RBAC = "rbac.authorization.k8s.io"


def start(reader: Any, config: BootstrapConfig = CONFIG) -> int:
    return asyncio.run(ensure(reader, reader, config, 1e9))


def test_the_first_start_creates_everything_and_the_second_only_renews_the_lease(reader: Any) -> None:
    assert start(reader) > 150
    begun = time.perf_counter()
    assert start(reader) == 1
    assert time.perf_counter() - begun < 0.5
    assert reader.get("", "namespaces", "", "kube-system")["status"] == {"phase": "Active"}
    service = reader.get("", "services", "default", "kubernetes")
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    assert service["metadata"]["uid"]


def test_a_default_role_gets_back_what_it_lost_and_keeps_what_was_added(reader: Any) -> None:
    start(reader)
    role = reader.get(RBAC, "clusterroles", "", "system:basic-user")
    extra = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
    reader.add(RBAC, "clusterroles", {**role, "rules": [extra]})
    assert start(reader) == 2
    rules = reader.get(RBAC, "clusterroles", "", "system:basic-user")["rules"]
    assert extra in rules
    assert any("selfsubjectaccessreviews" in rule["resources"] for rule in rules)


def test_a_role_that_opted_out_is_left_alone(reader: Any) -> None:
    start(reader)
    role = reader.get(RBAC, "clusterroles", "", "system:basic-user")
    annotations = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
    metadata = {**role["metadata"], "annotations": annotations}
    reader.add(RBAC, "clusterroles", {**role, "metadata": metadata, "rules": []})
    assert start(reader) == 1


def test_a_new_address_of_the_server_reaches_service_and_endpoints(reader: Any) -> None:
    start(reader)
    start(reader, BootstrapConfig("192.0.2.3", 7443, client_ca="PEM"))
    assert reader.get("", "services", "default", "kubernetes")["spec"]["ports"][0]["targetPort"] == 7443
    assert reader.get("", "endpoints", "default", "kubernetes")["subsets"][0]["addresses"] == [{"ip": "192.0.2.3"}]
    (endpoint,) = reader.get("discovery.k8s.io", "endpointslices", "default", "kubernetes")["endpoints"]
    assert endpoint["addresses"] == ["192.0.2.3"]
