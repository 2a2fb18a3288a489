"""TokenRequest: what POST serviceaccounts/NAME/token answers (authentication/v1 API reference)."""

from __future__ import annotations

from typing import Any

from tiphys.api import errors
from tiphys.api.kinds.base import FieldError, invalid
from tiphys.apiserver.tokens import Binding, TokenIssuer
from tiphys.apiserver.types import Object, Reader
from tiphys.base.clock import rfc3339
from tiphys.base.errors import BadRequest

GROUP, KIND = "authentication.k8s.io", "TokenRequest"
DEFAULT_SECONDS = 3600
SHORTEST, LONGEST = 600, 1 << 32


def request_token(
    obj: dict[str, Any], account: Object, issuer: TokenIssuer, reader: Reader, now: float
) -> dict[str, Any]:
    """The completed TokenRequest for an account; `now` is in seconds since the epoch.

    Raises Invalid, BadRequest, NotFound, Conflict.
    """
    metadata = _metadata(obj, account)
    spec = dict(obj.get("spec") or {})
    spec["audiences"] = spec.get("audiences") or list(issuer.audiences)
    seconds = spec.setdefault("expirationSeconds", DEFAULT_SECONDS)
    problems = _check_seconds(seconds)
    if problems:
        raise errors.invalid(GROUP, KIND, "", problems)
    binding = _binding(spec.get("boundObjectRef"), account, reader)
    token = issuer.issue(account, audiences=spec["audiences"], seconds=seconds, binding=binding)
    status = {"token": token, "expirationTimestamp": rfc3339(now + seconds)}
    return {
        "kind": KIND,
        "apiVersion": f"{GROUP}/v1",
        "metadata": {**metadata, "creationTimestamp": rfc3339(now)},
        "spec": spec,
        "status": status,
    }


def _metadata(obj: dict[str, Any], account: Object) -> dict[str, Any]:
    """The request's metadata, filled from the account; what it says already must agree."""
    own = account["metadata"]
    given = {key: value for key, value in (obj.get("metadata") or {}).items() if value and key != "managedFields"}
    for field in ("name", "namespace"):
        if given.get(field, own[field]) != own[field]:
            problem = f"must match the service account {field} if specified"
            raise errors.invalid(GROUP, KIND, own["name"], [invalid(f"metadata.{field}", given[field], problem)])
    if given.get("uid", own.get("uid")) != own.get("uid"):
        detail = (
            f"the UID in the token request ({given['uid']}) does not match the UID of the service account "
            f"({own.get('uid')})"
        )
        raise errors.conflict(GROUP, KIND, own["name"], detail)
    return {**given, "name": own["name"], "namespace": own["namespace"], "uid": own.get("uid", "")}


def _check_seconds(seconds: int) -> list[FieldError]:
    if seconds < SHORTEST:
        return [invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")]
    if seconds > LONGEST:
        return [invalid("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")]
    return []


def _binding(reference: Object | None, account: Object, reader: Reader) -> Binding:
    """The objects that the token is to be bound to."""
    if not reference:
        return Binding()
    name, namespace = reference.get("name", ""), account["metadata"]["namespace"]
    kind, group = reference.get("kind", ""), reference.get("apiVersion", "").rpartition("/")[0]
    plural = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(kind) if not group else None
    if plural is None:
        text = f"{reference.get('apiVersion', '')}, Kind={kind}"
        raise BadRequest(f"cannot bind token to object of type {text if group else '/' + text}")
    bound = reader.get("", plural, "" if kind == "Node" else namespace, name)
    if bound is None:
        raise errors.not_found("", plural, name)
    if kind == "Pod" and bound["spec"].get("serviceAccountName") != account["metadata"]["name"]:
        who = f'serviceaccount "{account["metadata"]["name"]}"'
        raise BadRequest(f"cannot bind token for {who} to pod running with different serviceaccount name.")
    if reference.get("uid") and reference["uid"] != bound["metadata"].get("uid"):
        detail = (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
        raise errors.conflict(group, kind, name, detail)
    if kind == "Node":
        return Binding(node=bound)
    return Binding(secret=bound) if kind == "Secret" else Binding(pod=bound, node=_node_of(bound, reader))


def _node_of(pod: Object, reader: Reader) -> Object | None:
    name = pod["spec"].get("nodeName")
    if not name:
        return None
    return reader.get("", "nodes", "", name) or {"metadata": {"name": name}}
