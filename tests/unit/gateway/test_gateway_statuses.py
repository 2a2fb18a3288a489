"""Gateways and HTTPRoutes: what attaches, what conditions say, with the Gateway API's reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gateway_objects import backend, condition, gateway, gateway_class, grant, http_route, listener, service
from tiphys.gateway.gatewayapi.attaching import intersection
from tiphys.gateway.gatewayapi.compile import Inputs, Outcome, compile_gateways, service_name
from tiphys.gateway.gatewayapi.routes import seconds
from tiphys.gateway.plan import SecretKey

Object = Mapping[str, Any]
SERVICES = {
    ("default", "web"): service("web", ("http", 80)),
    ("other", "web"): service("web", ("http", 80), namespace="other"),
    ("default", "h2c"): {"spec": {"ports": [{"port": 80, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}]}},
}
NOW = "2026-05-05T00:00:00Z"


def outcome(
    gateways: Sequence[Object] = (),
    routes: Sequence[Object] = (),
    grants: Sequence[Object] = (),
    classes: Sequence[Object] | None = None,
    labels: Mapping[str, Mapping[str, str]] | None = None,
    services: Mapping[tuple[str, str], Object] | None = None,
    good: Sequence[SecretKey] = (("default", "cert"), ("other", "cert")),
) -> Outcome:
    found = {**SERVICES, **(services or {})}
    spaces = {name: {"metadata": {"name": name, "labels": each}} for name, each in (labels or {}).items()}
    return compile_gateways(
        Inputs(
            classes=[gateway_class()] if classes is None else classes,
            gateways=gateways,
            routes=routes,
            grants=grants,
            services=lambda namespace, name: found.get((namespace, name)),
            namespaces=spaces.get,
            unusable=lambda key: "" if key in good else "it does not exist",
            now=NOW,
        )
    )


def status_of(result: Outcome, name: str, kind: str) -> Mapping[str, Any]:
    return next(
        one.status for one in result.statuses if one.obj["metadata"]["name"] == name and one.obj["kind"] == kind
    )


def parent(result: Outcome, name: str = "route", place: int = 0) -> dict[str, tuple[str, str]]:
    """Conditions of a route at one parent."""
    found = status_of(result, name, "HTTPRoute")["parents"][place]
    return {one["type"]: (one["status"], one["reason"]) for one in found["conditions"]}


def listeners(result: Outcome, name: str = "edge") -> dict[str, Mapping[str, Any]]:
    return {one["name"]: one for one in status_of(result, name, "Gateway")["listeners"]}


OK = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
EDGE = {"name": "edge"}


def test_a_class_of_ours_is_accepted_and_others_are_left_alone() -> None:
    with_parameters = gateway_class("parametrized", parametersRef={"group": "x", "kind": "y", "name": "z"})
    result = outcome(classes=[gateway_class(), gateway_class("foreign", "example.com/other"), with_parameters])
    found = {one.obj["metadata"]["name"]: one.status for one in result.statuses}
    assert set(found) == {"tiphys", "parametrized"}
    assert condition(found["tiphys"]["conditions"], "Accepted") == ("True", "Accepted")
    assert condition(found["parametrized"]["conditions"], "Accepted") == ("False", "InvalidParameters")
    features = [one["name"] for one in found["tiphys"]["supportedFeatures"]]
    assert features == sorted(features)


def test_a_gateway_and_its_route() -> None:
    edge = gateway("edge", listener("http"))
    load_balancer = {"status": {"loadBalancer": {"ingress": [{"ip": "10.89.0.210"}]}}}
    result = outcome([edge], [http_route("route", EDGE)], services={("default", "edge-tiphys"): load_balancer})
    assert parent(result) == OK
    status = status_of(result, "edge", "Gateway")
    assert status["addresses"] == [{"type": "IPAddress", "value": "10.89.0.210"}]
    assert condition(status["conditions"], "Accepted") == ("True", "Accepted")
    assert condition(status["conditions"], "Programmed") == ("True", "Programmed")
    assert {one["observedGeneration"] for one in status["conditions"]} == {3}
    http = listeners(result)["http"]
    assert http["attachedRoutes"] == 1
    assert http["supportedKinds"] == [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]
    assert [(one["type"], one["status"], one["reason"]) for one in http["conditions"]] == [
        ("Accepted", "True", "Accepted"),
        ("Conflicted", "False", "NoConflicts"),
        ("ResolvedRefs", "True", "ResolvedRefs"),
        ("Programmed", "True", "Programmed"),
    ]
    assert result.fronts.keys() == {("default/edge-tiphys", 80)}
    assert result.services["default/edge-tiphys"].owner is not None


def test_a_status_that_is_right_is_not_written_again_and_keeps_its_moments() -> None:
    edge = gateway("edge", listener("http"))
    first = outcome([edge], [http_route("route", EDGE)])
    again = edge | {"status": status_of(first, "edge", "Gateway")}
    route = http_route("route", EDGE) | {"status": status_of(first, "route", "HTTPRoute")}
    a_class = gateway_class() | {"status": status_of(first, "tiphys", "GatewayClass")}
    assert outcome([again], [route], classes=[a_class]).statuses == []


def test_a_gateway_without_an_address_is_not_programmed() -> None:
    result = outcome([gateway("edge", listener("http"))])
    assert condition(status_of(result, "edge", "Gateway")["conditions"], "Programmed") == (
        "False",
        "AddressNotAssigned",
    )
    wanted = gateway("edge", listener("http"), addresses=[{"type": "IPAddress", "value": "192.0.2.1"}])
    result = outcome([wanted])
    assert condition(status_of(result, "edge", "Gateway")["conditions"], "Programmed") == ("False", "AddressNotUsable")
    assert result.services["default/edge-tiphys"].address == "192.0.2.1"
    named = gateway("edge", listener("http"), addresses=[{"type": "Hostname", "value": "x.example"}])
    assert condition(status_of(outcome([named]), "edge", "Gateway")["conditions"], "Accepted") == (
        "False",
        "UnsupportedAddress",
    )


def test_gateways_of_other_classes_are_left_alone() -> None:
    foreign = gateway("edge", listener("http")) | {
        "spec": {"gatewayClassName": "foreign", "listeners": [listener("http")]}
    }
    result = outcome([foreign], [http_route("route", EDGE)], classes=[gateway_class("foreign", "example.com/x")])
    assert result.statuses == []
    assert not result.fronts


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ({"sectionName": "http"}, "Accepted"),
        ({"port": 80}, "Accepted"),
        ({"sectionName": "http", "port": 80}, "Accepted"),
        ({"sectionName": "none"}, "NoMatchingParent"),
        ({"port": 81}, "NoMatchingParent"),
        ({"sectionName": "http", "port": 81}, "NoMatchingParent"),
    ],
)
def test_parents_by_section_and_port(ref: Mapping[str, Any], reason: str) -> None:
    result = outcome([gateway("edge", listener("http"))], [http_route("route", {**EDGE, **ref})])
    assert parent(result)["Accepted"] == ("True" if reason == "Accepted" else "False", reason)
    assert listeners(result)["http"]["attachedRoutes"] == (1 if reason == "Accepted" else 0)


@pytest.mark.parametrize(
    ("source", "labels", "allowed"),
    [
        ({"from": "Same"}, {}, False),
        ({"from": "All"}, {}, True),
        ({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}, {"a": "b"}, True),
        ({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}, {"a": "c"}, False),
        ({"from": "Selector", "selector": {"matchExpressions": [{"key": "a", "operator": "Wrong"}]}}, {}, False),
    ],
)
def test_routes_of_other_namespaces(source: Mapping[str, Any], labels: Mapping[str, str], allowed: bool) -> None:
    edge = gateway("edge", listener("http") | {"allowedRoutes": {"namespaces": source}})
    route = http_route("route", EDGE | {"namespace": "default"}, namespace="other")
    result = outcome([edge], [route], labels={"other": labels})
    assert parent(result)["Accepted"] == (("True", "Accepted") if allowed else ("False", "NotAllowedByListeners"))


@pytest.mark.parametrize(
    ("listener_host", "hostnames", "expected"),
    [
        ("", [], [""]),
        ("", ["A.b"], ["a.b"]),
        ("very.specific.com", ["non.matching.com", "*.other.io", "very.specific.com"], ["very.specific.com"]),
        ("*.wild.io", ["other.com", "wild.io", "a.wild.io", "a.b.wild.io"], ["a.wild.io", "a.b.wild.io"]),
        ("very.specific.com", ["*.specific.com"], ["very.specific.com"]),
        ("*.anotherwildcard.io", ["*.anotherwildcard.io"], ["*.anotherwildcard.io"]),
        ("*.example.com", ["*.foo.example.com", "*.com"], ["*.foo.example.com", "*.example.com"]),
        ("specific.but.wrong.com", ["wildcard.io"], []),
        ("*.wildcard.io", ["wildcard.io"], []),
    ],
)  # fmt: skip
def test_hostnames_that_listener_and_route_share(listener_host: str, hostnames: list[str], expected: list[str]) -> None:
    assert list(intersection(listener_host, hostnames)) == expected


def test_a_route_without_a_common_hostname() -> None:
    edge = gateway("edge", listener("http", hostname="a.example"))
    result = outcome([edge], [http_route("route", EDGE, hostnames=["b.example"])])
    assert parent(result)["Accepted"] == ("False", "NoMatchingListenerHostname")


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        (backend("web"), "ResolvedRefs"),
        (backend("gone"), "BackendNotFound"),
        (backend("web", 81), "BackendNotFound"),
        (backend("web", kind="NonExistent"), "InvalidKind"),
        (backend("web", namespace="other"), "RefNotPermitted"),
        (backend("h2c"), "UnsupportedProtocol"),
    ],
)
def test_references_of_routes(ref: Mapping[str, Any], reason: str) -> None:
    result = outcome([gateway("edge", listener("http"))], [http_route("route", EDGE, rules=[{"backendRefs": [ref]}])])
    found = parent(result)
    assert found["Accepted"] == ("True", "Accepted")
    assert found["ResolvedRefs"] == ("True" if reason == "ResolvedRefs" else "False", reason)
    made = result.fronts["default/edge-tiphys", 80].tables[0][0].routes[""][0]
    assert (made.targets[0].key is None) == (reason != "ResolvedRefs")
    assert made.targets[0].status == 500


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        (grant("other", ("HTTPRoute", "default"), ("", "Service")), True),
        (grant("other", ("HTTPRoute", "default"), ("", "Service"), "web"), True),
        (grant("other", ("HTTPRoute", "default"), ("", "Service"), "different"), False),
        (grant("other", ("HTTPRoute", "elsewhere"), ("", "Service")), False),
        (grant("other", ("Gateway", "default"), ("", "Service")), False),
        (grant("other", ("HTTPRoute", "default"), ("", "Secret")), False),
        (grant("default", ("HTTPRoute", "default"), ("", "Service")), False),
    ],
)
def test_grants(given: Object, allowed: bool) -> None:
    route = http_route("route", EDGE, rules=[{"backendRefs": [backend("web", namespace="other")]}])
    result = outcome([gateway("edge", listener("http"))], [route], [given])
    assert parent(result)["ResolvedRefs"][0] == str(allowed)


@pytest.mark.parametrize(
    ("tls", "grants", "reason"),
    [
        ({"certificateRefs": [{"name": "cert"}]}, [], "ResolvedRefs"),
        ({"certificateRefs": [{"name": "gone"}]}, [], "InvalidCertificateRef"),
        ({"certificateRefs": [{"name": "cert", "kind": "Other", "group": "x"}]}, [], "InvalidCertificateRef"),
        ({"certificateRefs": [{"name": "cert", "namespace": "other"}]}, [], "RefNotPermitted"),
        (
            {"certificateRefs": [{"name": "cert", "namespace": "other"}]},
            [grant("other", ("Gateway", "default"), ("", "Secret"))],
            "ResolvedRefs",
        ),
        ({"options": {"a": "b"}}, [], "InvalidCertificateRef"),
    ],
)
def test_certificates_of_listeners(tls: Mapping[str, Any], grants: Sequence[Object], reason: str) -> None:
    result = outcome([gateway("edge", listener("https", 443, "HTTPS", tls=tls))], grants=grants)
    found = listeners(result)["https"]["conditions"]
    good = reason == "ResolvedRefs"
    assert condition(found, "ResolvedRefs") == (str(good), reason)
    assert condition(found, "Programmed") == (("True", "Programmed") if good else ("False", "Invalid"))
    assert bool(result.fronts) is good
    assert condition(status_of(result, "edge", "Gateway")["conditions"], "Accepted")[0] == str(good)


def test_listeners_in_each_others_way() -> None:
    result = outcome(
        [
            gateway(
                "edge",
                listener("one", 80, hostname="a.example"),
                listener("two", 80, hostname="a.example"),
                listener("plain", 8080),
                listener("secure", 8080, "HTTPS", tls={"certificateRefs": [{"name": "cert"}]}),
                listener("fine", 81),
                listener("stream", 82, "TCP"),
            )
        ]
    )
    found = listeners(result)
    assert condition(found["one"]["conditions"], "Conflicted") == ("True", "HostnameConflict")
    assert condition(found["two"]["conditions"], "Accepted") == ("False", "HostnameConflict")
    assert condition(found["plain"]["conditions"], "Conflicted") == ("True", "ProtocolConflict")
    assert condition(found["stream"]["conditions"], "Accepted") == ("False", "UnsupportedProtocol")
    assert found["stream"]["supportedKinds"] == []
    assert condition(found["fine"]["conditions"], "Programmed") == ("True", "Programmed")
    assert list(result.fronts) == [("default/edge-tiphys", 81)]
    assert condition(status_of(result, "edge", "Gateway")["conditions"], "Accepted") == ("True", "ListenersNotValid")


def test_kinds_of_routes_that_are_not_served() -> None:
    def kinds(*names: str) -> Mapping[str, Any]:
        refs = [{"group": "gateway.networking.k8s.io", "kind": name} for name in names]
        return listener("http") | {"allowedRoutes": {"namespaces": {"from": "Same"}, "kinds": refs}}

    both = listeners(outcome([gateway("edge", kinds("GRPCRoute", "HTTPRoute"))]))["http"]
    assert condition(both["conditions"], "ResolvedRefs") == ("False", "InvalidRouteKinds")
    assert [one["kind"] for one in both["supportedKinds"]] == ["HTTPRoute"]
    result = outcome([gateway("edge", kinds("GRPCRoute"))], [http_route("route", EDGE)])
    assert listeners(result)["http"]["supportedKinds"] == []
    assert parent(result)["Accepted"] == ("False", "NotAllowedByListeners")


def test_parents_of_other_controllers_stay() -> None:
    foreign = {"controllerName": "example.com/x", "parentRef": {"name": "far"}, "conditions": []}
    route = http_route("route", {"name": "far"}, EDGE) | {"status": {"parents": [foreign]}}
    result = outcome([gateway("edge", listener("http"))], [route])
    parents = status_of(result, "route", "HTTPRoute")["parents"]
    assert parents[0] == foreign
    assert parents[1]["parentRef"]["name"] == "edge"
    left = http_route("route", {"name": "far"}) | {"status": {"parents": parents}}
    assert status_of(outcome([gateway("edge", listener("http"))], [left]), "route", "HTTPRoute")["parents"] == [foreign]


def test_filters_that_are_not_known_close_their_rules() -> None:
    extension = {"type": "ExtensionRef", "extensionRef": {"group": "x", "kind": "Auth", "name": "y"}}
    result = outcome(
        [gateway("edge", listener("http"))],
        [http_route("route", EDGE, rules=[{"filters": [extension], "backendRefs": [backend("web")]}])],
    )
    assert parent(result)["ResolvedRefs"] == ("False", "InvalidKind")
    assert result.fronts["default/edge-tiphys", 80].tables[0][0].routes[""][0].targets[0].key is None


def test_a_pattern_that_is_none_is_refused() -> None:
    rule = {"matches": [{"path": {"type": "RegularExpression", "value": "/(x"}}], "backendRefs": [backend("web")]}
    result = outcome([gateway("edge", listener("http"))], [http_route("route", EDGE, rules=[rule])])
    assert parent(result)["Accepted"] == ("False", "UnsupportedValue")


def test_an_object_that_is_nonsense_does_not_keep_others_from_being_served() -> None:
    broken = http_route("broken", EDGE, rules=[{"backendRefs": [{"weight": "x"}]}])
    result = outcome([gateway("edge", listener("http"))], [broken, http_route("route", EDGE)])
    assert parent(result) == OK
    assert [(obj["metadata"]["name"], reason) for obj, reason, _ in result.problems] == [("broken", "Malformed")]


def test_names_of_services() -> None:
    assert service_name("edge") == "edge-tiphys"
    for name in ("x" * 253, "a.b", "1edge"):
        made = service_name(name)
        assert len(made) <= 63
        assert made[0].isalpha()
        assert made.replace("-", "").isalnum()
    assert service_name("x" * 100) != service_name("x" * 101)


@pytest.mark.parametrize(
    ("text", "expected"), [("10s", 10.0), ("1m30s", 90.0), ("1h", 3600.0), ("500ms", 0.5), ("0s", 0.0), ("", None)]
)
def test_durations(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "one",
    [
        {
            "type": "URLRewrite",
            "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x HTTP/1.1\r\nA: b"}},
        },
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b\r\nc: d"}]}},
        {
            "type": "RequestRedirect",
            "requestRedirect": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/\nx"}},
        },
    ],
)
def test_values_that_would_break_out_of_their_lines_are_refused(one: Mapping[str, Any]) -> None:
    rule = {"filters": [one], "backendRefs": [backend("web")]}
    result = outcome([gateway("edge", listener("http"))], [http_route("route", EDGE, rules=[rule])])
    assert parent(result)["Accepted"] == ("False", "UnsupportedValue")
    assert not result.fronts["default/edge-tiphys", 80].tables[0][0].routes
