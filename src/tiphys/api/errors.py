"""Errors of the API that carry a kind's name: how upstream words and fills them.

`base.errors` has the classes; these functions build the messages and details that clients show and compare.
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.kinds.base import FieldError
from tiphys.base import errors


def qualified(group: str, name: str) -> str:
    """deployments.apps; pods for the core group."""
    return f"{name}.{group}" if group else name


def not_found(group: str, plural: str, name: str) -> errors.NotFound:
    return errors.NotFound(f'{qualified(group, plural)} "{name}" not found', details=_details(group, plural, name))


def already_exists(group: str, plural: str, name: str) -> errors.AlreadyExists:
    message = f'{qualified(group, plural)} "{name}" already exists'
    return errors.AlreadyExists(message, details=_details(group, plural, name))


def conflict(group: str, plural: str, name: str, detail: str) -> errors.Conflict:
    message = f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {detail}'
    return errors.Conflict(message, details=_details(group, plural, name))


def forbidden(group: str, plural: str, name: str, detail: str) -> errors.Forbidden:
    what = f'{qualified(group, plural)} "{name}"' if name else qualified(group, plural)
    return errors.Forbidden(f"{what} is forbidden: {detail}", details=_details(group, plural, name))


def invalid(group: str, kind: str, name: str, problems: Sequence[FieldError]) -> errors.Invalid:
    """422 with one cause a problem, in the order of `problems`."""
    texts = list(dict.fromkeys(str(problem) for problem in problems))
    detail = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = _details(group, kind, name) | {"causes": [problem.cause() for problem in problems]}
    return errors.Invalid(f'{qualified(group, kind)} "{name}" is invalid: {detail}', details=details)


def _details(group: str, kind: str, name: str) -> dict[str, object]:
    details = {"name": name, "group": group, "kind": kind}
    return {key: value for key, value in details.items() if value}


def client_fault(text: str) -> errors.BadRequest:
    """What upstream answers with 500 though the client is to blame: 400, so that whoever watches over a server is not
    woken by its clients (docs/apiserver.md, "Differences from upstream, on purpose")."""
    return errors.BadRequest(text)
