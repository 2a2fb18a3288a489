"""AuthorizationConfiguration (apiserver.config.k8s.io/v1): the authorizers of a server, in order.

Read from --authorization-config, or made from --authorization-mode and the --authorization-webhook-* flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_subdomain
from tiphys.apiserver import configfile
from tiphys.base.errors import Permanent

if TYPE_CHECKING:
    from tiphys.apiserver.authz.webhook import WebhookRules

GROUP, KIND, VERSIONS = "apiserver.config.k8s.io", "AuthorizationConfiguration", ("v1", "v1beta1", "v1alpha1")
TYPES = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
MAX_CONDITIONS = 64
SHAPE = {
    "authorizers": [
        {
            "type": None,
            "name": None,
            "webhook": {
                "authorizedTTL": None,
                "cacheAuthorizedRequests": None,
                "unauthorizedTTL": None,
                "cacheUnauthorizedRequests": None,
                "timeout": None,
                "subjectAccessReviewVersion": None,
                "matchConditionSubjectAccessReviewVersion": None,
                "failurePolicy": None,
                "connectionInfo": {"type": None, "kubeConfigFile": None},
                "matchConditions": [{"expression": None}],
            },
        }
    ]
}


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook: where, how, and how long to wait (seconds)."""

    kubeconfig: Path
    rules: WebhookRules
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class AuthorizerConfiguration:
    """One authorizer."""

    type: str
    name: str = ""
    webhook: Webhook | None = None


@dataclass(frozen=True, slots=True)
class AuthorizationSettings:
    """All authorizers, and the file that they were read from, which is read again when it changes."""

    authorizers: tuple[AuthorizerConfiguration, ...]
    file: Path | None = None


def load(path: Path) -> AuthorizationSettings:
    """Read a file. Raises Permanent with all that is wrong."""
    return AuthorizationSettings(of(configfile.read(path, GROUP, KIND, VERSIONS, SHAPE)), path)


def of(document: Mapping[str, Any]) -> tuple[AuthorizerConfiguration, ...]:
    """The authorizers in a document of the right shape. Raises Permanent."""
    errors, found = Errors(), []
    entries = document.get("authorizers") or []
    if not entries:
        errors.required("authorizers", "at least one authorization mode must be defined")
    types: set[str] = set()
    names: set[str] = set()
    for index, entry in enumerate(entries):
        path, kind = f"authorizers[{index}]", entry.get("type") or ""
        if not kind:
            errors.required(f"{path}.type")
        elif kind not in TYPES:
            errors.unsupported(f"{path}.type", kind, TYPES)
        elif kind in types and kind != "Webhook":
            errors.duplicate(f"{path}.type", kind)
        else:
            types.add(kind)
            _check_name(errors, entry.get("name") or "", names, f"{path}.name")
            found.append(AuthorizerConfiguration(kind, entry.get("name") or "", _webhook(errors, entry, path)))
    if errors:
        texts = [str(error) for error in errors]
        raise Permanent(f"invalid authorization configuration: {texts[0] if len(texts) == 1 else ', '.join(texts)}")
    return tuple(found)


def _check_name(errors: Errors, name: str, seen: set[str], path: str) -> None:
    if not name:
        errors.required(path)
    elif name in seen:
        errors.duplicate(path, name)
    elif problems := dns_subdomain(name):
        errors.invalid(path, name, f"authorizer name is invalid: {', '.join(problems)}")
    seen.add(name)


