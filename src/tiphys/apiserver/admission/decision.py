"""What plugins have in common: what a request is about, and how a refusal is worded."""

from __future__ import annotations

from typing import Any

from tiphys.api import errors
from tiphys.apiserver.types import Attributes
from tiphys.base.errors import Forbidden


def concerns(attributes: Attributes, group: str, plural: str, subresource: str = "") -> bool:
    """Whether the request is about this resource, and this subresource of it."""
    info = attributes.info
    return info.resource == plural and info.group == group and info.subresource == subresource


def creates_pod(attributes: Attributes) -> dict[str, Any] | None:
    """The pod that the request creates, None if it is about something else."""
    return attributes.obj if attributes.operation == "CREATE" and concerns(attributes, "", "pods") else None


def refuse(attributes: Attributes, detail: str) -> Forbidden:
    """The error to raise. An object without a name yet is called by its generateName."""
    info = attributes.info
    metadata = (attributes.obj or {}).get("metadata") or {}
    name = info.name or metadata.get("name") or metadata.get("generateName") or "Unknown!"
    return errors.forbidden(info.group, info.resource, name, detail)


def aggregate(problems: list[str]) -> str:
    """Several problems in one text, each once."""
    unique = list(dict.fromkeys(problems))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
