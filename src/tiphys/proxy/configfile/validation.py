"""What is wrong with a KubeProxyConfiguration, in upstream's words (pkg/proxy/apis/config/validation). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tiphys.api.kinds.base import FieldError, invalid, not_supported
from tiphys.api.validation.addresses import parse, parse_cidr
from tiphys.base.durations import format_duration
from tiphys.proxy.configfile.fields import Values

_ROOT = "KubeProxyConfiguration"
_LINUX = f"{_ROOT}.KubeProxyLinuxConfiguration"
_CONNTRACK = f"{_LINUX}.KubeProxyConntrackConfiguration"
_MODES = ("iptables", "ipvs", "nftables")
_LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", "")
_DUAL = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]"
_NOT_NEGATIVE = "must be greater than or equal to 0"


def check(values: Values) -> list[FieldError]:
    """All problems, in upstream's order; [] for a valid configuration."""
    return [*_masquerading(values), *_linux(values), *_mode(values), *_periods(values), *_addresses(values)]


def _masquerading(values: Values) -> Iterator[FieldError]:
    named = (("iptables", "IPTables"), ("nftables", "NFTables"))
    for section, name in named:
        bit = values[f"{section}.masqueradeBit"]
        if (section == "iptables" or values["mode"] == section) and not 0 <= bit <= 31:
            field = f"{_ROOT}.KubeProxy{name}Configuration.MasqueradeBit"
            yield invalid(field, bit, "must be within the range [0, 31]")


def _linux(values: Values) -> Iterator[FieldError]:
    for name, field in (("maxPerCore", "MaxPerCore"), ("min", "Min")):
        if values[f"conntrack.{name}"] < 0:
            yield invalid(f"{_CONNTRACK}.{field}", values[f"conntrack.{name}"], _NOT_NEGATIVE)
    for name in ("TCPEstablishedTimeout", "TCPCloseWaitTimeout", "UDPTimeout", "UDPStreamTimeout"):
        seconds = values[f"conntrack.{name[:3].lower()}{name[3:]}"]
        if seconds < 0:
            yield invalid(f"{_CONNTRACK}.{name}", format_duration(seconds), _NOT_NEGATIVE)
    if not -1000 <= values["oomScoreAdj"] <= 1000:
        yield invalid(f"{_LINUX}.OOMScoreAdj", values["oomScoreAdj"], "must be within the range [-1000, 1000]")


def _mode(values: Values) -> Iterator[FieldError]:
    if values["mode"] not in _MODES:
        detail = f"must be {', '.join(_MODES)} or blank (blank means the best-available proxy [currently iptables])"
        yield invalid(f"{_ROOT}.Mode.ProxyMode", values["mode"], detail)
    if values["clientConnection.burst"] < 0:
        yield invalid(f"{_ROOT}.ClientConnection.Burst", values["clientConnection.burst"], _NOT_NEGATIVE)


def _periods(values: Values) -> Iterator[FieldError]:
    section = values["mode"] if values["mode"] in _MODES else "iptables"
    config, sync, least = (
        values["configSyncPeriod"], values[f"{section}.syncPeriod"], values[f"{section}.minSyncPeriod"]
    )  # fmt: skip
    for name, seconds in (("ConfigSyncPeriod", config), ("SyncPeriod", sync)):
        if seconds <= 0:
            yield invalid(f"{_ROOT}.{name}", format_duration(seconds), "must be greater than 0")
    if least < 0:
        yield invalid(f"{_ROOT}.MinSyncPeriod", format_duration(least), _NOT_NEGATIVE)
    if least > sync:
        detail = f"must be greater than or equal to {_ROOT}.MinSyncPeriod"
        yield invalid(f"{_ROOT}.SyncPeriod", format_duration(least), detail)


def _addresses(values: Values) -> Iterator[FieldError]:
    if parse(_bare(values["bindAddress"])) is None:
        detail = "not a valid textual representation of an IP address"
        yield invalid(f"{_ROOT}.BindAddress", values["bindAddress"], detail)
    for name in ("HealthzBindAddress", "MetricsBindAddress"):
        if address := values[name[0].lower() + name[1:]]:
            yield from _host_port(address, f"{_ROOT}.{name}")
    yield from _node_ports(values["nodePortAddresses"] or ())
    mode = values["detectLocalMode"]
    if mode not in _LOCAL_MODES:
        yield not_supported(f"{_ROOT}.DetectLocalMode", mode, _LOCAL_MODES)
    yield from _local(values, mode)


def _host_port(text: str, field: str) -> Iterator[FieldError]:
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")) or host.startswith("[") is not host.endswith("]"):
        yield invalid(field, text, "must be IP:port")
        return
    if parse(_bare(host)) is None:
        yield invalid(field, _bare(host), "must be a valid IP")
    if not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
        yield invalid(field, port, "must be a valid port")


def _node_ports(addresses: Sequence[str]) -> Iterator[FieldError]:
    for position, address in enumerate(addresses):
        field = f"{_ROOT}.NodePortAddresses[{position}]"
        if address == "primary":
            if len(addresses) > 1:
                yield invalid(field, address, "can't use both 'primary' and CIDRs")
            return
        if parse_cidr(address) is None:
            yield invalid(field, address, "must be a valid CIDR")


def _local(values: Values, mode: str) -> Iterator[FieldError]:
    field = f"{_ROOT}.DetectLocalConfiguration"
    named = {"BridgeInterface": "InterfaceName", "InterfaceNamePrefix": "InterfacePrefix"}
    if mode in named and not values[f"detectLocal.{mode[0].lower()}{mode[1:]}"]:
        yield invalid(f"{field}.{named[mode]}", "", "must not be empty")
    elif mode == "ClusterCIDR" and values["clusterCIDR"]:
        yield from _cluster_cidrs(values["clusterCIDR"].split(","), f"{field}.ClusterCIDRs")


def _cluster_cidrs(texts: list[str], field: str) -> Iterator[FieldError]:
    parsed = [parse_cidr(text) for text in texts]
    if len(texts) > 2:
        yield invalid(field, texts, _DUAL)
        return
    for position, one in enumerate(parsed):
        if one is None:
            detail = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
            yield invalid(f"{field}[{position}]", texts[position], detail)
    found = [one[1].version for one in parsed if one is not None]
    if len(found) == 2 and found[0] == found[1]:
        yield invalid(field, texts, _DUAL)


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
