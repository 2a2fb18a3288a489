"""The outermost link of the chain: whatever goes wrong inside becomes an answer that says so.

ApiErrors become their Status, the store's errors the ApiError that they mean, anything else is logged and becomes a
500 that gives nothing away. Also sets the headers that every answer carries.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tiphys.api.meta import new_uid
from tiphys.apiserver import negotiate, warnings
from tiphys.apiserver.deadlines import Deadlines
from tiphys.apiserver.types import NO_SNIFFING, RequestInfo
from tiphys.base.errors import ApiError, Gone, InternalError, NotAcceptable, ServiceUnavailable, Timeout, TooLarge
from tiphys.base.http.types import Handler, Request, Response
from tiphys.store.types import Compacted, FutureRevision, StoreError, StoreTooLarge

log = logging.getLogger(__name__)

PANIC = "This request caused apiserver to panic. Look in the logs for details."
FAIRNESS = "apf-headers"
"""Request attribute: the headers that say which FlowSchema and priority level a request was of."""
LONG_RUNNING_VERBS = {"watch", "proxy"}
LONG_RUNNING_SUBRESOURCES = {"proxy", "log", "exec", "attach", "portforward"}


def guard(timeout: float) -> Any:
    """The link; `timeout` is in seconds and spares watches, proxies and reads, which never wait for the store."""
    deadlines = Deadlines(timeout)

    def middleware(handler: Handler) -> Handler:
        async def link(request: Request) -> Response:
            try:
                response = await _answer(handler, request, deadlines)
            except ApiError as error:
                response = failure(request, error)
            except StoreError as error:
                response = failure(request, of_store(error))
            except Exception:  # the boundary between one request and the server
                log.exception("%s %s failed", request.method, request.path)
                response = failure(request, InternalError(PANIC))
            if not request.local:
                _common_headers(request, response)
            return response

        return link

    return middleware


async def _answer(handler: Handler, request: Request, deadlines: Deadlines) -> Response:
    if request.method == "GET" or "watch" in request.query_string:
        return await handler(request)
    with deadlines.of_request() as deadline:
        request.attributes["deadline"] = deadline
        return await handler(request)


def long_running(info: RequestInfo) -> bool:
    """Whether a request may last: it holds no slot and has no timeout."""
    return info.verb in LONG_RUNNING_VERBS or info.subresource in LONG_RUNNING_SUBRESOURCES


def of_store(error: StoreError) -> ApiError:
    """What an error of the store means to a client of the API."""
    if isinstance(error, Compacted):
        return Gone(f"The resourceVersion for the provided watch is too old: {error}")
    if isinstance(error, FutureRevision):
        return Timeout(f"Too large resource version: {error.wanted}, current: {error.current}", retry_after=1)
    if isinstance(error, StoreTooLarge):
        return TooLarge(str(error))  # upstream calls it an error of the server (500); it is the client's
    return ServiceUnavailable(str(error), retry_after=1)


def failure(request: Request, error: ApiError) -> Response:
    """The answer that an error stands for."""
    status = error.status()
    media = _media(request)
    headers = {"Content-Type": media.type}
    if NO_SNIFFING in request.attributes:
        headers["X-Content-Type-Options"] = "nosniff"
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if media.plain:
        return status_response(request, error.code, status, headers)
    return Response(error.code, headers, negotiate.dump(status, media))


def _media(request: Request) -> negotiate.Media:
    """How a refusal is written: as the client accepts it, or else in JSON."""
    if request.local:
        return negotiate.PLAIN
    try:
        found = negotiate.accepted(request, "v1", "Status")
    except NotAcceptable:
        return negotiate.PRETTY
    return negotiate.Media(found.type, pretty=found.pretty)


def status_response(
    request: Request, code: int, status: Mapping[str, Any], headers: dict[str, str] | None = None
) -> Response:
    """A Status (or any small object) as an answer."""
    if request.local:
        return Response(code, headers or {}, obj=status)
    return Response(code, headers or {"Content-Type": "application/json"}, negotiate.dump(status, negotiate.PLAIN))


def _common_headers(request: Request, response: Response) -> None:
    headers = response.headers
    headers["Audit-Id"] = request.attributes.get("audit-id") or request.headers.get("audit-id") or new_uid()
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-cache, private"
    headers.update(request.attributes.get(FAIRNESS, ()))
    texts = request.attributes.get("warnings")
    if texts and (value := warnings.header(texts)):
        headers["Warning"] = value
