"""What an API server needs to know; one frozen value, made by `serve` from flags or by `cluster` from its files."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiphys.apiserver.audit.settings import AuditSettings
from tiphys.apiserver.authn import Authenticator, TokenAuthenticator
from tiphys.apiserver.authn.settings import AuthenticationSettings
from tiphys.apiserver.authz.config import AuthorizationSettings
from tiphys.base.tls import KeyPair

if TYPE_CHECKING:
    from tiphys.apiserver.aggregation.extension import Extension
    from tiphys.apiserver.bootstrap import Desired


@dataclass(frozen=True, slots=True)
class ApiServerConfig:
    """See the module's docstring. Collaborators that are not given are made with upstream's defaults."""

    authenticators: tuple[Authenticator, ...] = ()
    """Ways to tell who asks, besides service account tokens (client certificates, token files)."""
    token_authenticators: tuple[TokenAuthenticator, ...] = ()
    anonymous: bool = True
    bootstrap_tokens: bool = True
    """Whether the Secrets of nodes that join are credentials."""
    authentication: AuthenticationSettings = field(default_factory=AuthenticationSettings)
    """Other issuers, webhooks, front proxies, keys of tokens."""
    authorization_modes: tuple[str, ...] = ("Node", "RBAC")
    """Of AlwaysAllow, AlwaysDeny, Node, RBAC."""
    authorization: AuthorizationSettings | None = None
    """Authorizers that need more than a name; wins over `authorization_modes`."""
    always_allowed_paths: tuple[str, ...] = ("/healthz", "/livez", "/readyz")
    """What everybody may read."""
    audit: AuditSettings | None = None
    """None: no audit log."""
    service_account_key: bytes = b""
    """PEM of the key that signs service account tokens; b"": one for this process only."""
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    api_audiences: tuple[str, ...] = ()
    client_ca: bytes = b""
    """PEM; published in the ConfigMap kube-system/extension-apiserver-authentication."""
    cluster_ca: bytes = b""
    """PEM; published as kube-root-ca.crt."""
    front_proxy: KeyPair | None = None
    """By which API servers behind this one know that it may say who asks."""
    front_proxy_ca: bytes = b""
    """PEM of the CA that signed it; published for them."""
    kubelet_tls: ssl.SSLContext | None = None
    """Presents the API server to kubelets and trusts only the cluster's CA."""
    extensions: tuple[Extension, ...] = ()
    """Groups that somebody else in this process answers for."""
    objects: tuple[Desired, ...] = ()
    """What it starts with, besides its own defaults."""
    service_cidr: str = "10.96.0.0/16"
    """From where Services get addresses: one range, or one of each family by commas, the default family's first."""
    node_ports: tuple[int, int] = (30000, 32767)
    """First and last node port."""
    advertise_address: str = "127.0.0.1"
    """Where pods reach the API server: the endpoint of the Service default/kubernetes."""
    secure_port: int = 6443
    publish_service: bool = True
    """Whether to keep the Service default/kubernetes and its endpoints."""
    max_reads: int = 400
    """Reads that may be under way at once; 0 is no limit."""
    max_writes: int = 200
    fairness: bool = True
    """Whether API Priority and Fairness shares `max_reads` + `max_writes` seats; else they are two plain limits."""
    request_timeout: float = 60.0
    """Seconds that a write may take."""
    enabled_admission: frozenset[str] = field(default_factory=frozenset)
    """Names of admission plugins to run besides those that run by default."""
    disabled_admission: frozenset[str] = field(default_factory=frozenset)
    """Names of admission plugins to leave out."""
    admission: Mapping[str, Any] = field(default_factory=dict)
    """Configuration of admission plugins, by name: what --admission-control-config-file says."""
    compaction_interval_seconds: float = 300.0
    """Lists and watches reach back this long, at least; 0: for good."""
    history_seconds: float = 3600.0
    """How long a store that is not shared keeps what was replaced, and who did it."""
    event_seconds: float = 3600.0
    """How long Events are kept."""
