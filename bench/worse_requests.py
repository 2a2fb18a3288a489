"""Bad requests that need a world to be bad in: objects that exist, a definition with rules, connections that are kept.

`prepare` makes the objects; `WorseRequests` adds its sorts to those of `bad_requests`.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from bad_requests import NASTY, Requests, Server

from tiphys.api.protobuf.codec import encode

GROUP, PLURAL = "bench.tiphys.dev", "fuzzes"
RULES = (
    ("self.replicas <= 5", ""),
    ("!has(self.text) || self.text.matches('^(a+)+$')", ""),
    ("self.list.all(x, self.list.exists(y, x == y))", ""),
    ("oldSelf.replicas <= self.replicas", ""),
    ("!has(self.when) || timestamp(self.when) > timestamp('2020-01-01T00:00:00Z')", ""),
    ("!has(self.amount) || quantity(self.amount).isGreaterThan(quantity('0'))", ""),
    ("!has(self.net) || cidr(self.net).containsIP('10.0.0.1')", "'bad net ' + self.net"),
)
PROPERTIES: dict[str, Any] = {
    "replicas": {"type": "integer", "default": 1, "minimum": 0},
    "text": {"type": "string", "maxLength": 200, "pattern": "^(a|aa)*$"},
    "when": {"type": "string", "maxLength": 60},
    "amount": {"type": "string", "maxLength": 60},
    "net": {"type": "string", "maxLength": 60},
    "any": {"x-kubernetes-int-or-string": True},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "list": {"type": "array", "maxItems": 30, "default": [], "items": {"type": "string", "maxLength": 20}},
    "map": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["key"],
        "items": {"type": "object", "required": ["key"], "properties": {"key": {"type": "string"}}},
    },
}
CONTAINER = {"name": "c", "image": "i"}
KINDS = {
    "configmaps": "ConfigMap",
    "secrets": "Secret",
    "services": "Service",
    "serviceaccounts": "ServiceAccount",
    "pods": "Pod",
    "deployments": "Deployment",
    "roles": "Role",
    PLURAL: "Fuzz",
}
WORLD: tuple[tuple[str, str, Any], ...] = (
    ("/api/v1/namespaces/default", "configmaps", {"data": {"a": "b"}}),
    ("/api/v1/namespaces/default", "secrets", {"stringData": {"a": "b"}}),
    ("/api/v1/namespaces/default", "services", {"spec": {"ports": [{"port": 1, "protocol": "TCP"}]}}),
    ("/api/v1/namespaces/default", "serviceaccounts", {}),
    ("/api/v1/namespaces/default", "pods", {"spec": {"serviceAccountName": "x", "containers": [CONTAINER]}}),
    (
        "/apis/apps/v1/namespaces/default",
        "deployments",
        {
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}},
            }
        },
    ),
    ("/apis/rbac.authorization.k8s.io/v1/namespaces/default", "roles", {"rules": []}),
    (f"/apis/{GROUP}/v1/namespaces/default", PLURAL, {"spec": {"replicas": 1}}),
)
POINTERS = (
    "/metadata/labels",
    "/metadata/labels/a~1b",
    "/metadata/managedFields",
    "/metadata/managedFields/0",
    "/metadata/ownerReferences/-",
    "/metadata/finalizers",
    "/data",
    "/data/a",
    "/spec",
    "/spec/replicas",
    "/spec/list/-",
    "/spec/list/99",
    "/spec/list/01",
    "/spec/map/-1",
    "/spec/containers/0/image",
    "/spec/template/spec/containers/-",
    "/status",
    "",
    "/",
    "/a~2",
)
CONNECTING = (
    "/api/v1/namespaces/default/pods/x/exec?command=a",
    "/api/v1/namespaces/default/pods/x/exec?stdin=x&tty=maybe&container=%00&command=",
    "/api/v1/namespaces/default/pods/x/attach",
    "/api/v1/namespaces/default/pods/x/portforward?ports=99999999",
    "/api/v1/namespaces/default/pods/x/log?tailLines=-1&limitBytes=x&sinceTime=never",
    "/api/v1/namespaces/default/pods/x/proxy/..%2f..",
    "/api/v1/namespaces/default/pods/https:x:99999/proxy/",
    "/api/v1/namespaces/default/services/x:http:y/proxy/a?b",
    "/api/v1/nodes/x/proxy/exec",
    "/api/v1/nodes/x:10250/proxy/",
    "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1",
)


def prepare(server: Server) -> None:
    """Make a definition with rules, and an object `x` of several kinds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(server.host, server.port, context=context)

    def post(path: str, body: bytes) -> int:
        headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    rules = [{"rule": rule, **({"messageExpression": text} if text else {})} for rule, text in RULES]
    spec = {"type": "object", "properties": PROPERTIES, "x-kubernetes-validations": rules}
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec, "status": {"type": "object"}}}
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": scale},
        "selectableFields": [{"jsonPath": ".spec.text"}],
    }
    names = {"plural": PLURAL, "kind": "Fuzz", "listKind": "FuzzList", "singular": "fuzz"}
    crd = {
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    if post(definitions, json.dumps({**kind, **crd}).encode()) >= 500:
        raise SystemExit("the definition cannot be made")
    for place, plural, body in WORLD:
        post(*_creation(place, plural, body))


def _creation(place: str, plural: str, body: Any) -> tuple[str, bytes]:
    """Path and body of the request that makes an object `x`."""
    version = place.removeprefix("/apis/").removeprefix("/api/").split("/namespaces")[0]
    head = {"apiVersion": version, "kind": KINDS[plural], "metadata": {"name": "x", "namespace": "default"}}
    return f"{place}/{plural}", json.dumps({**head, **body}).encode()


class WorseRequests(Requests):
    """See the module's docstring."""

    def __init__(self, server: Server, seed: int) -> None:
        super().__init__(server, seed)
        self._sorts += [
            self.again,
            self.change,
            self.change,
            self.custom,
            self.custom,
            self.yaml,
            self.protobuf,
            self.connecting,
        ]

    def again(self) -> bytes:
        """An object of the world, which another request may have deleted."""
        return self._request("POST", *_creation(*self._pick(WORLD)), "application/json")

    def change(self) -> bytes:
        """A patch of something that exists, of the right media type."""
        place, plural, _ = self._pick(WORLD)
        url = f"{place}/{plural}/x" + self._pick(("", "", "", "/status", "/scale", "?dryRun=All"))
        form = self._pick(("json", "merge", "strategic", "apply"))
        if form == "json":
            content: str = "application/json-patch+json"
            value: Any = [self._operation() for _ in range(self._random.randint(1, 5))]
        else:
            content = {
                "merge": "application/merge-patch+json",
                "strategic": "application/strategic-merge-patch+json",
                "apply": "application/apply-patch+yaml",
            }[form]
            value = self._object(place.split("/namespaces")[0], KINDS[plural])
            value = (
                value if form == "apply" else {key: value[key] for key in value if key not in ("kind", "apiVersion")}
            )
            if form == "strategic":
                value["metadata"] = {"$patch": self._pick(("replace", "delete", "x", 3)), "labels": self._nasty()}
                value["spec"] = {"containers": [{"name": "c", "$patch": "delete"}, self._nasty()], "$retainKeys": ["a"]}
        force = "&force=true" if form == "apply" else ""
        separator = "&" if "?" in url else "?"
        return self._request("PATCH", f"{url}{separator}fieldManager=f{force}", self._encoded(value), content)

    def _operation(self) -> dict[str, Any]:
        return {
            "op": self._pick(("add", "replace", "remove", "copy", "move", "test")),
            "path": self._pick(POINTERS),
            "from": self._pick(POINTERS),
            "value": self._nasty(),
        }

    def custom(self) -> bytes:
        """A custom resource whose fields are of any type, against schema and rules."""
        chosen = self._random.sample(sorted(PROPERTIES), self._random.randint(1, 6))
        spec = {name: self._plausible(name) if self._random.random() < 0.6 else self._nasty() for name in chosen}
        name = self._pick(("x", "x", "y", "z"))
        body = {"apiVersion": f"{GROUP}/v1", "kind": "Fuzz", "metadata": {"name": name}, "spec": spec}
        base = f"/apis/{GROUP}/v1/namespaces/default/{PLURAL}"
        verb = self._pick(("POST", "PUT", "PATCH", "DELETE"))
        url = base if verb == "POST" else f"{base}/{name}"
        content = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        url += self._pick(("", "?fieldValidation=Strict", "?fieldManager=" + "f" * 128))
        data = b"" if verb == "DELETE" else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return self._request(verb, url, data, content)

    def _plausible(self, name: str) -> Any:
        values: dict[str, tuple[Any, ...]] = {
            "replicas": (0, 3, 7, -1, 2**40),
            "text": ("a" * 30 + "b", "a" * 200, ""),
            "when": ("2021-01-01T00:00:00Z", "9999-99-99", "0000-00-00T00:00:00Z", "2021-01-01T00:00:00+99:99"),
            "amount": ("1Ki", "-1", "1e99999", "."),
            "net": ("10.0.0.0/8", "10.0.0.0/99", "::/0", "%"),
            "list": (["a"] * 30, list("abcdefghij"), [1, "a"]),
            "map": ([{"key": "a"}, {"key": "a"}], [{}], [{"key": "a"}] * 300),
        }
        return self._pick(values.get(name, NASTY))

    def yaml(self) -> bytes:
        """YAML with tags, anchors, merges, odd scalars."""
        place, plural, _ = self._pick(WORLD)
        odd = self._pick(
            (
                "a: !!binary aGk=",
                "a: !!python/object:os.system x",
                "<<: {b: c}",
                "a: &x [*x]",
                "? [a, b]\n: c",
                "a: 2001-01-01",
                "a: .inf",
                "a: 0o17",
                "a: 1_000",
                "a: |\n    x\n   y",
                '"\\ud800": x',
                'a: "\\ud800"',
                "a: yes\na: no",
                "---\na: b\n---\nc: d",
                "%YAML 9.9\n---\na: b",
                "a: !!set {b}",
                "{" * 2000,
                "- " * 3000,
                "\x85a: \u2028",
            )
        )
        text = f"metadata:\n  name: y\n  labels:\n    {odd}\n" if self._random.random() < 0.5 else odd
        return self._request("POST", f"{place}/{plural}", text.encode("utf-8", "surrogatepass"), "application/yaml")

    def protobuf(self) -> bytes:
        """A good envelope with some bytes changed, cut out or doubled."""
        place, plural, body = self._pick(WORLD[:6])
        version = place.removeprefix("/apis/").removeprefix("/api/").split("/namespaces")[0]
        obj = {"apiVersion": version, "kind": KINDS[plural], "metadata": {"name": self._pick(("x", "p", ""))}, **body}
        obj.pop("stringData", None)
        data = bytearray(encode(obj))
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randint(4, len(data) - 1)
            change = self._random.random()
            if change < 0.6:
                data[at] = self._random.randint(0, 255)
            elif change < 0.8:
                del data[at : at + self._random.randint(1, 9)]
            else:
                data[at:at] = data[at : at + 9] * self._random.randint(1, 50)
        verb, url = ("POST", f"{place}/{plural}") if self._random.random() < 0.5 else ("PUT", f"{place}/{plural}/x")
        return self._request(verb, url, bytes(data), "application/vnd.kubernetes.protobuf")

    def connecting(self) -> bytes:
        """Upgrades to WebSocket and SPDY, good and broken, where they lead somewhere and where they do not."""
        key = self._pick(("dGhlIHNhbXBsZSBub25jZQ==", "", "x" * 500))
        extra = self._pick(
            (
                "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                f"Sec-WebSocket-Protocol: {self._pick(('v5.channel.k8s.io', 'v9', ',,', 'base64url.bearer.x'))}\r\n",
                "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n",
                "Connection: upgrade\r\nUpgrade: h2c\r\n",
                "Upgrade: websocket\r\n",
                "",
            )
        )
        body = self._random.randbytes(self._random.randint(0, 40)) if self._random.random() < 0.3 else b""
        return self._request(self._pick(("GET", "POST", "PUT", "DELETE")), self._pick(CONNECTING), body, extra=extra)
