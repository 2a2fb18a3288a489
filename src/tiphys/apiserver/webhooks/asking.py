"""Asks one webhook about one request: the question, the call, the answer. Both plugins do it alike."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds.base import quote
from tiphys.apiserver.types import Attributes, Object
from tiphys.apiserver.webhooks import review
from tiphys.apiserver.webhooks.client import CallFailed, WebhookClient
from tiphys.apiserver.webhooks.hooks import Hook
from tiphys.apiserver.webhooks.review import Answer, BadAnswer
from tiphys.apiserver.webhooks.versions import internal
from tiphys.base.errors import ApiError, BadRequest, InternalError, TiphysError


class Unanswered(TiphysError):
    """A webhook could not be asked; its failure policy says what that means. `code` is for the metrics."""

    def __init__(self, message: str, code: int = 503) -> None:
        super().__init__(message)
        self.code = code

    @property
    def refusal(self) -> InternalError:
        """What it is to the client when the webhook fails closed."""
        return internal(str(self))


async def ask(
    client: WebhookClient,
    hook: Hook,
    request: dict[str, Any],
    objects: tuple[Object | None, Object | None],
    *,
    mutating: bool,
) -> Answer:
    """Ask about new and old object. Raises Unanswered; BadRequest for a dry run that the webhook may not see."""
    failed = f"failed calling webhook {quote(hook.name)}: "
    if request["dryRun"] and not hook.dry_runs:
        raise BadRequest(f"admission webhook {quote(hook.name)} does not support dry run")
    try:
        version = review.version_of(hook.review_versions)
    except ApiError as error:
        raise Unanswered(f"{failed}could not create admission objects: {error.message}", 400) from error
    uid, question = review.review(version, request, *objects)
    try:
        answer = await client.call(hook.to, question, timeout=hook.timeout)
    except CallFailed as error:
        text = failed + ("failed to call webhook: " if error.called else "") + str(error)
        raise Unanswered(text, error.status.code) from error
    try:
        return review.read(answer, version, uid, mutating=mutating)
    except BadAnswer as error:
        raise Unanswered(f"{failed}received invalid webhook response: {error}") from error


def note(attributes: Attributes, hook: Hook, answer: Answer) -> None:
    """Pass on a webhook's warnings, and its annotations under its name."""
    attributes.warnings.extend(answer.warnings)
    for key, value in answer.annotations.items():
        attributes.annotations[f"{hook.name}/{key}"] = value
