"""The fields of a KubeProxyConfiguration: dotted paths, how their values are read, their defaults.

A configuration is one flat dict of all these paths here; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.base.durations import parse_duration
from tiphys.base.errors import Permanent

Values = dict[str, Any]
Convert = Callable[[Any], Any]


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Permanent(f"cannot unmarshal {_kind(value)} into a string")
    return value


def integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Permanent(f"cannot unmarshal {_kind(value)} into an integer")
    return value


def number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Permanent(f"cannot unmarshal {_kind(value)} into a number")
    return value


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Permanent(f"cannot unmarshal {_kind(value)} into a boolean")
    return value


def duration(value: Any) -> float:
    return parse_duration(text(value))


def texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Permanent(f"cannot unmarshal {_kind(value)} into a list of strings")
    return [text(one) for one in value]


def gates(value: Any) -> dict[str, bool]:
    if not isinstance(value, Mapping):
        raise Permanent(f"cannot unmarshal {_kind(value)} into a map of booleans")
    return {str(name): boolean(one) for name, one in value.items()}


def anything(value: Any) -> Any:
    return value


def _kind(value: Any) -> str:
    kinds = ((bool, "bool"), (str, "string"), (list, "array"), (Mapping, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")


@dataclass(frozen=True, slots=True)
class Field:
    """`default` is that of a configuration without the field; `unset` a value that means the same."""

    convert: Convert
    default: Any
    unset: Any = None


def _flag() -> Field:
    return Field(boolean, False)


def _words(default: str = "") -> Field:
    return Field(text, default, "")


def _time(default: float = 0.0) -> Field:
    return Field(duration, default, 0.0)


FIELDS: Mapping[str, Field] = {
    "bindAddress": _words("0.0.0.0"),  # noqa: S104 - upstream's
    "bindAddressHardFail": _flag(),
    "clientConnection.acceptContentTypes": _words(),
    "clientConnection.burst": Field(integer, 10, 0),
    "clientConnection.contentType": _words("application/vnd.kubernetes.protobuf"),
    "clientConnection.kubeconfig": _words(),
    "clientConnection.qps": Field(number, 5, 0),
    "clusterCIDR": _words(),
    "configSyncPeriod": _time(900.0),
    "conntrack.maxPerCore": Field(integer, 32 * 1024),
    "conntrack.min": Field(integer, 128 * 1024),
    "conntrack.tcpBeLiberal": _flag(),
    "conntrack.tcpCloseWaitTimeout": Field(duration, 3600.0),
    "conntrack.tcpEstablishedTimeout": Field(duration, 86400.0),
    "conntrack.udpStreamTimeout": _time(),
    "conntrack.udpTimeout": _time(),
    "detectLocal.bridgeInterface": _words(),
    "detectLocal.interfaceNamePrefix": _words(),
    "detectLocalMode": _words("ClusterCIDR"),
    "enableProfiling": _flag(),
    "featureGates": Field(gates, None),
    "healthzBindAddress": _words(),
    "hostnameOverride": _words(),
    "iptables.localhostNodePorts": Field(boolean, True),
    "iptables.masqueradeAll": _flag(),
    "iptables.masqueradeBit": Field(integer, 14),
    "iptables.minSyncPeriod": _time(1.0),
    "iptables.syncPeriod": _time(30.0),
    "ipvs.excludeCIDRs": Field(texts, None),
    "ipvs.minSyncPeriod": _time(),
    "ipvs.scheduler": _words(),
    "ipvs.strictARP": _flag(),
    "ipvs.syncPeriod": _time(30.0),
    "ipvs.tcpFinTimeout": _time(),
    "ipvs.tcpTimeout": _time(),
    "ipvs.udpTimeout": _time(),
    "logging": Field(anything, None),
    "metricsBindAddress": _words(),
    "mode": _words("nftables"),
    "nftables.masqueradeAll": _flag(),
    "nftables.masqueradeBit": Field(integer, 14),
    "nftables.minSyncPeriod": _time(1.0),
    "nftables.syncPeriod": _time(30.0),
    "nodePortAddresses": Field(texts, None),
    "oomScoreAdj": Field(integer, -999),
    "portRange": _words(),
    "showHiddenMetricsForVersion": _words(),
    "windowsRunAsService": _flag(),
    "winkernel.enableDSR": _flag(),
    "winkernel.forwardHealthCheckVip": _flag(),
    "winkernel.networkName": _words(),
    "winkernel.rootHnsEndpointName": _words(),
    "winkernel.sourceVip": _words(),
}
HEALTH_PORT, METRICS_PORT = 10256, 10249


def defaulted(given: Mapping[str, Any]) -> Values:
    """All fields: those given, and upstream's defaults; the mode, where none is asked for, is nftables."""
    values = {
        path: field.default if (value := given.get(path)) is None or value == field.unset else value
        for path, field in FIELDS.items()
    }
    every, loopback = ("[::]", "[::1]") if _is_ipv6(values["bindAddress"]) else ("0.0.0.0", "127.0.0.1")  # noqa: S104
    values["healthzBindAddress"] = _with_port(values["healthzBindAddress"] or every, HEALTH_PORT)
    values["metricsBindAddress"] = _with_port(values["metricsBindAddress"] or loopback, METRICS_PORT)
    return values


def _is_ipv6(address: str) -> bool:
    return ":" in address


def _with_port(address: str, port: int) -> str:
    """IP:port of an address that may have none yet; what is no address stays."""
    bare = address.strip("[]") if address.startswith("[") and address.endswith("]") else address
    if _is_address(bare):
        return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
    return address


def _is_address(text: str) -> bool:
    from tiphys.api.validation.addresses import parse

    return parse(text) is not None
