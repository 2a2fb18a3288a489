"""The client over HTTPS: how nodes, components that run alone and tools reach an API server.

JSON both ways, watches as lines of JSON, connections kept alive. An answer of 429 with Retry-After is waited out a
few times, as client-go does; any other failure is the caller's.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from tiphys.base.clock import Clock, SystemClock
from tiphys.base.errors import ApiError, TooManyRequests
from tiphys.base.http.client import HttpClient
from tiphys.base.tls import KeyPair, client_context
from tiphys.client.calls import Call, CallingClient
from tiphys.client.config import ClientConfig
from tiphys.client.streams import closing, lines

_RETRIES = 10
_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}


class HttpsClient(CallingClient):
    """A `Client` for the server of `config`; close it when done."""

    def __init__(
        self, config: ClientConfig, *, clock: Clock | None = None, agent: str = "tiphys", timeout: float = 60.0
    ) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._agent = agent
        self._timeout = timeout
        self._token = (0.0, "")
        self._http = HttpClient(config.server, tls=tls_context(config), server_name=config.server_name)

    async def exchange(self, call: Call) -> Any:
        for attempt in range(_RETRIES + 1):
            try:
                return await self._exchange(call)
            except TooManyRequests as error:
                if error.retry_after is None or attempt == _RETRIES:
                    raise
                await self._clock.sleep(error.retry_after)
        raise AssertionError("the last attempt returns or raises")

    async def events(self, call: Call) -> AsyncIterator[Mapping[str, Any]]:
        async with self._http.stream(call.method, _target(call), headers=self._headers(call)) as answer:
            status, headers, chunks = answer
            if status >= 400:
                body = b"".join([chunk async for chunk in chunks])
                raise _error(status, headers, body)
            async with closing(lines(chunks)) as source:
                async for line in source:
                    yield orjson.loads(line)

    def present(self, pair: KeyPair) -> None:
        """Speak by another client certificate from now on. Raises ssl.SSLError for a key that does not fit."""
        self._config = replace(self._config, certificate=pair.certificate, key=pair.key)
        if (tls := tls_context(self._config)) is not None:
            self._http.renew(tls)

    async def close(self) -> None:
        await self._http.close()

    async def _exchange(self, call: Call) -> Any:
        body = b"" if call.body is None else orjson.dumps(call.body)
        response = await self._http.request(
            call.method, _target(call), headers=self._headers(call), body=body, timeout=self._timeout
        )
        if response.status >= 400:
            raise _error(response.status, response.headers, response.body)
        if _header(response.headers, "content-type").startswith("application/json"):
            return orjson.loads(response.body) if response.body else None
        return response.body.decode(errors="replace")

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {"user-agent": self._agent, "accept": f"{call.accept}, */*"}
        if call.body is not None:
            headers["content-type"] = call.content_type
        if token := self._bearer():
            headers["authorization"] = f"Bearer {token}"
        elif self._config.username:
            pair = f"{self._config.username}:{self._config.password}".encode()
            headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return headers

    def _bearer(self) -> str:
        """The token; a token file is read again when it was rewritten (bound tokens are renewed that way)."""
        path = self._config.token_file
        if path is None:
            return self._config.token
        written = path.stat().st_mtime
        if written != self._token[0]:
            self._token = (written, path.read_text().strip())
        return self._token[1]


def tls_context(config: ClientConfig) -> ssl.SSLContext | None:
    """How to speak TLS to the server of `config`; None for http. Raises ssl.SSLError for a key that does not fit."""
    if not config.server.startswith("https:"):
        return None
    pair = KeyPair(config.certificate, config.key) if config.certificate else None
    return client_context(config.ca or None, pair, verify=not config.insecure)


def _target(call: Call) -> str:
    path = quote(call.path, safe="/:@!$&'()*+,;=~")
    return f"{path}?{urlencode(call.query)}" if call.query else path


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for field, value in headers.items() if field.lower() == name), "")


def _error(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) or "message" not in answer:
        text = body.decode(errors="replace").strip()
        answer = {"message": text or f"the server answered {status} without an explanation", "reason": _reason(status)}
    error = ApiError.of(answer, status)
    after = _header(headers, "retry-after")
    if error.retry_after is None and after.isdigit():
        error.retry_after = float(after)
    return error


def _reason(status: int) -> str:
    """The usual reason of a code, for answers that are not a Status (proxies, load balancers)."""
    return _REASONS.get(status, "")
