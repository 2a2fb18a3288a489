"""Custom objects from one version to another: only apiVersion differs, or a webhook is asked.

One `Converter` serves one definition. Objects are of the version that their apiVersion says, decoded and without
managedFields; what comes back is the caller's own, not yet pruned by the schema of its new version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tiphys.api.meta import new_uid
from tiphys.apiserver.extensions import review
from tiphys.apiserver.webhooks import CallFailed, Destination, WebhookClient

Object = Mapping[str, Any]
SECONDS = 30.0
"""How long a conversion webhook may take."""


class Converter(Protocol):
    """See the module's docstring."""

    async def convert(self, objects: Sequence[Object], desired: str) -> list[dict[str, Any]]:
        """Objects in the apiVersion `desired`. Raises ApiError."""
        ...


def renamed(obj: Object, desired: str) -> dict[str, Any]:
    """Another apiVersion, nothing else: the strategy None."""
    return {**obj, "apiVersion": desired}


class WebhookConverter:
    """The strategy Webhook: all objects of a list go into one review."""

    def __init__(self, client: WebhookClient, config: Object) -> None:
        self._client, self._to = client, Destination.of(config["clientConfig"])
        wanted = config.get("conversionReviewVersions") or ()
        self._version = next((version for version in wanted if version in review.VERSIONS), "")

    async def convert(self, objects: Sequence[Object], desired: str) -> list[dict[str, Any]]:
        if not objects:
            return []
        about = review.described(objects[0]["apiVersion"], objects[0]["kind"])
        if not self._version:
            raise review.failed("no supported conversion review versions")
        uid = new_uid()
        try:
            question = review.question(self._version, uid, objects, desired)
            answer = await self._client.call(self._to, question, timeout=SECONDS)
            converted = review.answered(answer, self._version, uid)
        except (CallFailed, review.Unusable) as error:
            raise review.failed(f"conversion webhook for {about} failed: {error}") from error
        if len(converted) != len(objects):
            text = f"conversion webhook for {about} returned {len(converted)} objects, expected {len(objects)}"
            raise review.failed(text)
        about = f"conversion webhook for {about} returned"
        out = []
        for index, pair in enumerate(zip(objects, converted, strict=True)):
            try:
                out.append(review.accepted(*pair, desired))
            except review.Unusable as error:
                raise review.failed(f"{about} {error.located(index, len(objects))}") from error
        return out
