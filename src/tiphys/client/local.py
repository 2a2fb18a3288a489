"""The client inside the control plane's process: it calls the API server's Handler, without sockets or JSON.

The request goes through the same authorization and admission as anybody's; only authentication is done already,
because the composition root hands out the user.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from tiphys.base.errors import ApiError
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.identity import User
from tiphys.client import cause
from tiphys.client.calls import Call, CallingClient
from tiphys.client.streams import closing


class LocalClient(CallingClient):
    """A `Client` that speaks as `user` to `handler`; `agent` is its User-Agent, hence its field manager."""

    def __init__(self, handler: Handler, user: User, agent: str = "tiphys") -> None:
        self._handler = handler
        self._user = user
        self._agent = agent

    async def exchange(self, call: Call) -> Any:
        response = await self._handler(self._request(call))
        answer = _decode(response)
        if response.status >= 400:
            raise _error(response.status, answer)
        return answer

    async def events(self, call: Call) -> AsyncIterator[Mapping[str, Any]]:
        response = await self._handler(self._request(call))
        if response.status >= 400 or response.events is None:
            raise _error(response.status, _decode(response))
        async with closing(response.events) as source:
            async for event in source:
                yield event

    def _request(self, call: Call) -> Request:
        headers = {"user-agent": self._agent, "accept": call.accept}
        if call.body is not None:
            headers["content-type"] = call.content_type
        if reason := cause.current():
            headers[cause.HEADER] = reason
        return Request(
            method=call.method,
            path=call.path,
            query_string=urlencode(call.query) if call.query else "",
            headers=headers,
            raw_path=quote(call.path),
            user=self._user,
            obj=_own(call.body),
            local=True,
        )


def _own(value: Any) -> Any:
    """A copy for the receiver, which may change what it was handed; callers may share theirs with caches."""
    if isinstance(value, Mapping):
        return {key: _own(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_own(item) for item in value]
    return value


def _decode(response: Response) -> Any:
    if response.obj is not None or not response.body:
        return response.obj
    if "json" in response.headers.get("Content-Type", response.headers.get("content-type", "")):
        import orjson

        return orjson.loads(response.body)
    return response.body.decode(errors="replace")


def _error(status: int, answer: Any) -> ApiError:
    if isinstance(answer, Mapping):
        return ApiError.of(answer, status)
    return ApiError.of({"message": str(answer or f"the server answered {status} without an explanation")}, status)