def _webhook(errors: Errors, entry: Mapping[str, Any], path: str) -> Webhook | None:
    found = entry.get("webhook")
    if entry["type"] != "Webhook":
        if found is not None:
            errors.invalid(f"{path}.webhook", "non-null", "may only be specified when type=Webhook")
        return None
    if found is None:
        errors.required(f"{path}.webhook", "required when type=Webhook")
        return None
    from tiphys.apiserver.authz.webhook import WebhookRules

    timeout = _seconds(errors, found, "timeout", path, longest=30.0)
    authorized = _seconds(errors, found, "authorizedTTL", path)
    unauthorized = _seconds(errors, found, "unauthorizedTTL", path)
    _check_versions(errors, found, path)
    _choose(errors, found.get("failurePolicy"), ("NoOpinion", "Deny"), f"{path}.failurePolicy")
    rules = WebhookRules(
        version=found.get("subjectAccessReviewVersion") or "",
        authorized_seconds=authorized,
        unauthorized_seconds=unauthorized,
        keep_authorized=found.get("cacheAuthorizedRequests") is not False,
        keep_unauthorized=found.get("cacheUnauthorizedRequests") is not False,
        deny_on_failure=found.get("failurePolicy") == "Deny",
        conditions=_conditions(errors, found.get("matchConditions") or (), path),
    )
    return Webhook(_connection(errors, found.get("connectionInfo") or {}, f"{path}.connectionInfo"), rules, timeout)


def _seconds(errors: Errors, webhook: Mapping[str, Any], name: str, path: str, longest: float = 0.0) -> float:
    text, where = webhook.get(name), f"{path}.{name}"
    try:
        value = configfile.duration(text) if text not in (None, "") else 0.0
    except ValueError as error:
        errors.invalid(where, text, str(error))
        return 0.0
    if value == 0:
        errors.required(where)
    elif value < 0 or (longest and value > longest):
        bound = f" and <= {longest:g}s" if longest else ""
        errors.invalid(where, str(text), f"must be > 0s{bound}")
    return value


def _choose(errors: Errors, value: Any, allowed: Sequence[str], path: str) -> None:
    if not value:
        errors.required(path)
    elif value not in allowed:
        errors.unsupported(path, value, allowed)


def _check_versions(errors: Errors, webhook: Mapping[str, Any], path: str) -> None:
    _choose(errors, webhook.get("subjectAccessReviewVersion"), ("v1", "v1beta1"), f"{path}.subjectAccessReviewVersion")
    name = "matchConditionSubjectAccessReviewVersion"
    version = webhook.get(name) or ""
    if not version and webhook.get("matchConditions"):
        errors.required(f"{path}.{name}", "required if match conditions are specified")
    elif version and version != "v1":
        errors.unsupported(f"{path}.{name}", version, ("v1",))


def _connection(errors: Errors, info: Mapping[str, Any], path: str) -> Path:
    kind, file = info.get("type") or "", str(info.get("kubeConfigFile") or "")
    if kind == "InClusterConfig":
        errors.invalid(f"{path}.type", kind, "this server does not run in a pod: use KubeConfigFile")
    else:
        _choose(errors, kind, ("InClusterConfig", "KubeConfigFile"), f"{path}.type")
    where = f"{path}.kubeConfigFile"
    if kind == "KubeConfigFile":
        if not file:
            errors.required(where)
        elif not Path(file).is_absolute():
            errors.invalid(where, file, "must be an absolute path")
        elif not Path(file).exists():
            errors.invalid(where, file, f"error loading file: stat {file}: no such file or directory")
        elif not Path(file).is_file():
            errors.invalid(where, file, "must be a regular file")
    return Path(file)


def _conditions(errors: Errors, entries: Sequence[Mapping[str, Any]], path: str) -> Any:
    if not entries:
        return ()
    from tiphys.api.cel import CompileError
    from tiphys.apiserver.authz.webhook import compile_conditions

    if len(entries) > MAX_CONDITIONS:
        errors.too_many(f"{path}.matchConditions", len(entries), MAX_CONDITIONS)
        return ()
    found: dict[str, Any] = {}
    for index, entry in enumerate(entries):
        source, where = entry.get("expression") or "", f"{path}.matchConditions[{index}].expression"
        if not source.strip():
            errors.required(where)
        elif source in found:
            errors.duplicate(where, source)
        else:
            try:
                found[source] = compile_conditions([source])[0]
            except CompileError as error:
                errors.invalid(where, source, f"compilation failed: {error}")
    return tuple(found.values())
