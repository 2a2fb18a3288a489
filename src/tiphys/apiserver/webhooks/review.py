"""AdmissionReview: the question that a webhook is asked, and what its answer means (admission.k8s.io)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.api.kinds.base import quote
from tiphys.api.meta import new_uid
from tiphys.apiserver.types import Attributes
from tiphys.apiserver.webhooks.matching import Match, Target, Triple
from tiphys.base.errors import ApiError, BadRequest
from tiphys.base.identity import User

GROUP, KIND = "admission.k8s.io", "AdmissionReview"
VERSIONS = ("v1", "v1beta1")
OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
FAILURE = 400
JSON_PATCH = "JSONPatch"


class BadAnswer(ValueError):
    """An answer that is no proper AdmissionReview."""


class Denied(Exception):
    """A webhook refused; `error` is what the client is told."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Answer:
    """What a webhook decided."""

    allowed: bool
    result: Mapping[str, Any] | None = None
    patch: bytes = b""
    patch_type: str = ""
    warnings: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def version_of(accepted: Sequence[str]) -> str:
    """The first version that both sides know. Raises BadRequest."""
    for version in accepted:
        if version in VERSIONS:
            return version
    raise BadRequest("webhook does not accept known AdmissionReview versions (v1, v1beta1)")


def request_of(attributes: Attributes, target: Target, match: Match) -> dict[str, Any]:
    """The request without its uid and objects: what match conditions see, too."""
    out: dict[str, Any] = {
        "kind": _kind(match.kind),
        "resource": _resource(match.resource),
        "requestKind": _kind(target.kind),
        "requestResource": _resource(target.resource),
        "operation": target.operation,
        "userInfo": user_info(attributes.user),
        "dryRun": attributes.dry_run,
        "options": options_of(attributes),
    }
    if target.subresource:
        out["subResource"] = out["requestSubResource"] = target.subresource
    if target.name:
        out["name"] = target.name
    if target.namespace:
        out["namespace"] = target.namespace
    return out


def review(version: str, request: Mapping[str, Any], obj: Any, old: Any) -> tuple[str, dict[str, Any]]:
    """The uid of the question, and the whole question."""
    uid = new_uid()
    body = {"uid": uid, **request, "object": obj, "oldObject": old}
    return uid, {"kind": KIND, "apiVersion": f"{GROUP}/{version}", "request": body}


def options_of(attributes: Attributes) -> dict[str, Any] | None:
    """The options of the operation; a patch has those of an update, or of a create if it creates."""
    kind = OPTIONS.get(attributes.operation)
    if kind is None:
        return None
    kept = {key: value for key, value in attributes.options.items() if key != "force"}
    return {**kept, "kind": kind, "apiVersion": "meta.k8s.io/v1"}


def user_info(user: User) -> dict[str, Any]:
    """authentication.k8s.io/v1 UserInfo."""
    out: dict[str, Any] = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    out["extra"] = {key: list(values) for key, values in user.extra.items()}
    return {key: value for key, value in out.items() if value}


def _kind(kind: Triple) -> dict[str, str]:
    return {"group": kind[0], "version": kind[1], "kind": kind[2]}


def _resource(resource: Triple) -> dict[str, str]:
    return {"group": resource[0], "version": resource[1], "resource": resource[2]}


def read(answer: Mapping[str, Any], version: str, uid: str, *, mutating: bool) -> Answer:
    """What a review says that came back. Raises BadAnswer with upstream's texts."""
    response = answer.get("response")
    if response is None:
        raise BadAnswer("webhook response was absent")
    if not isinstance(response, dict):
        raise BadAnswer("json: cannot unmarshal into Go struct field AdmissionReview.response")
    patch, patch_type = _patch(response), _field(response, "patchType", str, None)
    if version == "v1":
        _check(answer, response, uid)
        _check_patch(patch, patch_type, mutating=mutating)
    elif patch:
        patch_type = JSON_PATCH
    return Answer(
        allowed=_field(response, "allowed", bool, default=False),
        result=_field(response, "status", dict, None),
        patch=patch if mutating else b"",
        patch_type=patch_type or "",
        warnings=[str(text) for text in _field(response, "warnings", list, None) or ()],
        annotations={
            str(key): str(value) for key, value in (_field(response, "auditAnnotations", dict, None) or {}).items()
        },
    )


def _check(answer: Mapping[str, Any], response: Mapping[str, Any], uid: str) -> None:
    if response.get("uid", "") != uid:
        raise BadAnswer(f"expected response.uid={quote(uid)}, got {quote(response.get('uid', ''))}")
    found = (answer.get("apiVersion") or "", answer.get("kind") or "")
    if found != (f"{GROUP}/v1", KIND):
        shown = f"{found[0] or '/'}, Kind={found[1]}" if "/" in (found[0] or "/") else f"/{found[0]}, Kind={found[1]}"
        raise BadAnswer(f"expected webhook response of {GROUP}/v1, Kind={KIND}, got {shown}")


def _check_patch(patch: bytes, patch_type: str | None, *, mutating: bool) -> None:
    if not mutating:
        if patch:
            raise BadAnswer("validating webhook may not return response.patch")
        if patch_type is not None:
            raise BadAnswer("validating webhook may not return response.patchType")
    elif patch and patch_type is None:
        raise BadAnswer("webhook returned response.patch but not response.patchType")
    elif not patch and patch_type is not None:
        raise BadAnswer("webhook returned response.patchType but not response.patch")
    elif patch_type == "":
        raise BadAnswer('webhook returned invalid response.patchType of ""')


def _patch(response: Mapping[str, Any]) -> bytes:
    text = _field(response, "patch", str, None)
    try:
        return base64.b64decode(text or "", validate=True)
    except binascii.Error as error:
        raise BadAnswer(f"illegal base64 data in response.patch: {error}") from error


def _field(response: Mapping[str, Any], name: str, type: type, default: Any) -> Any:
    value = response.get(name)
    if value is None:
        return default
    if not isinstance(value, type):
        raise BadAnswer(f"json: cannot unmarshal into Go struct field AdmissionResponse.response.{name}")
    return value


def denial(name: str, result: Mapping[str, Any] | None) -> ApiError:
    """The error that a webhook's refusal is to the client."""
    status = dict(result or {})
    text = status.get("message") or status.get("reason")
    denied = f"admission webhook {quote(name)} denied the request"
    status["message"] = f"{denied}: {text}" if text else f"{denied} without explanation"
    code = status.get("code")
    return ApiError.of(status, code if isinstance(code, int) and FAILURE <= code < 600 else FAILURE)
