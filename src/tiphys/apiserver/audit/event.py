"""One request's audit event, filled in as the request goes along and handed over at each stage (audit.k8s.io/v1)."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Protocol

import orjson

from tiphys.apiserver.audit.policy import Level, Verdict
from tiphys.apiserver.types import RequestInfo
from tiphys.base.clock import rfc3339_micro
from tiphys.base.errors import ApiError
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User

LONGEST_AGENT = 1024
"""Characters of a User-Agent that are kept."""
JSON_PATCHES = ("application/json", "application/json-patch+json", "application/merge-patch+json",
                "application/strategic-merge-patch+json")  # fmt: skip
PROTOBUF = "application/vnd.kubernetes.protobuf"
Object = Mapping[str, Any]


class Sink(Protocol):
    def process(self, event: dict[str, Any]) -> bool:
        """Take an event; False if it could not be stored and that matters."""
        ...


class AuditEvent:
    """See the module's docstring. In `request.attributes["audit"]` while it is being audited."""

    def __init__(self, request: Request, info: RequestInfo, verdict: Verdict, audit_id: str, received: float) -> None:
        self._request, self._info, self._verdict = request, info, verdict
        self._id, self._received, self._user = audit_id, rfc3339_micro(received), request.user
        self._impersonated: User | None = None
        self._constraint = ""
        self._seen: Object | None = None
        self._request_object: Any = None
        self._response_object: Any = None
        self.status: dict[str, Any] | None = None
        """The event's responseStatus."""
        self._facts = _facts(request, info)

    @property
    def level(self) -> Level:
        return self._verdict.level

    def impersonated(self, user: User, constraint: str = "") -> None:
        """From now on the request is that of `user`, by leave of the constraint's verb."""
        self._impersonated, self._constraint = user, constraint

    def request_object(self, obj: Object) -> None:
        """The request's object, as it was understood: decoded, with defaults."""
        self._seen = obj.get("metadata") if isinstance(obj.get("metadata"), Mapping) else None
        if self._seen is not None:
            self._seen = dict(self._seen)
        if self.level >= Level.REQUEST:
            self._request_object = _copy(self._without_managers(obj))

    def answered(self, response: Response) -> None:
        """Take what is to be logged of the answer."""
        self.status = {"metadata": {}, "code": response.status}
        whole = response.stream is None and response.upgrade is None and response.events is None
        if not whole or self.level < Level.METADATA:
            return
        obj = response.obj if isinstance(response.obj, Mapping) else None
        if obj is None and (self.level >= Level.REQUEST_RESPONSE or response.status >= 400):
            obj = _decoded(response)
        if obj is not None and obj.get("kind") == "Status" and obj.get("apiVersion") == "v1":
            self.failed(obj)
        if obj is not None and self.level >= Level.REQUEST_RESPONSE:
            self._response_object = self._without_managers(obj)

    def failed(self, status: Object) -> None:
        """The answer is a Status."""
        names = ("status", "message", "reason", "details", "code")
        self.status = {"metadata": {}, **{name: status[name] for name in names if status.get(name)}}
        if self.level >= Level.REQUEST_RESPONSE:
            self._response_object = status

    def hand_over(self, sink: Sink, stage: str, now: float) -> bool:
        """Give the event of a stage to `sink`, if the policy wants this stage."""
        if stage in self._verdict.omitted:
            return True
        return sink.process(self._document(stage, now))

    def _document(self, stage: str, now: float) -> dict[str, Any]:
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": self.level.shown,
            "auditID": self._id,
            "stage": stage,
            "requestURI": self._facts["requestURI"],
            "verb": self._info.verb,
            "user": _user(self._user),
        }
        if self._impersonated is not None:
            event["impersonatedUser"] = _user(self._impersonated)
        if self._constraint:
            event["authenticationMetadata"] = {"impersonationConstraint": self._constraint}
        for name in ("sourceIPs", "userAgent"):
            if self._facts[name]:
                event[name] = self._facts[name]
        if self._info.resource_request:
            event["objectRef"] = self._reference()
        if self.status is not None:
            event["responseStatus"] = self.status
        if stage != "RequestReceived":
            self._add_objects(event)
        event["requestReceivedTimestamp"] = self._received
        event["stageTimestamp"] = rfc3339_micro(now)
        notes = self._request.attributes.get("audit-annotations")
        if notes:
            event["annotations"] = dict(sorted(notes.items()))
        return event

    def _add_objects(self, event: dict[str, Any]) -> None:
        if self.level >= Level.REQUEST:
            sent = self._request_object if self._request_object is not None else _sent(self._request, self._info)
            if sent is not None:
                event["requestObject"] = self._without_managers(sent)
        if self._response_object is not None:
            event["responseObject"] = self._response_object

    def _reference(self) -> dict[str, str]:
        info, meta = self._info, self._seen or {}
        found = {
            "resource": info.resource,
            "namespace": info.namespace or meta.get("namespace"),
            "name": info.name or meta.get("name"),
            "uid": meta.get("uid"),
            "apiGroup": info.group,
            "apiVersion": info.version,
            "resourceVersion": meta.get("resourceVersion"),
            "subresource": info.subresource,
        }
        return {key: value for key, value in found.items() if value}

    def _without_managers(self, obj: Any) -> Any:
        """Without managedFields, if the policy says so: of an object, a list's items, a table's rows."""
        if not self._verdict.omit_managed_fields or not isinstance(obj, Mapping):
            return obj
        out = dict(obj)
        meta = out.get("metadata")
        if isinstance(meta, Mapping) and "managedFields" in meta:
            out["metadata"] = {key: value for key, value in meta.items() if key != "managedFields"}
        if isinstance(out.get("items"), list):
            out["items"] = [self._without_managers(each) for each in out["items"]]
        if out.get("kind") == "Table":
            rows = out.get("rows") or []
            out["rows"] = [{**row, "object": self._without_managers(row.get("object"))} for row in rows]
        return out


