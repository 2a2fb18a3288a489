"""Where the API server is and who we are there: kubeconfig files by kubectl's rules, or the pod we run in.

The rules (https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/): an explicit
path alone; else every file of $KUBECONFIG, merged, the first to define a name wins; else ~/.kube/config. Without
any of them, inside a pod, its service account. Paths in a file are relative to that file.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.base.errors import Permanent

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Everything an `HttpsClient` needs. Certificates and keys are PEM."""

    server: str
    ca: bytes = b""
    """Certificates to trust; none: those of the system."""
    certificate: bytes = b""
    key: bytes = b""
    token: str = ""
    token_file: Path | None = None
    """Read again when it changes; wins over `token`."""
    username: str = ""
    password: str = ""
    insecure: bool = False
    """Do not verify the server."""
    server_name: str = ""
    """The name to expect in the server's certificate instead of the host in `server`."""
    namespace: str = "default"


def load(path: str | Path | None = None, context: str = "", environ: Mapping[str, str] = os.environ) -> ClientConfig:
    """The configuration of `context` (or the current one). Raises Permanent when there is none to be had."""
    merged = _merge(_documents(path, environ))
    if not merged["clusters"] and path is None and environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environ)
    return _resolve(merged, context)


def in_cluster(environ: Mapping[str, str] = os.environ, root: Path = SERVICE_ACCOUNT_DIR) -> ClientConfig:
    """The configuration of a program that runs in a pod, from its mounted service account."""
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    if not host or not (root / "token").exists():
        raise Permanent(f"not inside a pod: KUBERNETES_SERVICE_HOST or {root}/token is missing")
    host = f"[{host}]" if ":" in host else host
    return ClientConfig(
        server=f"https://{host}:{environ.get('KUBERNETES_SERVICE_PORT', '443')}",
        ca=(root / "ca.crt").read_bytes(),
        token_file=root / "token",
        namespace=(root / "namespace").read_text().strip() if (root / "namespace").exists() else "default",
    )


def _documents(path: str | Path | None, environ: Mapping[str, str]) -> Iterable[tuple[Path, Mapping[str, Any]]]:
    if path is not None:
        yield Path(path), _read(Path(path))
        return
    listed = environ.get("KUBECONFIG", "")
    home = Path(environ.get("HOME") or "~").expanduser()
    names = [name for name in listed.split(os.pathsep) if name] or [str(home / ".kube" / "config")]
    for name in names:
        if Path(name).exists():
            yield Path(name), _read(Path(name))


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise Permanent(f"cannot read kubeconfig {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise Permanent(f"kubeconfig {path} is not YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise Permanent(f"kubeconfig {path} is not an object")
    return document


def _merge(documents: Iterable[tuple[Path, Mapping[str, Any]]]) -> dict[str, Any]:
    """One document; each entry remembers the directory that its paths are relative to."""
    merged: dict[str, Any] = {"clusters": {}, "users": {}, "contexts": {}, "current": ""}
    for path, document in documents:
        merged["current"] = merged["current"] or document.get("current-context") or ""
        for plural, singular in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            for entry in document.get(plural) or ():
                value = {**(entry.get(singular) or {}), "directory": path.absolute().parent}
                merged[plural].setdefault(entry["name"], value)
    return merged


def _resolve(merged: Mapping[str, Any], name: str) -> ClientConfig:
    name = name or merged["current"]
    if not name:
        raise Permanent("no configuration has been provided: no kubeconfig names a current context")
    context = _entry(merged, "contexts", name)
    cluster = _entry(merged, "clusters", context.get("cluster", ""))
    user = _entry(merged, "users", context["user"]) if context.get("user") else {"directory": Path()}
    for refused in ("exec", "auth-provider"):
        if user.get(refused):
            raise Permanent(f"user {context['user']!r} uses {refused}, which this client does not support")
    token_file = user.get("tokenFile")
    return ClientConfig(
        server=str(cluster.get("server", "")),
        ca=_material(cluster, "certificate-authority"),
        certificate=_material(user, "client-certificate"),
        key=_material(user, "client-key"),
        token=str(user.get("token") or ""),
        token_file=user["directory"] / token_file if token_file else None,
        username=str(user.get("username") or ""),
        password=str(user.get("password") or ""),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        server_name=str(cluster.get("tls-server-name") or ""),
        namespace=str(context.get("namespace") or "default"),
    )


def _entry(merged: Mapping[str, Any], plural: str, name: str) -> Mapping[str, Any]:
    entry = merged[plural].get(name)
    if entry is None:
        raise Permanent(f"kubeconfig has no {plural.removesuffix('s')} {name!r}")
    return dict(entry)


def _material(entry: Mapping[str, Any], field: str) -> bytes:
    """PEM from `field`-data (base64), which wins, or from the file named by `field`."""
    if data := entry.get(f"{field}-data"):
        return base64.b64decode(data)
    name = entry.get(field)
    if not name:
        return b""
    path = Path(entry["directory"]) / name
    try:
        return bytes(path.read_bytes())
    except OSError as error:
        raise Permanent(f"cannot read {field} {path}: {error.strerror}") from error
