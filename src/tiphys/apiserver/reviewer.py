"""Asks a remote service that a kubeconfig names: reviews of tokens, of access, batches of audit events.

As upstream, the kubeconfig's cluster is the service and its user is how this server shows itself there. A call is
tried again after trouble that may pass (the connection, 429, 500, 503, 504), each time after a longer wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.base.http.client import ClientResponse, HttpClient
from tiphys.client.config import ClientConfig, load

ATTEMPTS = 5
FACTOR = 1.5
JITTER = 0.2
PASSING = frozenset({429, 500, 503, 504})


class ReviewFailed(TiphysError):
    """No usable answer was to be had; the message says why. `late`: for want of time."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try."""

    attempts: int = ATTEMPTS
    first: float = 0.5
    """Seconds before the second attempt."""
    timeout: float = 30.0
    """Seconds for each attempt."""


class RemoteReviewer:
    """See the module's docstring. Made from a kubeconfig file, which is read at once. Raises Permanent."""

    def __init__(self, kubeconfig: Path, clock: Clock, patience: Patience | None = None) -> None:
        config = load(kubeconfig)
        url = urlsplit(config.server)
        self._path = url.path or "/"
        if url.query:
            self._path += f"?{url.query}"
        self._origin = f"{url.scheme}://{url.netloc}"
        self._config, self._clock, self._patience = config, clock, patience or Patience()
        self._client: HttpClient | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def post(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The decoded answer to a POST; {} for an empty one. Raises ReviewFailed."""
        answer = await self._persist(orjson.dumps(document))
        if not 200 <= answer.status < 300:
            raise ReviewFailed(_problem(answer))
        if not answer.body:
            return {}
        try:
            found = orjson.loads(answer.body)
        except ValueError as error:
            raise ReviewFailed(f"the answer is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise ReviewFailed("the answer is not an object")
        return found

    async def _persist(self, body: bytes) -> ClientResponse:
        patience, wait = self._patience, self._patience.first
        failure: OSError | None = None
        answer: ClientResponse | None = None
        for attempt in range(patience.attempts):
            if attempt:
                await self._clock.sleep(wait * (1 + JITTER * random.random()))  # noqa: S311 - spreads load, no secret
                wait *= FACTOR
            try:
                answer = await self._send(body)
            except OSError as error:
                failure, answer = error, None
                continue
            if answer.status not in PASSING:
                return answer
        if answer is not None:
            return answer
        late = isinstance(failure, TimeoutError)
        reason = "context deadline exceeded" if late else str(failure)
        raise ReviewFailed(f'Post "{self._origin}{self._path}": {reason}', late=late)

    async def _send(self, body: bytes) -> ClientResponse:
        client = self._client = self._client or self._connect()
        headers = {"Content-Type": "application/json", "Accept": "application/json", **_credentials(self._config)}
        async with asyncio.timeout(self._patience.timeout):
            return await client.request("POST", self._path, headers=headers, body=body)

    def _connect(self) -> HttpClient:
        from tiphys.base.tls import KeyPair, client_context

        config, tls = self._config, None
        if self._origin.startswith("https:"):
            pair = KeyPair(config.certificate, config.key) if config.certificate else None
            tls = client_context(config.ca or None, pair, verify=not config.insecure)
        return HttpClient(self._origin, tls=tls, server_name=config.server_name)


def _credentials(config: ClientConfig) -> dict[str, str]:
    token = config.token
    if config.token_file is not None:
        token = config.token_file.read_text().strip()
    if token:
        return {"Authorization": f"Bearer {token}"}
    if config.username:
        from base64 import b64encode

        return {"Authorization": "Basic " + b64encode(f"{config.username}:{config.password}".encode()).decode()}
    return {}


def _problem(answer: ClientResponse) -> str:
    """What an answer that is none says: a Status' message, or the number."""
    try:
        status = orjson.loads(answer.body)
        return str(status["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status}"
