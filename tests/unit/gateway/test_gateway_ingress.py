"""Ingresses -> routes: classes, hosts, precedence, what annotations change, and what is told."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gateway_objects import endpoint_slice, ingress, ingress_class, service
from tiphys.gateway import decide as deciding
from tiphys.gateway import snapshot
from tiphys.gateway.decide import Answer, Check, Way, World, decide
from tiphys.gateway.ingress import nginx
from tiphys.gateway.plan import Plan
from tiphys.gateway.proxy.backends import Backends
from tiphys.gateway.proxy.forwarding import Client
from tiphys.gateway.proxy.heads import parse_request
from tiphys.gateway.snapshot import Snapshot

SERVICES = {name: service(name, ("http", 80), ("admin", 8080)) for name in ("web", "other", "canary", "fallback")} | {
    "external": service("external", ("http", 80), type="ExternalName", externalName="localhost")
}
ADDRESS = {"web": "10.0.0.1", "other": "10.0.0.2", "canary": "10.0.0.3", "fallback": "10.0.0.4"}


def world(*ingresses: Mapping[str, Any], secrets: Mapping[str, Mapping[str, Any]] | None = None) -> Snapshot:
    def slices(namespace: str, name: str) -> Sequence[Mapping[str, Any]]:
        return [endpoint_slice(name, [ADDRESS[name]], {"http": 8000, "admin": 9000})] if name in ADDRESS else []

    return Snapshot(
        ingresses=ingresses,
        classes=[ingress_class(), ingress_class("nginx", "k8s.io/ingress-nginx")],
        service=lambda namespace, name: SERVICES.get(name),
        slices=slices,
        secret=lambda namespace, name: (secrets or {}).get(name),
    )


class Site:
    """What the Ingresses answer."""

    def __init__(
        self, *ingresses: Mapping[str, Any], dice: float = 0.0, secrets: Mapping[str, Any] | None = None
    ) -> None:
        self.plan: Plan = snapshot.make(world(*ingresses, secrets=secrets))
        self.backends = Backends()
        self.backends.set(self.plan.endpoints)
        self.dice = dice
        self.known: bool | None = None

    def decide(
        self, url: str, method: str = "GET", *, tls: bool = False, client: str = "9.9.9.9", **fields: str
    ) -> Answer | Check | Way:
        host, slash, path = url.partition("/")
        lines = [f"{method} {slash}{path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        head = parse_request("\r\n".join(lines).encode())
        port = 443 if tls else 80
        tables = self.plan.fronts["kube-system/ingress", port].tables
        made = World(self.backends, lambda auth, header: self.known, lambda: self.dice)
        return decide(tables, head, Client(client, port, tls), made, None)

    def backend(self, url: str, **more: Any) -> str:
        """ADDRESS:PORT PATH, or the status of an answer."""
        found = self.decide(url, **more)
        if isinstance(found, Way):
            address, port = found.endpoints[0].address
            return f"{next(name for name, one in ADDRESS.items() if one == address)}:{port} {found.path}"
        assert isinstance(found, Answer)
        return f"{found.status} {dict(found.fields).get('Location', '')}".strip()

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.plan.problems]


def test_only_ingresses_of_our_class_are_served() -> None:
    site = Site(
        ingress("by-name", ("a", "/", "web:80")),
        ingress("without", ("b", "/", "web:80"), class_name=None),
        ingress("foreign", ("c", "/", "web:80"), class_name="nginx"),
        ingress("unknown", ("d", "/", "web:80"), class_name="gone"),
    )
    assert [site.backend(f"{host}/") for host in "abcd"] == ["web:8000 /", "web:8000 /", "404", "404"]
    foreign = ingress("old", ("e", "/", "web:80"), class_name=None)
    foreign["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "nginx"}
    assert not snapshot.ours(world(foreign))
    without = ingress("without", ("a", "/", "web:80"), class_name=None)
    assert not snapshot.ours(Snapshot(ingresses=[without], classes=[ingress_class(default="false")]))
    assert not snapshot.ours(Snapshot(ingresses=[without], classes=[]))


def test_ports_by_name_and_number_and_backends_that_cannot_be() -> None:
    site = Site(
        ingress("name", ("a", "/", "web:admin")),
        ingress("number", ("b", "/", "web:8080")),
        ingress("none", ("c", "/", "web:81"), ("d", "/", "gone:80"), ("e", "/", "external:80")),
        ingress("resource", ("f", "/", "web:80")) | {"spec": {"rules": [{"host": "f", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "x"}}}]}}]}},
    )  # fmt: skip
    assert [site.backend(f"{host}/") for host in "abcdef"] == ["web:9000 /", "web:9000 /", "503", "503", "503", "503"]
    assert site.reasons == ["BackendNotFound"] * 3 + ["UnsupportedBackend"]


def test_paths_and_default_backends() -> None:
    default = {"service": {"name": "fallback", "port": {"number": 80}}}
    site = Site(
        ingress("rules", ("a", "/x", "web:80"), ("a", "/x/y", "other:80"), defaultBackend=default),
        ingress("exact", ("b", "/x", "web:80"), kind="Exact"),
        ingress("bare", defaultBackend=default),
    )
    assert site.backend("a/x/z") == "web:8000 /x/z"
    assert site.backend("a/x/y/z?q") == "other:8000 /x/y/z?q"
    assert site.backend("a/other") == "fallback:8000 /other"
    assert site.backend("b/x") == "web:8000 /x"
    assert site.backend("b/x/") == "404"
    assert site.backend("elsewhere/") == "fallback:8000 /"


def test_of_two_that_claim_the_same_the_older_has_it() -> None:
    site = Site(
        ingress("young", ("a", "/", "other:80"), created="2026-02-01T00:00:00Z"),
        ingress("old", ("a", "/", "web:80"), created="2026-01-01T00:00:00Z"),
    )
    assert site.backend("a/") == "web:8000 /"
    assert site.reasons == ["Conflict"]


def test_rewrites() -> None:
    site = Site(
        ingress(
            "groups",
            ("a", "/api(/|$)(.*)", "web:80"),
            kind="ImplementationSpecific",
            annotations={"rewrite-target": "/$2"},
        ),
        ingress("all", ("b", "/x", "web:80"), annotations={"rewrite-target": "/", "upstream-vhost": "inner.example"}),
        ingress(
            "regex", ("c", "/v[0-9]+/", "web:80"), kind="ImplementationSpecific", annotations={"use-regex": "true"}
        ),
        ingress(
            "bad", ("d", "/(a+)+$(.*)", "web:80"), kind="ImplementationSpecific", annotations={"rewrite-target": "/$2"}
        ),
    )
    assert site.backend("a/api/users?id=1") == "web:8000 /users?id=1"
    assert site.backend("a/api") == "web:8000 /"
    assert site.backend("a/apix") == "404"
    assert site.backend("b/x/y") == "web:8000 /"
    way = site.decide("b/x")
    assert isinstance(way, Way)
    assert way.host == "inner.example"
    assert site.backend("c/v12/x") == "web:8000 /v12/x"
    assert site.backend("c/vx/") == "404"
    assert site.backend("d/aaa") == "404"
    assert site.reasons == ["InvalidPath"]


def test_redirects_to_https_and_elsewhere() -> None:
    tls = [{"hosts": ["a", "*.w.example"], "secretName": "cert"}]
    site = Site(
        ingress("tls", ("a", "/", "web:80"), ("x.w.example", "/", "web:80"), ("plain", "/", "web:80"), tls=tls),
        ingress("off", ("b", "/", "web:80"), tls=[{"hosts": ["b"]}], annotations={"ssl-redirect": "false"}),
        ingress("force", ("c", "/", "web:80"), annotations={"force-ssl-redirect": "true"}),
        ingress("root", ("d", "/", "web:80"), annotations={"app-root": "/app"}),
        ingress("moved", ("e", "/", "web:80"), annotations={"permanent-redirect": "https://new.example/"}),
        ingress("soon", ("f", "/", "web:80"), annotations={"temporal-redirect": "https://t.example/"}),
    )
    assert site.backend("a/x?y") == "308 https://a/x?y"
    assert site.backend("a/x", tls=True) == "web:8000 /x"
    assert site.backend("x.w.example/") == "308 https://x.w.example/"
    assert site.backend("plain/") == "web:8000 /"
    assert site.backend("b/") == "web:8000 /"
    assert site.backend("c/") == "308 https://c/"
    assert site.backend("d/") == "302 http://d/app"
    assert site.backend("d/app") == "web:8000 /app"
    assert site.backend("e/x") == "301 https://new.example/"
    assert site.backend("f/x") == "302 https://t.example/"
    assert site.plan.fronts["kube-system/ingress", 443].certificates == {
        "a": ("default", "cert"),
        "*.w.example": ("default", "cert"),
    }
    assert ("default", "cert") in site.plan.secrets


def test_who_may_come() -> None:
    site = Site(
        ingress("allow", ("a", "/", "web:80"), annotations={"whitelist-source-range": "10.0.0.0/8, 2001:db8::/32"}),
        ingress("deny", ("b", "/", "web:80"), annotations={"denylist-source-range": "10.0.0.0/8"}),
        ingress("bad", ("c", "/", "web:80"), annotations={"whitelist-source-range": "everybody"}),
        ingress("auth", ("d", "/", "web:80"), annotations={"auth-url": "http://auth/"}),
    )
    assert site.backend("a/", client="10.1.2.3") == "web:8000 /"
    assert site.backend("a/", client="2001:db8::1") == "web:8000 /"
    assert site.backend("a/", client="11.1.2.3") == "403"
    assert site.backend("b/", client="10.1.2.3") == "403"
    assert site.backend("b/", client="11.1.2.3") == "web:8000 /"
    assert site.backend("c/") == "503", "what cannot be read lets nobody in"
    assert site.backend("d/") == "503", "what is not supported lets nobody in"
    assert site.reasons == ["UnsupportedAnnotation"] * 2


def test_passwords() -> None:
    secret = {"metadata": {"name": "users"}, "data": {"auth": base64.b64encode(b"alice:{PLAIN}x").decode()}}
    annotations = {"auth-type": "basic", "auth-secret": "users", "auth-realm": 'Say "friend"'}
    site = Site(ingress("auth", ("a", "/", "web:80"), annotations=annotations), secrets={"users": secret})
    refused = site.decide("a/")
    assert isinstance(refused, Answer)
    assert (refused.status, dict(refused.fields)) == (401, {"WWW-Authenticate": "Basic realm=\"Say 'friend'\""})
    assert isinstance(site.decide("a/", Authorization="Basic x"), Check)
    site.known = False
    assert site.backend("a/", Authorization="Basic x") == "401"
    site.known = True
    assert site.backend("a/", Authorization="Basic x") == "web:8000 /"
    assert Site(ingress("auth", ("a", "/", "web:80"), annotations=annotations)).backend("a/") == "503"
    elsewhere = annotations | {"auth-secret": "kube-system/users"}
    assert Site(ingress("auth", ("a", "/", "web:80"), annotations=elsewhere)).backend("a/") == "503"


def canary(**annotations: str) -> Mapping[str, Any]:
    named = {f"canary-{name.replace('_', '-')}": value for name, value in annotations.items()}
    return ingress("canary", ("a", "/", "canary:80"), annotations={"canary": "true", **named})


def test_canaries() -> None:
    main = ingress("main", ("a", "/", "web:80"))
    weighted = Site(main, canary(weight="30"), dice=0.29)
    assert weighted.backend("a/") == "canary:8000 /"
    weighted.dice = 0.31
    assert weighted.backend("a/") == "web:8000 /"
    header = Site(main, canary(by_header="X-New", by_cookie="new", weight="0"))
    assert header.backend("a/") == "web:8000 /"
    assert header.backend("a/", X_New="always") == "canary:8000 /"
    assert header.backend("a/", X_New="never", Cookie="new=always") == "web:8000 /"
    assert header.backend("a/", X_New="maybe", Cookie="new=always") == "canary:8000 /"
    value = Site(main, canary(by_header="X-New", by_header_value="yes"))
    assert value.backend("a/", X_New="yes") == "canary:8000 /"
    assert value.backend("a/", X_New="always") == "web:8000 /"
    alone = Site(canary(weight="10"))
    assert alone.backend("a/") == "404"
    assert alone.reasons == ["CanaryAlone"]


def test_affinity_by_cookie() -> None:
    site = Site(
        ingress("sticky", ("a", "/", "web:80"), annotations={"affinity": "cookie", "session-cookie-name": "route"})
    )
    site.backends.set({("default", "web", "80"): [("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 1)]})
    first = site.decide("a/")
    assert isinstance(first, Way)
    name, _, value = first.extra[0].removeprefix("Set-Cookie: ").partition(";")[0].partition("=")
    assert name == "route"
    for _ in range(5):
        again = site.decide("a/", Cookie=f"x=y; route={value}")
        assert isinstance(again, Way)
        assert (again.endpoints[0], again.extra) == (first.endpoints[0], ())
    gone = site.decide("a/", Cookie="route=gone")
    assert isinstance(gone, Way)
    assert gone.extra


def test_cors_preflights_are_answered_here() -> None:
    site = Site(
        ingress(
            "cors", ("a", "/", "web:80"), annotations={"enable-cors": "true", "cors-allow-origin": "https://o.example"}
        )
    )
    origin = "https://o.example"
    answer = site.decide("a/", "OPTIONS", Origin=origin, Access_Control_Request_Method="PUT")
    assert isinstance(answer, Answer)
    assert (answer.status, dict(answer.fields)["Access-Control-Allow-Origin"]) == (204, "https://o.example")
    way = site.decide("a/", Origin="https://o.example")
    assert isinstance(way, Way)
    assert "Access-Control-Allow-Origin: https://o.example" in way.extra


def test_limits_are_read_and_what_is_unknown_is_told() -> None:
    annotations = {
        "proxy-body-size": "8m",
        "proxy-read-timeout": "120",
        "proxy-connect-timeout": "3s",
        "backend-protocol": "HTTPS",
        "server-snippet": "evil",
        "proxy-buffering": "off",
        "ssl-redirect": "perhaps",
    }
    options = nginx.read(ingress("x", annotations=annotations), lambda namespace, name: None)
    assert (options.policy.max_body, options.policy.read_timeout, options.policy.connect_timeout) == (8 << 20, 120, 3)
    assert options.tls_backend
    assert len(options.problems) == 2
    assert "server-snippet is not supported" in options.problems[0]
    refused = nginx.read(ingress("x", annotations={"backend-protocol": "GRPC"}), lambda namespace, name: None)
    assert refused.closed


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00"])
def test_values_cannot_break_out_of_their_lines(value: str) -> None:
    for name in ("upstream-vhost", "session-cookie-name", "cors-allow-headers", "permanent-redirect"):
        options = nginx.read(
            ingress("x", annotations={name: value, "affinity": "cookie", "enable-cors": "true"}),
            lambda namespace, name: None,
        )
        assert value not in repr(options.policy)
        assert options.upstream_host == ""
        assert options.redirect is None


def test_values_that_are_too_much_do_not_keep_others_from_being_served() -> None:
    site = Site(
        ingress("long", ("a", "/", "web:80"), annotations={"proxy-read-timeout": "9" * 400, "cors-max-age": "9" * 400}),
        ingress("large", ("b", "/", "web:80"), annotations={"proxy-body-size": "9" * 5000 + "g"}),
        ingress("good", ("c", "/", "web:80")),
    )
    assert site.backend("a/") == site.backend("c/") == "web:8000 /"
    assert site.backend("b/") == "404"
    assert site.reasons == ["Malformed"]


def test_statuses_tell_the_address_of_the_ingress_service() -> None:
    address = [{"ip": "10.89.0.202", "ipMode": "VIP"}]
    load_balancer = {"metadata": {"name": "ingress"}, "status": {"loadBalancer": {"ingress": address}}}
    told = ingress("told", ("a", "/", "web:80")) | {"status": {"loadBalancer": {"ingress": [{"ip": "10.89.0.202"}]}}}
    seen = Snapshot(
        ingresses=[told, ingress("new", ("b", "/", "web:80"))],
        classes=[ingress_class()],
        service=lambda namespace, name: load_balancer if name == "ingress" else None,
    )
    plan = snapshot.make(seen)
    assert [(one.obj["metadata"]["name"], one.status) for one in plan.statuses] == [
        ("new", {"loadBalancer": {"ingress": [{"ip": "10.89.0.202"}]}})
    ]


def test_nothing_is_served_when_there_is_nothing() -> None:
    plan = snapshot.make(world())
    assert not plan.fronts
    assert not plan.services
    assert deciding.NOT_FOUND.status == 404
