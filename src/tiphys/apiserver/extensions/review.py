"""ConversionReview (API reference, apiextensions.k8s.io/v1): the question, and what is wrong with an answer. No I/O.

A webhook may change labels and annotations and everything outside of metadata; the rest of metadata stays what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.catalog import split_group_version
from tiphys.api.kinds.base import quote
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import labels as check_labels
from tiphys.api.validation.metadata import check_annotations
from tiphys.base.errors import ApiError

Object = Mapping[str, Any]
GROUP = "apiextensions.k8s.io"
VERSIONS = ("v1", "v1beta1")


class Unusable(ValueError):
    """What a webhook answered cannot be used; `about` is the part at fault: version, object, metadata."""

    def __init__(self, message: str, about: str = "object") -> None:
        super().__init__(message)
        self.about = about

    def located(self, index: int, count: int) -> str:
        """The message with upstream's words for where it is."""
        if self.about == "metadata":
            where = f"invalid metadata in object at index {index}" if count > 1 else "invalid metadata"
        elif count > 1:
            where = f"invalid converted object at index {index}"
        else:
            where = "invalid object at index 0" if self.about == "version" else "invalid object"
        return f"{where}: {self}"


def question(version: str, uid: str, objects: Sequence[Object], desired: str) -> dict[str, Any]:
    """The review that asks for objects of one definition in another version."""
    request = {"uid": uid, "desiredAPIVersion": desired, "objects": list(objects)}
    response: dict[str, Any] = {"uid": "", "convertedObjects": None, "result": {"metadata": {}}}
    return {"kind": "ConversionReview", "apiVersion": f"{GROUP}/{version}", "request": request, "response": response}


def answered(review: Object, version: str, uid: str) -> list[Any]:
    """The converted objects of an answer. Raises Unusable."""
    response = review.get("response")
    if version == "v1" and (review.get("apiVersion"), review.get("kind")) != (f"{GROUP}/v1", "ConversionReview"):
        found = described(str(review.get("apiVersion") or ""), str(review.get("kind") or ""))
        raise Unusable(f"expected webhook response of {GROUP}/v1, Kind=ConversionReview, got {found}")
    if not isinstance(response, Mapping):
        raise Unusable("no response provided")
    if version == "v1" and response.get("uid", "") != uid:
        raise Unusable(f"expected response.uid={quote(uid)}, got {quote(response.get('uid', ''))}")
    result = response.get("result")
    result = result if isinstance(result, Mapping) else {}
    if result.get("status") != "Success":
        said = result.get("message")
        raise Unusable(said or f"response.result.status was '{result.get('status') or ''}', not 'Success'")
    converted = response.get("convertedObjects")
    return list(converted) if isinstance(converted, list) else []


def described(api_version: str, kind: str) -> str:
    """A kind as messages name it: stable.example.com/v1, Kind=Foo."""
    group, version = split_group_version(api_version)
    return f"{group}/{version}, Kind={kind}"


def accepted(original: Object, converted: Any, desired: str) -> dict[str, Any]:
    """The converted object with the metadata that a webhook may not change. Raises Unusable."""
    if not isinstance(converted, Mapping) or not converted.get("kind"):
        raise Unusable("Object 'Kind' is missing")
    api_version, kind = converted.get("apiVersion") or "", converted.get("kind")
    if api_version != desired:
        raise Unusable(f"invalid groupVersion (expected {desired}, received {api_version})", "version")
    if kind != original["kind"]:
        raise Unusable(f"invalid kind (expected {original['kind']}, received {kind})", "version")
    metadata, was = converted.get("metadata"), original["metadata"]
    own = metadata if isinstance(metadata, Mapping) else {}
    for title, field in (("name", "name"), ("namespace", "namespace"), ("UID", "uid")):
        if (was.get(field) or "") != (own.get(field) or ""):
            raise Unusable(f"must have the same {title}: {was.get(field) or ''} != {own.get(field) or ''}")
    return {**converted, "metadata": _metadata(was, metadata)}


def _metadata(original: Object, converted: Any) -> dict[str, Any]:
    if converted is None:
        raise Unusable("missing metadata in converted object", "metadata")
    out = dict(original)
    for field in ("labels", "annotations"):
        value = converted.get(field)
        if value is None:
            out.pop(field, None)
            continue
        if not isinstance(value, Mapping):
            raise Unusable(f"invalid metadata.{field} of type {_go(value)} in converted object", "metadata")
        for key, text in value.items():
            if not isinstance(text, str):
                problem = f"metadata.{field}[{key}] must be a string, but is {_go(text)} in converted object"
                raise Unusable(problem, "metadata")
        if value != (original.get(field) or {}):
            _check(field, value)
        out[field] = dict(value)
    return out


def _check(field: str, value: Mapping[str, str]) -> None:
    found = Errors()
    if field == "labels":
        check_labels(found, "metadata.labels", value)
    else:
        check_annotations(found, "metadata.annotation", value)
    if found:
        raise Unusable(aggregate(list(map(str, found))), "metadata")


def aggregate(texts: Sequence[str]) -> str:
    """Several messages as one, each only once."""
    texts = list(dict.fromkeys(texts))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _go(value: Any) -> str:
    """The Go type of a JSON value, as messages name it."""
    names = {bool: "bool", int: "int64", float: "float64", str: "string", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")


def failed(text: str) -> ApiError:
    """What a client gets that asked for an object that could not be converted."""
    return ApiError.of({"message": text}, 500)
