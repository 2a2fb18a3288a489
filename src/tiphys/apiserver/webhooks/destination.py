"""Where a webhook is: what a `clientConfig` or a kubeconfig says, as one value that connections are kept by."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tiphys.base.tls import KeyPair

HTTPS = 443


@dataclass(frozen=True, slots=True)
class ServiceReference:
    """A Service of the cluster and a path behind it (API reference, ServiceReference)."""

    namespace: str
    name: str
    port: int = HTTPS
    path: str = ""

    @property
    def host(self) -> str:
        """The name that the server's certificate must have."""
        return f"{self.name}.{self.namespace}.svc"


@dataclass(frozen=True, slots=True)
class Destination:
    """`url` or `service`; `ca` in PEM (b"": the system's). `pair` and `authorization` show who we are."""

    url: str = ""
    service: ServiceReference | None = None
    ca: bytes = b""
    pair: KeyPair | None = None
    authorization: str = ""
    server_name: str = ""
    insecure: bool = False
    """Whether the server's certificate is not checked: kubeconfig's insecure-skip-tls-verify."""

    @staticmethod
    def of(config: Mapping[str, Any]) -> Destination:
        """From a clientConfig {url | service{namespace, name, port, path}, caBundle}. Raises ValueError."""
        try:
            ca = base64.b64decode(config.get("caBundle") or "", validate=True)
        except binascii.Error as error:
            raise ValueError(f"caBundle is not base64: {error}") from error
        service = config.get("service")
        if service is not None:
            port = service.get("port") or HTTPS
            reference = ServiceReference(service["namespace"], service["name"], port, service.get("path") or "")
            return Destination(service=reference, ca=ca)
        if not config.get("url"):
            raise ValueError("webhook configuration must have either service or URL")
        return Destination(url=config["url"], ca=ca)

    @property
    def origin(self) -> str:
        """Scheme, host and port, as in messages."""
        if self.service is not None:
            return f"https://{self.service.host}:{self.service.port}"
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @property
    def path(self) -> str:
        """The path to post to, with the query that the URL may have; at least a slash."""
        if self.service is not None:
            return "/" + self.service.path.lstrip("/")
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the URL."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (HTTPS if parts.scheme == "https" else 80)

    @property
    def name_checked(self) -> str:
        """The name that the server's certificate must have; "" for the host of the URL."""
        return self.server_name or (self.service.host if self.service is not None else "")
