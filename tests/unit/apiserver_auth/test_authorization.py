"""Who may do what: RBAC with the default roles, nodes, refusals, reviews, escalation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.apiserver.authz import EscalationCheck, NodeAuthorizer, RbacAuthorizer, Union, authorize
from tiphys.apiserver.authz.reviews import (
    local_subject_access_review,
    self_subject_access_review,
    self_subject_rules_review,
    subject_access_review,
)
from tiphys.apiserver.types import Authorizer, RequestInfo
from tiphys.base.errors import BadRequest, Forbidden, Invalid, NotFound
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import ANONYMOUS, User

RBAC = "rbac.authorization.k8s.io"
JANE = User("jane", groups=("devs", "system:authenticated"))
NODE = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
MASTER = User("admin", groups=("system:masters",))


def ask(verb: str, resource: str, namespace: str = "", name: str = "", group: str = "", **more: str) -> RequestInfo:
    plural, _, subresource = resource.partition("/")
    return RequestInfo(verb, "", True, group, "v1", namespace, plural, subresource, name, **more)


def path(verb: str, url: str) -> RequestInfo:
    return RequestInfo(verb, url)


def allowed(authorizer: Authorizer, user: User, info: RequestInfo) -> bool:
    return asyncio.run(_authorize(authorizer, user, info))[0]


async def _authorize(authorizer: Authorizer, user: User, info: RequestInfo) -> tuple[bool, str]:
    return await authorizer.authorize(user, info)


def role(name: str, *rules: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"metadata": metadata, "rules": list(rules)}


def rule(verbs: str, resources: str = "", group: str = "", names: str = "") -> dict[str, Any]:
    body = {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split()}
    return {**body, **({"resourceNames": names.split()} if names else {})}


def bind(reader: Any, kind: str, role_name: str, *subjects: dict[str, str], namespace: str = "") -> None:
    plural = "rolebindings" if namespace else "clusterrolebindings"
    metadata = {"name": f"{role_name}-binding", **({"namespace": namespace} if namespace else {})}
    reference = {"apiGroup": RBAC, "kind": kind, "name": role_name}
    reader.add(RBAC, plural, {"metadata": metadata, "subjects": list(subjects), "roleRef": reference})


def subject(name: str, kind: str = "User", namespace: str = "") -> dict[str, str]:
    return {"kind": kind, "name": name, **({"namespace": namespace} if namespace else {})}


def test_masters_may_do_everything_and_strangers_nothing(booted: Any) -> None:
    both = Union([NodeAuthorizer(booted), RbacAuthorizer(booted)])
    assert allowed(both, MASTER, ask("delete", "nodes", name="n"))
    assert not allowed(both, JANE, ask("get", "pods", "default"))


def test_everybody_may_see_the_version_and_members_discovery(booted: Any) -> None:
    rbac = RbacAuthorizer(booted)
    assert allowed(rbac, ANONYMOUS, path("get", "/version"))
    assert not allowed(rbac, ANONYMOUS, path("get", "/apis"))
    assert allowed(rbac, JANE, path("get", "/apis/apps/v1"))
    assert not allowed(rbac, JANE, path("post", "/apis"))


def test_a_role_binding_holds_in_its_namespace_only(reader: Any) -> None:
    rbac = RbacAuthorizer(reader)
    reader.add(RBAC, "clusterroles", role("reader", rule("get list", "pods pods/log")))
    bind(reader, "ClusterRole", "reader", subject("devs", "Group"), namespace="shop")
    assert allowed(rbac, JANE, ask("get", "pods", "shop", "p"))
    assert allowed(rbac, JANE, ask("get", "pods/log", "shop", "p"))
    assert not allowed(rbac, JANE, ask("get", "pods/exec", "shop", "p"))
    assert not allowed(rbac, JANE, ask("get", "pods", "other", "p"))
    assert not allowed(rbac, JANE, ask("list", "pods"))


def test_decisions_follow_every_change_of_roles_and_bindings(reader: Any) -> None:
    rbac, question = RbacAuthorizer(reader), ask("get", "pods", "shop")
    assert not allowed(rbac, JANE, question)
    bind(reader, "ClusterRole", "late", subject("jane"))
    assert asyncio.run(_authorize(rbac, JANE, question)) == (
        False,
        f'RBAC: clusterrole.{RBAC} "late" not found',
    )
    reader.add(RBAC, "clusterroles", role("late", rule("*", "*")))
    assert asyncio.run(_authorize(rbac, JANE, question)) == (
        True,
        'RBAC: allowed by ClusterRoleBinding "late-binding" of ClusterRole "late" to User "jane"',
    )
    reader.remove(RBAC, "clusterrolebindings", "", "late-binding")
    assert not allowed(rbac, JANE, question)


def test_resource_names_limit_a_rule_to_them(reader: Any) -> None:
    rbac = RbacAuthorizer(reader)
    reader.add(RBAC, "roles", role("one", rule("get list", "configmaps", names="mine"), namespace="shop"))
    bind(reader, "Role", "one", subject("jane"), namespace="shop")
    assert allowed(rbac, JANE, ask("get", "configmaps", "shop", "mine"))
    assert not allowed(rbac, JANE, ask("get", "configmaps", "shop", "yours"))
    assert not allowed(rbac, JANE, ask("list", "configmaps", "shop"))


@pytest.mark.parametrize(
    ("resources", "asked", "expected"),
    [("*", "pods/log", True), ("*/scale", "deployments/scale", True), ("*/scale", "deployments", False)],
)
def test_wildcards_match_subresources(reader: Any, resources: str, asked: str, expected: bool) -> None:
    rbac = RbacAuthorizer(reader)
    reader.add(RBAC, "clusterroles", role("wild", rule("get", resources, group="*")))
    bind(reader, "ClusterRole", "wild", subject("jane"))
    assert allowed(rbac, JANE, ask("get", asked, "shop", "x", group="apps")) is expected


def test_a_service_account_is_bound_by_name_in_the_bindings_namespace_by_default(reader: Any) -> None:
    rbac = RbacAuthorizer(reader)
    reader.add(RBAC, "roles", role("r", rule("get", "pods"), namespace="shop"))
    bind(reader, "Role", "r", subject("web", "ServiceAccount"), namespace="shop")
    assert allowed(rbac, User("system:serviceaccount:shop:web"), ask("get", "pods", "shop", "p"))
    assert not allowed(rbac, User("system:serviceaccount:other:web"), ask("get", "pods", "shop", "p"))


@pytest.mark.parametrize(
    ("info", "message", "details"),
    [
        (
            ask("list", "pods", "default"),
            'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"',
            {"kind": "pods"},
        ),
        (
            ask("get", "deployments/scale", "shop", "web", "apps"),
            'deployments.apps "web" is forbidden: User "jane" cannot get resource "deployments/scale" in API group '
            '"apps" in the namespace "shop"',
            {"name": "web", "group": "apps", "kind": "deployments"},
        ),
        (
            ask("list", "nodes"),
            'nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope',
            {"kind": "nodes"},
        ),
        (path("get", "/metrics"), 'forbidden: User "jane" cannot get path "/metrics"', {}),
    ],
)
def test_a_refusal_is_worded_as_upstreams(reader: Any, info: RequestInfo, message: str, details: Any) -> None:
    async def handler(request: Request) -> Response:
        raise AssertionError("not reached")

    link = authorize(RbacAuthorizer(reader))(handler)
    request = Request("GET", info.path, user=JANE, attributes={"info": info})
    with pytest.raises(Forbidden) as caught:
        asyncio.run(link(request))  # type: ignore[arg-type]
    assert caught.value.message == message
    assert caught.value.details == details


@pytest.mark.parametrize("url", ["/healthz", "/livez", "/readyz"])
def test_health_is_open_to_everybody(reader: Any, url: str) -> None:
    async def handler(request: Request) -> Response:
        return Response(204)

    request = Request("GET", url, user=ANONYMOUS, attributes={"info": path("get", url)})
    link = authorize(RbacAuthorizer(reader))(handler)
    assert asyncio.run(link(request)).status == 204  # type: ignore[arg-type]


def node_pod(reader: Any, **spec: Any) -> None:
    body = {"nodeName": "n1", "serviceAccountName": "web", "containers": [{"name": "c"}], **spec}
    reader.add("", "pods", {"metadata": {"name": "p", "namespace": "shop"}, "spec": body})


def test_a_node_reads_only_what_its_pods_mention(reader: Any) -> None:
    node = NodeAuthorizer(reader)
    volumes = [
        {"name": "a", "secret": {"secretName": "s1"}},
        {"name": "b", "projected": {"sources": [{"configMap": {"name": "c1"}}, {"secret": {"name": "s2"}}]}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}},
    ]
    environment = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}]
    containers = [{"name": "c", "env": environment, "envFrom": [{"configMapRef": {"name": "c2"}}]}]
    node_pod(reader, volumes=volumes, containers=containers, imagePullSecrets=[{"name": "s4"}])
    for name in ("s1", "s2", "s3", "s4"):
        assert allowed(node, NODE, ask("get", "secrets", "shop", name))
    for name in ("c1", "c2"):
        assert allowed(node, NODE, ask("watch", "configmaps", "shop", name))
    assert allowed(node, NODE, ask("get", "persistentvolumeclaims", "shop", "claim"))
    assert not allowed(node, NODE, ask("get", "secrets", "other", "s1"))
    assert not allowed(node, NODE, ask("update", "secrets", "shop", "s1"))
    assert not allowed(node, NODE, ask("list", "secrets", "shop"))
    assert asyncio.run(_authorize(node, NODE, ask("get", "secrets", "shop", "no"))) == (
        False,
        "no relationship found between node 'n1' and this object",
    )
    other = User("system:node:n2", groups=("system:nodes",))
    assert not allowed(node, other, ask("get", "secrets", "shop", "s1"))


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (ask("list", "pods", field_selector="spec.nodeName=n1"), True),
        (ask("list", "pods", field_selector="spec.nodeName=n2"), False),
        (ask("list", "pods"), False),
        (ask("get", "pods", "shop", "p"), True),
        (ask("patch", "pods/status", "shop", "p"), True),
        (ask("get", "nodes", name="n1"), True),
        (ask("get", "nodes", name="n2"), False),
        (ask("create", "nodes"), True),
        (ask("patch", "nodes/status", name="n1"), True),
        (ask("update", "leases", "kube-node-lease", "n1", "coordination.k8s.io"), True),
        (ask("update", "leases", "kube-node-lease", "n2", "coordination.k8s.io"), False),
        (ask("get", "leases", "default", "n1", "coordination.k8s.io"), False),
        (ask("create", "serviceaccounts/token", "shop", "web"), True),
        (ask("create", "serviceaccounts/token", "shop", "root"), False),
        (ask("create", "events", "shop"), True),
        (ask("list", "services"), True),
        (ask("list", "deployments", group="apps"), False),
    ],
)
def test_what_a_node_may_do(reader: Any, info: RequestInfo, expected: bool) -> None:
    node_pod(reader)
    assert allowed(NodeAuthorizer(reader), NODE, info) is expected
    assert not allowed(NodeAuthorizer(reader), JANE, info)


def test_a_subject_access_review_is_answered_and_checked(reader: Any) -> None:
    rbac = RbacAuthorizer(reader)
    asked = {"namespace": "shop", "verb": "get", "resource": "pods", "group": ""}
    review = {"kind": "SubjectAccessReview", "spec": {"user": "jane", "groups": [], "resourceAttributes": asked}}
    answer = asyncio.run(subject_access_review(review, rbac))
    assert answer == {
        "kind": "SubjectAccessReview",
        "metadata": {},
        "spec": {"resourceAttributes": {"namespace": "shop", "verb": "get", "resource": "pods"}, "user": "jane"},
        "status": {"allowed": False},
    }
    with pytest.raises(Invalid) as caught:
        asyncio.run(subject_access_review({"spec": {}}, rbac))
    assert caught.value.message == (
        '.authorization.k8s.io "" is invalid: [spec.resourceAttributes: Invalid value: null: exactly one of '
        'nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: "": at least '
        "one of user or group must be specified]"
    )
    assert caught.value.details.keys() == {"group", "causes"}


def test_a_self_review_is_about_oneself_and_a_local_one_about_its_namespace(reader: Any) -> None:
    union = Union([RbacAuthorizer(reader)])
    spec = {"resourceAttributes": {"namespace": "shop", "verb": "*", "resource": "*"}}
    assert asyncio.run(self_subject_access_review({"spec": spec}, MASTER, union))["status"] == {"allowed": True}
    local = {"metadata": {"namespace": "other"}, "spec": {"user": "jane", **spec}}
    with pytest.raises(Invalid, match=r"must match metadata\.namespace"):
        asyncio.run(local_subject_access_review(local, "other", union))
    with pytest.raises(BadRequest, match="does not match the namespace sent on the request"):
        asyncio.run(local_subject_access_review(local, "shop", union))


def test_a_rules_review_lists_what_roles_give(booted: Any) -> None:
    rbac = RbacAuthorizer(booted)
    with pytest.raises(BadRequest, match="no namespace on request"):
        asyncio.run(self_subject_rules_review({"spec": {}}, JANE, rbac, rbac))
    review = {"spec": {"namespace": "shop"}}
    status = asyncio.run(self_subject_rules_review(review, JANE, rbac, rbac))["status"]
    assert {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]} in (
        status["resourceRules"]
    )
    assert status["incomplete"] is False


def test_nobody_grants_what_they_do_not_hold(reader: Any, attributes: Any) -> None:
    rbac = RbacAuthorizer(reader)
    check = EscalationCheck(rbac, rbac)
    reader.add(RBAC, "clusterroles", role("reader", rule("get list", "pods")))
    bind(reader, "ClusterRole", "reader", subject("jane"))

    def write(plural: str, obj: dict[str, Any], user: User = JANE) -> None:
        asyncio.run(check.validate(attributes("CREATE", plural, obj, namespace="shop", group=RBAC, user=user)))

    write("roles", role("same", rule("get", "pods", names="x")))
    with pytest.raises(Forbidden) as caught:
        write("roles", role("more", rule("get delete", "pods"), rule("get", "secrets")))
    assert caught.value.message == (
        f'roles.{RBAC} "more" is forbidden: user "jane" (groups=["devs" "system:authenticated"]) is attempting to '
        "grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
    )
    write("roles", role("more", rule("delete", "pods")), MASTER)
    binding = {"metadata": {"name": "b"}, "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "strong"}}
    with pytest.raises(NotFound):
        write("rolebindings", binding)
    reader.add(RBAC, "clusterroles", role("strong", rule("*", "*")))
    with pytest.raises(Forbidden):
        write("rolebindings", binding)
    reader.add(RBAC, "clusterroles", role("binder", rule("bind", "clusterroles", group=RBAC, names="strong")))
    bind(reader, "ClusterRole", "binder", subject("jane"))
    write("rolebindings", binding)
