"""The environment of a container: env, envFrom, service links, and the image's own. Pure but for reading sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from tiphys.base.errors import TiphysError
from tiphys.kubelet.downward import NoSuchField, PodFacts, field_value, resource_value
from tiphys.kubelet.expansion import expand
from tiphys.kubelet.podspec import Object, namespace_of
from tiphys.kubelet.volumes.payload import decode_secret


class ConfigError(TiphysError):
    """The container cannot be configured: CreateContainerConfigError, with this message."""


class Sources(Protocol):
    """ConfigMaps and Secrets of a namespace, from a local copy; None when there is none of that name."""

    def config_map(self, namespace: str, name: str) -> Object | None: ...

    def secret(self, namespace: str, name: str) -> Object | None: ...


Files = Callable[[Mapping[str, Any]], str | None]
"""The value that a fileKeyRef names; None when the file has no such key. Raises ConfigError."""


def _no_files(reference: Mapping[str, Any]) -> str | None:
    raise ConfigError(f'cannot find the volume "{reference.get("volumeName", "")}" referenced by FileKeyRef')


def make_env(
    facts: PodFacts, container: Object, sources: Sources, services: Mapping[str, str], files: Files = _no_files
) -> dict[str, str]:
    """All variables but the image's own, in the order of their declaration; `services` are the service links."""
    env: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix") or ""
        env |= {prefix + key: value for key, value in _all_of(facts, source, sources).items()}
    for variable in container.get("env") or ():
        value = _value(facts, container, variable, sources, (env, services), files)
        if value is not None:
            env[variable["name"]] = value
    for name, value in services.items():
        env.setdefault(name, value)
    return env


def _all_of(facts: PodFacts, source: Mapping[str, Any], sources: Sources) -> Mapping[str, str]:
    if reference := source.get("configMapRef"):
        return _data(facts, "configMapRef", reference, sources)
    return _data(facts, "secretRef", source.get("secretRef") or {}, sources)


def _data(facts: PodFacts, kind: str, reference: Mapping[str, Any], sources: Sources) -> Mapping[str, str]:
    """The data of a referenced object; {} when it is absent and optional."""
    namespace, name = namespace_of(facts.pod), str(reference.get("name") or "")
    config = kind.startswith("configMap")
    obj = sources.config_map(namespace, name) if config else sources.secret(namespace, name)
    if obj is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'{"configmap" if config else "secret"} "{name}" not found')
    if config:
        return {key: str(value) for key, value in (obj.get("data") or {}).items()}
    return {key: value.decode(errors="surrogateescape") for key, value in decode_secret(obj).items()}


def _value(
    facts: PodFacts,
    container: Object,
    variable: Mapping[str, Any],
    sources: Sources,
    known: Iterable[Mapping[str, str]],
    files: Files,
) -> str | None:
    """None leaves the variable out: an optional source that is absent."""
    if variable.get("value"):
        return expand(str(variable["value"]), *known)
    source = variable.get("valueFrom")
    if not source:
        return ""
    try:
        if reference := source.get("fieldRef"):
            return field_value(facts, reference["fieldPath"])
        if reference := source.get("resourceFieldRef"):
            return resource_value(facts, reference, container)
    except NoSuchField as error:
        raise ConfigError(str(error)) from error
    if reference := source.get("fileKeyRef"):
        return files(reference)
    return _key_value(facts, source, sources)


def _key_value(facts: PodFacts, source: Mapping[str, Any], sources: Sources) -> str | None:
    for kind, noun in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        reference = source.get(kind)
        if not reference:
            continue
        data = _data(facts, kind, reference, sources)
        if reference["key"] in data:
            return data[reference["key"]]
        if reference.get("optional"):
            return None
        where = f"{namespace_of(facts.pod)}/{reference.get('name', '')}"
        raise ConfigError(f"couldn't find key {reference['key']} in {noun} {where}")
    raise ConfigError(f"the source of an environment variable is not supported: {', '.join(source)}")


def references(container: Object) -> set[tuple[str, str]]:
    """("configmaps" | "secrets", name) of all that the container's environment reads."""
    found: set[tuple[str, str]] = set()
    for source in container.get("envFrom") or ():
        found |= _referenced(source, "configMapRef", "secretRef")
    for variable in container.get("env") or ():
        found |= _referenced(variable.get("valueFrom") or {}, "configMapKeyRef", "secretKeyRef")
    return found


def _referenced(source: Mapping[str, Any], config: str, secret: str) -> set[tuple[str, str]]:
    pairs = ((source.get(config), "configmaps"), (source.get(secret), "secrets"))
    return {(plural, str(reference["name"])) for reference, plural in pairs if reference and reference.get("name")}


def service_links(services: Iterable[Object], namespace: str, enabled: bool) -> dict[str, str]:
    """Variables of the Services of a namespace, and always of the API server's own (Docker links)."""
    chosen: dict[str, Object] = {}
    for service in services:
        meta, address = service["metadata"], service["spec"].get("clusterIP")
        if not address or address == "None" or not service["spec"].get("ports"):
            continue
        if enabled and meta.get("namespace") == namespace:
            chosen[meta["name"]] = service
        elif meta.get("namespace") == "default" and meta["name"] == "kubernetes":
            chosen.setdefault(meta["name"], service)
    env: dict[str, str] = {}
    for name in sorted(chosen):
        env |= _links(name, chosen[name]["spec"]["clusterIP"], chosen[name]["spec"]["ports"])
    return env


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


def _links(name: str, address: str, ports: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    prefix = _variable(name)
    env = {f"{prefix}_SERVICE_HOST": address}
    host = f"[{address}]" if ":" in address else address
    for index, port in enumerate(ports):
        number, protocol = port["port"], str(port.get("protocol") or "TCP").lower()
        url = f"{protocol}://{host}:{number}"
        if index == 0:
            env[f"{prefix}_SERVICE_PORT"] = str(number)
            env[f"{prefix}_PORT"] = url
        if port.get("name"):
            env[f"{prefix}_SERVICE_PORT_{_variable(port['name'])}"] = str(number)
        own = f"{prefix}_PORT_{number}_{protocol.upper()}"
        env |= {own: url, f"{own}_PROTO": protocol, f"{own}_PORT": str(number), f"{own}_ADDR": address}
    return env
