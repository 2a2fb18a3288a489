"""Tokens that a remote service knows: it is asked by a TokenReview, its answers are kept for a while.

Only the hash of a token is kept. Source: API reference, "Webhook Token Authentication".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.apiserver.authn.chain import Refused
from tiphys.apiserver.remembered import Remembered
from tiphys.apiserver.reviewer import RemoteReviewer, ReviewFailed
from tiphys.base.clock import Clock
from tiphys.base.identity import User

Found = tuple[User, tuple[str, ...]] | None
KEPT = 1024


class WebhookTokens:
    """`version` is that of the review (v1 or v1beta1), `audiences` are this server's own, `seconds` is how long an
    answer is good."""

    def __init__(
        self, reviewer: RemoteReviewer, clock: Clock, *, version: str, audiences: Sequence[str], seconds: float
    ) -> None:
        self._reviewer, self._version = reviewer, version
        self._audiences, self._seconds = tuple(audiences), seconds
        self._known: Remembered[bytes, Found] = Remembered(clock, KEPT)
        self._salt = os.urandom(32)

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> Found:
        wanted = tuple(audiences) or self._audiences
        parts = (token, *wanted)
        text = "".join(f"{len(each)}:{each}" for each in parts)
        key = hashlib.sha256(self._salt + text.encode()).digest()
        known = self._known.get(key)
        if known is not None:
            return known
        found = self._found(await self._ask(token, wanted), wanted)
        if found is not None:
            self._known.put(key, found, self._seconds)
        return found

    async def _ask(self, token: str, wanted: Sequence[str]) -> Mapping[str, Any]:
        review = {
            "kind": "TokenReview",
            "apiVersion": f"authentication.k8s.io/{self._version}",
            "metadata": {"creationTimestamp": None},
            "spec": {"token": token, "audiences": list(wanted)},
            "status": {"user": {}},
        }
        try:
            answer = await self._reviewer.post(review)
        except ReviewFailed as error:
            raise Refused(str(error)) from error
        status = answer.get("status")
        if not isinstance(status, dict):
            raise Refused("webhook token review has no status")
        return status

    def _found(self, status: Mapping[str, Any], wanted: Sequence[str]) -> Found:
        good = _strings(status.get("audiences")) or self._audiences
        common = tuple(each for each in wanted if each in good)
        if wanted and not common:
            return None
        if status.get("authenticated") is not True:
            if status.get("error"):
                raise Refused(str(status["error"]))
            return None
        user = status.get("user")
        if not isinstance(user, dict):
            return None
        extra = user.get("extra") if isinstance(user.get("extra"), dict) else {}
        extras = {str(key): _strings(values) for key, values in (extra or {}).items()}
        found = User(str(user.get("username") or ""), str(user.get("uid") or ""), _strings(user.get("groups")), extras)
        return found, common


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(each for each in values if isinstance(each, str)) if isinstance(values, list) else ()
