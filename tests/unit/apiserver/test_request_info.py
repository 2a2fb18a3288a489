"""What a request is about, read from its method and path."""

from __future__ import annotations

import pytest

from tiphys.apiserver.requestinfo import parse
from tiphys.base.http.types import Request


@pytest.mark.parametrize(
    ("method", "url", "verb", "resource", "subresource", "namespace", "name"),
    [
        ("GET", "/api/v1/pods", "list", "pods", "", "", ""),
        ("GET", "/api/v1/namespaces/a/pods", "list", "pods", "", "a", ""),
        ("GET", "/api/v1/namespaces/a/pods/p", "get", "pods", "", "a", "p"),
        ("GET", "/api/v1/namespaces/a/pods/p/log", "get", "pods", "log", "a", "p"),
        ("GET", "/api/v1/namespaces/a", "get", "namespaces", "", "a", "a"),
        ("PUT", "/api/v1/namespaces/a/finalize", "update", "namespaces", "finalize", "a", "a"),
        ("GET", "/api/v1/namespaces", "list", "namespaces", "", "", ""),
        ("GET", "/api/v1/pods?watch=true", "watch", "pods", "", "", ""),
        ("GET", "/api/v1/watch/namespaces/a/pods", "watch", "pods", "", "a", ""),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection", "deployments", "", "a", ""),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments/d", "delete", "deployments", "", "a", "d"),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", "patch", "deployments", "scale", "a", "d"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dp", "list", "pods", "", "", "p"),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn,metadata.name%3D%3Dp", "list", "pods", "", "", "p"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name!%3Dp", "list", "pods", "", "", ""),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3D..", "list", "pods", "", "", ""),
        (
            "DELETE",
            "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dp",
            "deletecollection",
            "pods",
            "",
            "a",
            "",
        ),
        ("GET", "/api/v1/pods?watch", "watch", "pods", "", "", ""),
        ("GET", "/api/v1/pods?watch=", "watch", "pods", "", "", ""),
        ("GET", "/api/v1/pods?watch=True", "watch", "pods", "", "", ""),
        ("GET", "/api/v1/pods?watch=FALSE", "list", "pods", "", "", ""),
        ("POST", "/api/v1/nodes/n/proxy/run", "create", "nodes", "proxy", "", "n"),
    ],
)
def test_a_resource_request_is_told_in_the_apis_terms(
    method: str, url: str, verb: str, resource: str, subresource: str, namespace: str, name: str
) -> None:
    path, _, query = url.partition("?")
    info = parse(Request(method, path, query))
    assert (info.verb, info.resource, info.subresource) == (verb, resource, subresource)
    assert (info.namespace, info.name) == (namespace, name)
    assert info.resource_request


@pytest.mark.parametrize("path", ["/", "/version", "/api", "/api/v1", "/apis", "/apis/apps/v1", "/healthz/ping"])
def test_other_paths_are_no_resource_requests(path: str) -> None:
    info = parse(Request("GET", path))
    assert not info.resource_request
    assert (info.verb, info.path) == ("get", path)


def test_what_follows_a_subresource_is_kept_for_proxies() -> None:
    assert parse(Request("GET", "/api/v1/namespaces/a/services/s:80/proxy/x/y")).rest == "x/y"


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("/api/v1/pods", True),
        ("/api/v1/watch/pods", False),
        ("/api/v1/namespaces/a/pods/p", False),
        ("/api/v1/watch/namespaces/a/pods/p", False),
    ],
)
def test_selectors_are_believed_only_where_they_narrow_the_answer(path: str, counts: bool) -> None:
    info = parse(Request("GET", path, "fieldSelector=spec.nodeName%3Dn&labelSelector=a"))
    assert (info.field_selector, info.label_selector) == (("spec.nodeName=n", "a") if counts else ("", ""))
