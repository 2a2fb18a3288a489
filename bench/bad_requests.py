"""Bad requests, made up from a seed: bodies, patches, paths, query strings, headers, framing, garbage."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

NASTY: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63) - 1,
    2**70,
    1.5,
    1e308,
    "",
    " ",
    "a" * 300,
    "a" * 70000,
    "\0",
    "\ud7ff",
    "../..",
    "%00",
    "{{.}}",
    "1e999999999",
    "99999999999999999999Ei",
    "-1",
    "NaN",
    "*",
    "a/b/c",
    [],
    [None],
    [[]],
    {},
    {"": None},
    [{}] * 300,
    {"a": {"a": {"a": {}}}},
    "2026-13-45T99:99:99Z",
    "0x10",
    "1Ki1",
    "٣",
    "🦀" * 100,
)
MEDIA = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/apply-patch+yaml",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/cbor",
    "text/plain",
    "",
    "application/json; charset=latin-1",
    "a/b;c=" + "d" * 5000,
    "\x7f",
)
ACCEPT = (
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf",
    "application/yaml",
    "image/png",
    "*/*;q=x",
    ",,,;;;",
    "application/json;as=Nothing;v=v9;g=x",
)
OPTIONS = (
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "labelSelector",
    "fieldSelector",
    "timeoutSeconds",
    "watch",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "dryRun",
    "fieldManager",
    "fieldValidation",
    "force",
    "pretty",
    "gracePeriodSeconds",
    "propagationPolicy",
    "orphanDependents",
    "container",
    "tailLines",
    "sinceSeconds",
    "command",
    "includeObject",
)
VALUES = (
    "",
    "0",
    "-1",
    "1",
    "x",
    "a" * 3000,
    "%00",
    "%ff",
    "a=b,c!=d",
    "a in (b",
    "!!",
    "metadata.name=x,",
    "All",
    "Strict",
    "NotOlderThan",
    "Exact",
    "99999999999999999999",
    "1.5",
    "true",
    "%F0%9F%A6%80",
)
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "FOO", "get")


@dataclass
class Server:
    """Where requests go."""

    host: str
    port: int
    token: str
    resources: list[tuple[str, str, str, bool]] = field(default_factory=list)
    """Path prefix, plural, kind, namespaced."""


class Requests:
    """Makes requests; each is (name of its sort, bytes, whether the connection is good for another)."""

    def __init__(self, server: Server, seed: int) -> None:
        self._random, self._server = random.Random(seed), server  # noqa: S311 - the same requests each time
        self._sorts: list[Callable[[], bytes]] = [
            self.body,
            self.body,
            self.body,
            self.patch,
            self.patch,
            self.path,
            self.query,
            self.query,
            self.headers,
            self.framing,
            self.garbage,
        ]

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        while True:
            sort = self._random.choice(self._sorts)
            yield sort.__name__, sort()

    def body(self) -> bytes:
        """A create or an update whose body is wrong somewhere."""
        prefix, plural, kind, namespaced = self._resource()
        verb = self._random.choice(("POST", "POST", "PUT"))
        url = self._url(prefix, plural, namespaced, "x" if verb == "PUT" else "")
        return self._request(
            verb, url, self._encoded(self._object(prefix, kind)), self._random.choice(MEDIA[:3] + MEDIA[:1] * 6)
        )

    def patch(self) -> bytes:
        prefix, plural, kind, namespaced = self._resource()
        url = self._url(prefix, plural, namespaced, self._random.choice(("x", "default", "kube-system", "kubernetes")))
        content = self._random.choice(MEDIA[3:7])
        ops = [
            {
                "op": self._pick(("add", "remove", "copy", "move", "test", "x")),
                "path": self._pick(("/metadata/name", "/spec", "/-", "x", "/a~2")),
                "from": "/",
                "value": self._nasty(),
            }
        ]
        value = (
            ops * self._random.randint(0, 3)
            if "json-patch" in content and "merge" not in content
            else self._object(prefix, kind)
        )
        return self._request(
            "PATCH", url + "?fieldManager=f" + "&force=true" * ("apply" in content), self._encoded(value), content
        )

    def path(self) -> bytes:
        pieces = [
            "api",
            "apis",
            "v1",
            "..",
            ".",
            "",
            "%2e%2e",
            "%2f",
            "%00",
            "namespaces",
            "default",
            "pods",
            "a" * 2000,
            "status",
            "log",
            "exec",
            "proxy",
            "openapi",
            "v2",
            "v3",
            "healthz",
            "metrics",
            "%zz",
            "ü",
            "watch",
            "scale",
            "\\",
        ]
        url = "/" + "/".join(self._random.choices(pieces, k=self._random.randint(0, 9)))
        return self._request(self._pick(VERBS), url.encode("utf-8").decode("latin-1"), b"")

    def query(self) -> bytes:
        prefix, plural, _, namespaced = self._resource()
        url = self._url(prefix, plural, namespaced and self._random.random() < 0.7, self._pick(("", "", "x")))
        options = [f"{self._pick(OPTIONS)}={self._pick(VALUES)}" for _ in range(self._random.randint(1, 6))]
        # Watches without an end would only wait.
        return self._request(
            self._pick(("GET", "GET", "DELETE", "POST")), f"{url}?{'&'.join(options)}&timeoutSeconds=1", b""
        )

    def headers(self) -> bytes:
        name = self._pick(
            (
                "Accept",
                "Authorization",
                "Impersonate-User",
                "Impersonate-Group",
                "X-Remote-User",
                "Range",
                "Expect",
                "Upgrade",
                "Connection",
                "Accept-Encoding",
                "If-None-Match",
                "Sec-WebSocket-Protocol",
            )
        )
        value = self._pick(
            (
                *ACCEPT,
                "Bearer x",
                "Bearer " + "a." * 3,
                "Basic eA==",
                "100-continue",
                "websocket",
                "SPDY/3.1",
                "gzip;q=9",
                "x" * 9000,
                "\x01",
            )
        )
        prefix, plural, _, namespaced = self._resource()
        return self._request(
            self._pick(("GET", "POST")), self._url(prefix, plural, namespaced, ""), b"{}", extra=f"{name}: {value}\r\n"
        )

    def framing(self) -> bytes:
        """Requests that contradict themselves, or stop in the middle."""
        whole = self._request(
            "POST", "/api/v1/namespaces/default/configmaps", b'{"metadata":{"name":"f"}}', "application/json"
        )
        kind = self._random.randint(0, 6)
        if kind == 0:
            return whole[: self._random.randint(1, len(whole) - 1)]
        swaps = (
            b"",
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Transfer-Encoding: chunked\r\nContent-Length: 3",
            b"Content-Length: -1",
            b"Content-Length: 99999999999",
            b"Transfer-Encoding: chunked",
            b"Content-Length: 0x10",
        )
        return whole.replace(b"Content-Length: 25", swaps[kind])

    def garbage(self) -> bytes:
        return self._random.randbytes(self._random.randint(1, 400))

    def _pick(self, values: Any) -> Any:
        return self._random.choice(values)

    def _nasty(self) -> Any:
        return copy.deepcopy(self._random.choice(NASTY))

    def _resource(self) -> tuple[str, str, str, bool]:
        return self._random.choice(self._server.resources)

    def _url(self, prefix: str, plural: str, namespaced: bool, name: str) -> str:
        place = "/namespaces/default" if namespaced else ""
        return f"{prefix}{place}/{plural}" + (f"/{name}" if name else "")

    def _object(self, prefix: str, kind: str) -> Any:
        names = (
            "spec",
            "status",
            "data",
            "rules",
            "subjects",
            "roleRef",
            "template",
            "selector",
            "metadata",
            "containers",
            "ports",
            "webhooks",
            "versions",
            "names",
            "items",
            "type",
            "value",
        )
        obj: dict[str, Any] = {"apiVersion": prefix.split("/", 2)[2], "kind": kind, "metadata": {"name": "x"}}
        for _ in range(self._random.randint(1, 5)):
            target = obj
            for _ in range(self._random.randint(0, 4)):
                inner = target.setdefault(self._pick(names), {})
                if not isinstance(inner, dict):
                    break
                target = inner
            target[
                self._pick(
                    (
                        *names,
                        "name",
                        "namespace",
                        "labels",
                        "annotations",
                        "ownerReferences",
                        "finalizers",
                        "uid",
                        "resourceVersion",
                        "managedFields",
                        "replicas",
                    )
                )
            ] = self._nasty()
        return obj

    def _encoded(self, value: Any) -> bytes:
        text = json.dumps(value, ensure_ascii=self._random.random() < 0.5).encode("utf-8", "surrogatepass")
        change = self._random.random()
        if change < 0.1:
            return text[: self._random.randint(0, len(text))]
        if change < 0.2:
            at = self._random.randint(0, len(text))
            return text[:at] + self._random.randbytes(self._random.randint(1, 5)) + text[at:]
        if change < 0.22:
            return b"[" * 100_000
        if change < 0.24:
            return b"k8s\0" + self._random.randbytes(60)
        return b"a: &a [x]\nb: " + b"[*a, *a, *a]" * 20 if change < 0.26 else text

    def _request(self, verb: str, url: str, body: bytes, content: str = "", extra: str = "") -> bytes:
        kind = f"Content-Type: {content}\r\n" if content else ""
        head = f"{verb} {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._server.token}\r\n{kind}{extra}"
        return (head + f"Content-Length: {len(body)}\r\n\r\n").encode("latin-1", "replace") + body