def _facts(request: Request, info: RequestInfo) -> dict[str, Any]:
    path = request.raw_path or request.path
    agent = request.headers.get("user-agent", "")
    return {
        "requestURI": f"{path}?{request.query_string}" if request.query_string else path,
        "userAgent": agent if len(agent) <= LONGEST_AGENT else agent[:LONGEST_AGENT] + "...TRUNCATED",
        "sourceIPs": source_addresses(request),
    }


def source_addresses(request: Request) -> list[str]:
    """Where the request came from: what proxies say, which anybody may forge, then the connection's other end."""
    found: list[str] = []
    for text in request.headers.get("x-forwarded-for", "").split(","):
        _add_address(found, text)
    real: list[str] = []
    _add_address(real, request.headers.get("x-real-ip", ""))
    if real and real[0] not in found:
        found += real
    remote = request.peer.address or ("127.0.0.1" if request.local else "")
    if remote and (not found or found[-1] != remote):
        found.append(remote)
    return found


def _add_address(found: list[str], text: str) -> None:
    try:
        found.append(str(ip_address(text.strip())))
    except ValueError:
        return


def _user(user: User | None) -> dict[str, Any]:
    if user is None:
        return {}
    extra = {key: list(values) for key, values in sorted(user.extra.items())}
    found = {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": extra}
    return {key: value for key, value in found.items() if value}


def _copy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _sent(request: Request, info: RequestInfo) -> Any:
    """What was sent, for requests whose object nobody told of: patches, options, reviews."""
    if request.local:
        return request.obj
    if not request.body or request.headers.get("content-type", "").partition(";")[0].strip() not in JSON_PATCHES:
        return None
    if info.subresource in ("proxy", "exec", "attach", "portforward"):
        return None
    try:
        return orjson.loads(request.body)
    except ValueError:
        return None


def _decoded(response: Response) -> Object | None:
    headers = {name.lower(): value for name, value in response.headers.items()}
    kind = headers.get("content-type", "")
    try:
        body = gzip.decompress(response.body) if headers.get("content-encoding") == "gzip" else response.body
        if kind.startswith(PROTOBUF):
            from tiphys.api.protobuf.codec import decode

            return decode(body)
        found = orjson.loads(body) if "json" in kind else None
    except (ApiError, ValueError, OSError):
        return None
    return found if isinstance(found, dict) else None
