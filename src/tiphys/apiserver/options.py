"""CreateOptions, UpdateOptions, PatchOptions and DeleteOptions: from the query or, for deletions, from the body."""

from __future__ import annotations

from typing import Any

from tiphys.api import errors
from tiphys.api.decode.body import media_type, require_object
from tiphys.api.decode.objects import DecodeError
from tiphys.api.decode.request import Codec
from tiphys.api.kinds.base import FieldError, forbidden, invalid, not_supported, required, too_long
from tiphys.api.patch.request import APPLY
from tiphys.apiserver import bodies
from tiphys.apiserver.query import flag
from tiphys.apiserver.resource import Call
from tiphys.base.errors import BadRequest
from tiphys.base.http.types import Request

META = "meta.k8s.io"
DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
SCHEME = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"
"""What upstream calls its registry of options."""
VALIDATIONS = ("Ignore", "Strict", "Warn")
POLICIES = ("Foreground", "Background", "Orphan")
KINDS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}
LONGEST_MANAGER = 128


def read_write_options(call: Call) -> None:
    """Fill in what the query of a POST, PUT or PATCH says. Raises Invalid."""
    request = call.request
    call.manager = agent(request)
    applies = call.info.verb == "patch" and media_type(request.headers.get("content-type", "")) == APPLY
    if not request.query_string and not applies:
        return
    kind = KINDS.get(call.info.verb, "CreateOptions")
    problems: list[FieldError] = []
    if applies and not request.param("fieldManager"):
        problems.append(required("fieldManager", "is required for apply patch"))
    elif kind == "PatchOptions" and not applies and flag(request, "force") is not None:
        problems.append(forbidden("force", "may not be specified for non-apply patch"))
    values = request.query.get("dryRun", [])
    call.dry_run = bool(values)
    if any(value != "All" for value in values):
        problems.append(not_supported("dryRun", values, ["All"]))
    validation = request.param("fieldValidation")
    if validation and validation not in VALIDATIONS:
        problems.append(not_supported("fieldValidation", validation, ("", *VALIDATIONS)))
    manager = request.param("fieldManager")
    if len(manager) > LONGEST_MANAGER:
        problems.append(too_long("fieldManager", LONGEST_MANAGER))
    if not manager.isprintable():
        problems.append(_unprintable(manager))
    if problems:
        raise errors.invalid(META, kind, "", problems)
    call.validation = validation or "Warn"
    call.manager = manager or call.manager
    call.options = {
        "kind": kind,
        "apiVersion": f"{META}/v1",
        **({"dryRun": values} if values else {}),
        **({"fieldManager": manager} if manager else {}),
        **({"fieldValidation": validation} if validation else {}),
    }


def delete_options(call: Call, codec: Codec) -> dict[str, Any]:
    """DeleteOptions of the body or, without one, of the query: with a body, the query says nothing, not even dryRun.
    Raises BadRequest, Invalid."""
    request = call.request
    if request.obj is not None:
        options = dict(request.obj)
    elif request.body.strip():
        options = _from_body(request, codec)
    else:
        options = _from_query(request)
    problems = _check(options)
    if problems:
        raise errors.invalid(META, "DeleteOptions", "", problems)
    call.dry_run = bool(options.get("dryRun"))
    call.options = {"kind": "DeleteOptions", "apiVersion": f"{META}/v1", **options}
    return options


def _from_body(request: Request, codec: Codec) -> dict[str, Any]:
    try:
        value = require_object(bodies.parsed(request))
        options = codec.normalize(value, codec.definitions.type(DELETE_OPTIONS))
    except DecodeError as error:
        raise BadRequest(str(error)) from error
    except ValueError as error:
        raise BadRequest(str(error)) from error
    if value.get("kind") not in (None, "", "DeleteOptions"):
        version = value.get("apiVersion") or "v1"
        raise BadRequest(f'no kind "{value["kind"]}" is registered for version "{version}" in scheme "{SCHEME}"')
    options.pop("kind", None)
    options.pop("apiVersion", None)
    return options


def _from_query(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {}
    grace = request.param("gracePeriodSeconds") if request.query_string else ""
    if grace:
        try:
            options["gracePeriodSeconds"] = int(grace)
        except ValueError:
            raise BadRequest(f'strconv.ParseInt: parsing "{grace}": invalid syntax') from None
    if policy := (request.param("propagationPolicy") if request.query_string else ""):
        options["propagationPolicy"] = policy
    if (orphan := flag(request, "orphanDependents")) is not None:
        options["orphanDependents"] = orphan
    if values := (request.query.get("dryRun") if request.query_string else None):
        options["dryRun"] = values
    return options


def _check(options: dict[str, Any]) -> list[FieldError]:
    problems: list[FieldError] = []
    policy, orphan = options.get("propagationPolicy"), options.get("orphanDependents")
    if orphan is not None and policy is not None:
        text = "orphanDependents and deletionPropagation cannot be both set"
        problems.append(invalid("propagationPolicy", policy, text))
    if policy is not None and policy not in POLICIES:
        problems.append(not_supported("propagationPolicy", policy, [*POLICIES, "nil"]))
    if any(value != "All" for value in options.get("dryRun") or ()):
        problems.append(not_supported("dryRun", options["dryRun"], ["All"]))
    return problems


def _unprintable(manager: str) -> FieldError:
    place, found = next((place, char) for place, char in enumerate(manager) if not char.isprintable())
    at = len(manager[:place].encode())
    return invalid("fieldManager", manager, f"invalid character U+{ord(found):04X} (at position {at})")


def agent(request: Request) -> str:
    """The field manager of those who name none: their program, as upstream takes it from User-Agent."""
    return request.headers.get("user-agent", "").partition("/")[0][:LONGEST_MANAGER] or "unknown"
