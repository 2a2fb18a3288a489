"""OpenAPI v3 operations in the words of v2 (Swagger): body parameters, produces, consumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.openapi.schemas import V2_ROOT, V3_ROOT

METHODS = frozenset({"get", "put", "post", "patch", "delete", "head", "options"})
SECURITY = {
    "BearerToken": {
        "description": "Bearer Token authentication",
        "in": "header",
        "name": "authorization",
        "type": "apiKey",
    }
}


def document(paths: Mapping[str, Any], definitions: Mapping[str, Any], title: str, version: str) -> dict[str, Any]:
    """The whole Swagger document."""
    return {
        "swagger": "2.0",
        "info": {"title": title, "version": version},
        "paths": {path: _path(found) for path, found in paths.items()},
        "definitions": definitions,
        "securityDefinitions": SECURITY,
        "security": [{"BearerToken": []}],
    }


def _path(path: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in path.items():
        if key in METHODS:
            out[key] = _operation(key, value)
        elif key == "parameters":
            out[key] = [_parameter(one) for one in value]
    return out


def _operation(method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    out = {key: value for key, value in operation.items() if key not in ("requestBody", "parameters", "responses")}
    found = [_parameter(one) for one in operation.get("parameters", ())]
    body = operation.get("requestBody")
    if body:
        schema = next(iter(body["content"].values()))["schema"]
        found.insert(0, {"in": "body", "name": "body", "schema": _schema(schema)})
        if body.get("required"):
            found[0]["required"] = True
    if found:
        out["parameters"] = found
    out["consumes"] = list(body["content"]) if method == "patch" and body else ["*/*"]
    media = {kind for answer in operation["responses"].values() for kind in answer.get("content", ())}
    out["produces"] = sorted(media)
    out["responses"] = {code: _answer(answer) for code, answer in operation["responses"].items()}
    out["schemes"] = ["https"]
    return out


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = parameter["schema"]
    return {key: value for key, value in parameter.items() if key != "schema"} | schema


def _answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    out = {"description": answer["description"]}
    content = answer.get("content")
    if content:
        out["schema"] = _schema(next(iter(content.values()))["schema"])
    return out


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"$ref": schema["$ref"].replace(V3_ROOT, V2_ROOT)}
    return dict(schema)
