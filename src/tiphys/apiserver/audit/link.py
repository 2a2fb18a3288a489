"""The links of the chain that audit: one behind authentication, and one before it for those that it turned away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from tiphys.api.meta import new_uid
from tiphys.apiserver.audit.event import AuditEvent, Sink
from tiphys.apiserver.audit.policy import Level, Policy
from tiphys.apiserver.guard import PANIC, long_running, of_store
from tiphys.apiserver.types import RequestInfo
from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, InternalError, Timeout, Unauthorized
from tiphys.base.http.types import Duplex, Handler, Request, Response
from tiphys.store.types import StoreError

if TYPE_CHECKING:
    from tiphys.base.http.types import Middleware

log = logging.getLogger(__name__)

RECEIVED, STARTED, COMPLETE, PANICKED = "RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"
CLOSED_EARLY = {"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}


class Auditor:
    """Makes the links. `policy` says what of, `sink` takes the events."""

    def __init__(self, policy: Policy, sink: Sink, clock: Clock) -> None:
        self._policy, self._sink, self._clock = policy, sink, clock

    def link(self) -> Middleware:
        """For requests whose user is known."""

        def middleware(handler: Handler) -> Handler:
            async def link(request: Request) -> Response:
                event = self._event(request)
                if event is None:
                    return await handler(request)
                request.attributes["audit"] = event
                if not self._hand_over(event, RECEIVED):
                    raise InternalError("failed to store audit event")
                return await self._follow(handler, request, event)

            return link

        return middleware

    def failed_link(self) -> Middleware:
        """For requests that nobody was found to have sent."""

        def middleware(handler: Handler) -> Handler:
            async def link(request: Request) -> Response:
                try:
                    return await handler(request)
                except Unauthorized as error:
                    event = self._event(request) if request.user is None else None
                    if event is not None:
                        event.failed(error.status())
                        self._hand_over(event, STARTED)
                    raise

            return link

        return middleware

    def _event(self, request: Request) -> AuditEvent | None:
        info: RequestInfo = request.attributes["info"]
        verdict = self._policy.verdict(request.user, info)
        if verdict.level is Level.NONE:
            return None
        audit_id = request.headers.get("audit-id") or new_uid()
        request.attributes["audit-id"] = audit_id
        return AuditEvent(request, info, verdict, audit_id, self._clock.time())

    def _hand_over(self, event: AuditEvent, stage: str) -> bool:
        return event.hand_over(self._sink, stage, self._clock.time())

    async def _follow(self, handler: Handler, request: Request, event: AuditEvent) -> Response:
        lasting = long_running(request.attributes["info"])
        try:
            response = await handler(request)
        except ApiError as error:
            self._fail(event, error, lasting)
            raise
        except StoreError as error:
            self._fail(event, of_store(error), lasting)
            raise
        except asyncio.CancelledError:
            deadline = request.attributes.get("deadline")
            if deadline is not None and deadline.expired():
                message = "Timeout: request did not complete within the allotted timeout"
                self._fail(event, Timeout(message), lasting)
            else:
                event.status = CLOSED_EARLY
                self._hand_over(event, COMPLETE)
            raise
        except Exception as error:
            event.failed(InternalError(f"APIServer panic'd: {PANIC}").status())
            self._hand_over(event, PANICKED)
            raise error from None
        event.answered(response)
        if lasting:
            self._hand_over(event, STARTED)
        if not self._when_over(response, lambda: self._hand_over(event, COMPLETE)):
            self._hand_over(event, COMPLETE)
        return response

    def _fail(self, event: AuditEvent, error: ApiError, lasting: bool) -> None:
        event.failed(error.status())
        if lasting:
            self._hand_over(event, STARTED)
        self._hand_over(event, COMPLETE)

    @staticmethod
    def _when_over(response: Response, over: Callable[[], Any]) -> bool:
        """Call `over` when the rest of the answer has gone out; False for an answer that has no rest."""
        if response.stream is not None:
            response.stream = _followed(response.stream, over)
        elif response.events is not None:
            response.events = _followed(response.events, over)
        elif response.upgrade is not None:
            inner = response.upgrade

            async def upgrade(duplex: Duplex) -> None:
                try:
                    await inner(duplex)
                finally:
                    over()

            response.upgrade = upgrade
        else:
            return False
        return True


async def _followed(source: AsyncIterator[Any], over: Callable[[], Any]) -> AsyncIterator[Any]:
    try:
        async for item in source:
            yield item
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
        over()
