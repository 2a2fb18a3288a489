"""metrics.k8s.io within the control plane's process: the metrics server as an extension of the API server."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from tiphys import metricsserver
from tiphys.apiserver.aggregation.extension import Extension
from tiphys.base.clock import Clock
from tiphys.base.errors import ServiceUnavailable
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.identity import User
from tiphys.client.local import LocalClient

if TYPE_CHECKING:
    from tiphys.metricsserver.server import MetricsServer

METRICS = User("system:metrics-server", groups=("system:masters", "system:authenticated"))
"""Who reads nodes and pods for whoever may ask for their metrics."""


class Metrics:
    """The metrics server's place in an API server that is there before it. It is made when first asked: importing it
    is no part of a cluster's start."""

    def __init__(self, kubelet_tls: ssl.SSLContext | None, clock: Clock) -> None:
        self._tls, self._clock = kubelet_tls, clock
        self._apiserver: Handler | None = None
        self._server: MetricsServer | None = None

    @property
    def extension(self) -> Extension:
        """As the API server is told of it."""
        return Extension(
            metricsserver.GROUP, metricsserver.VERSION, self.handle, metricsserver.RESOURCES, metricsserver.ROLES
        )

    def connect(self, apiserver: Handler) -> None:
        """From now on requests can be answered."""
        self._apiserver = apiserver

    async def handle(self, request: Request) -> Response:
        """One request. Raises ServiceUnavailable before `connect`."""
        if self._server is None:
            if self._apiserver is None:
                raise ServiceUnavailable("the metrics server is starting")
            from tiphys.metricsserver.scraper import Scraper
            from tiphys.metricsserver.server import MetricsServer

            client = LocalClient(self._apiserver, METRICS, agent="metrics-server")
            self._server = MetricsServer(client, Scraper(self._tls, self._clock), self._clock)
        return await self._server.handle(request)
