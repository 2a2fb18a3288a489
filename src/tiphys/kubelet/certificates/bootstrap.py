"""TLS bootstrap: a node that has only a token gets its client certificate, and a kubeconfig that names it.

See "TLS bootstrapping" in the Kubernetes documentation. A kubeconfig whose certificate is valid is left alone.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Permanent
from tiphys.base.files import write_atomic
from tiphys.client.config import ClientConfig, load
from tiphys.client.https import HttpsClient
from tiphys.kubelet.certificates.manager import CertificateManager, RequestFailed
from tiphys.kubelet.certificates.request import Wanted, validity
from tiphys.kubelet.certificates.store import CertificateStore

log = logging.getLogger(__name__)

_RETRY = 5.0


async def ensure_access(
    kubeconfig: Path, bootstrap: Path | None, store: CertificateStore, node: str, clock: Clock
) -> ClientConfig:
    """How to reach the API server as the node `node`; waits until its certificate is signed.

    Raises Permanent when there is neither a good kubeconfig nor a bootstrap one.
    """
    if bootstrap is None or _is_valid(kubeconfig, clock):
        return load(kubeconfig)
    access = load(bootstrap)
    log.info("no valid client certificate yet: the cluster is asked for one, by the rights of %s", bootstrap)
    client = HttpsClient(access, clock=clock, agent="kubelet/tiphys")
    try:
        manager = CertificateManager(client, clock, store, Wanted(node), lambda pair: None)
        while True:
            try:
                await manager.renew()
                break
            except (RequestFailed, ApiError, OSError) as error:
                log.warning("the certificate cannot be had yet, next try in %.0f s: %s", _RETRY, error)
                await clock.sleep(_RETRY)
    finally:
        await client.close()
    write_kubeconfig(kubeconfig, access, store.current_file)
    return load(kubeconfig)


def _is_valid(kubeconfig: Path, clock: Clock) -> bool:
    """Whether it speaks as somebody: by a certificate that has not expired, or in another way."""
    try:
        access = load(kubeconfig)
        if not access.certificate:
            return bool(access.token or access.token_file or access.username)
        return validity(access.certificate)[1] > clock.time()
    except (Permanent, OSError, ValueError) as error:
        log.info("%s is of no use, it will be written anew: %s", kubeconfig, error)
        return False


def write_kubeconfig(file: Path, access: ClientConfig, certificate: Path) -> None:
    """One that refers to the file with the node's certificate and key, which may change any time."""
    import base64

    cluster: dict[str, Any] = {"server": access.server}
    if access.ca:
        cluster["certificate-authority-data"] = base64.b64encode(access.ca).decode()
    if access.insecure:
        cluster["insecure-skip-tls-verify"] = True
    if access.server_name:
        cluster["tls-server-name"] = access.server_name
    user = {"client-certificate": str(certificate), "client-key": str(certificate)}
    context = {"cluster": "default-cluster", "user": "default-auth", "namespace": access.namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "contexts": [{"name": "default-context", "context": context}],
        "current-context": "default-context",
        "users": [{"name": "default-auth", "user": user}],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps(document, indent=2).encode() + b"\n")
