"""EndpointSlices that mirror Endpoints which somebody wrote by hand: pure.

For each set of ports and each address family of the Endpoints there is one slice; what does not fit is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.api.validation.addresses import is_ipv6, parse, shown
from tiphys.client.events import WARNING
from tiphys.client.types import Object
from tiphys.controllers.objects import (
    annotations_of,
    controller_reference,
    deleting,
    labels,
    name,
    namespace,
    semantically_equal,
    uid,
)
from tiphys.controllers.slice_hints import Event
from tiphys.controllers.slice_packing import (
    MANAGED_BY,
    SERVICE_NAME,
    Endpoint,
    Identity,
    Ports,
    Slice,
    Writes,
    endpoints_of,
    identity,
    ports_of,
    recycle,
    same,
)
from tiphys.controllers.slices import as_ports, prefix
from tiphys.controllers.subsets import repack
from tiphys.controllers.trigger_times import TRIGGER_TIME

MANAGER = "endpointslicemirroring-controller.k8s.io"
PER_SUBSET = 1000
_SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_NOT_COPIED = frozenset({TRIGGER_TIME, _LAST_APPLIED})

Group = tuple[str, Ports]
"""Address family and ports."""


@dataclass(slots=True)
class Mirror:
    """What to do, and what to tell about the Endpoints."""

    writes: Writes = field(default_factory=Writes)
    events: list[Event] = field(default_factory=list)


def mirrored(endpoints: Object) -> bool:
    """Whether these Endpoints want slices."""
    return labels(endpoints).get(_SKIP) != "true" and _LEADER not in annotations_of(endpoints)


def mirror(endpoints: Object, existing: Iterable[Object], limit: int = PER_SUBSET) -> Mirror:
    """What brings the existing slices in line with the Endpoints."""
    out = Mirror()
    wanted = _wanted(out, endpoints, limit)
    present: dict[Group, list[Object]] = {}
    for held in existing:
        present.setdefault((str(held.get("addressType")), ports_of(held.get("ports"))), []).append(held)
    for group, found in wanted.items():
        _one_group(out.writes, endpoints, group, found, present.pop(group, []), limit)
    for slices in present.values():
        out.writes.delete += slices
    recycle(out.writes, list(out.writes.delete))
    if deleting(endpoints):
        out.writes.create.clear()
    return out


def _wanted(out: Mirror, endpoints: Object, limit: int) -> dict[Group, dict[Identity, Endpoint]]:
    wanted: dict[Group, dict[Identity, Endpoint]] = {}
    invalid = skipped = 0
    for subset in repack(endpoints.get("subsets") or ()):
        ports = ports_of(subset.get("ports"))
        for family in ("IPv4", "IPv6"):
            wanted.setdefault((family, ports), {})
        told = [(each, True) for each in subset.get("addresses") or ()]
        told += [(each, False) for each in subset.get("notReadyAddresses") or ()]
        added = 0
        for address, ready in told:
            if added >= limit:
                break
            made = _endpoint(address, ready=ready)
            if made is None:
                invalid += 1
                continue
            added += 1
            family = "IPv6" if is_ipv6(made["addresses"][0]) else "IPv4"
            wanted[family, ports][identity(made)] = made
        skipped += len(told) - added
    if invalid:
        text = f"Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices"
        out.events.append((WARNING, "InvalidIPAddress", text))
    if skipped > invalid:
        text = f"A max of {limit} addresses can be mirrored to EndpointSlices per Endpoints subset. "
        out.events.append((WARNING, "TooManyAddressesToMirror", f"{text}{skipped} addresses were skipped"))
    return wanted


def _endpoint(address: Mapping[str, Any], *, ready: bool) -> dict[str, Any] | None:
    ip = parse(str(address.get("ip") or ""))
    if ip is None:
        return None
    out: dict[str, Any] = {"addresses": [shown(ip)], "conditions": {"ready": ready}}
    optional = {key: address.get(key) for key in ("targetRef", "nodeName", "hostname")}
    return {**out, **{key: value for key, value in optional.items() if value}}


def _one_group(
    writes: Writes,
    endpoints: Object,
    group: Group,
    wanted: dict[Identity, Endpoint],
    slices: Sequence[Object],
    limit: int,
) -> None:
    if not wanted:
        writes.delete += slices
        return
    writes.delete += slices[1:]
    if slices and _up_to_date(endpoints, wanted, slices[0]):
        return
    made = {**_new(endpoints, group), "endpoints": list(wanted.values())[:limit]}
    if not slices:
        writes.create.append(made)
        return
    known = {key: slices[0]["metadata"][key] for key in ("name", "resourceVersion") if key in slices[0]["metadata"]}
    metadata = {key: value for key, value in made["metadata"].items() if key != "generateName"}
    writes.update.append({**made, "metadata": {**metadata, **known}})


def _up_to_date(endpoints: Object, wanted: Mapping[Identity, Endpoint], held: Object) -> bool:
    present = endpoints_of(held)
    if len(present) != len(wanted) or any(
        (found := wanted.get(identity(each))) is None or not same(found, each) for each in present
    ):
        return False
    marks = {key: value for key, value in labels(held).items() if key not in (MANAGED_BY, SERVICE_NAME)}
    owners = held["metadata"].get("ownerReferences") or ()
    return (
        semantically_equal(marks, labels(endpoints))
        and semantically_equal(annotations_of(held), _notes(endpoints))
        and not any(_predecessor(each, endpoints) for each in owners)
    )


def _predecessor(owner: Mapping[str, Any], endpoints: Object) -> bool:
    """Whether the owner is an earlier object of the same name: garbage collection would take the slice with it."""
    same_name = (owner.get("kind"), owner.get("name")) == ("Endpoints", name(endpoints))
    return same_name and owner.get("uid") != uid(endpoints)


def _notes(endpoints: Object) -> dict[str, str]:
    return {key: value for key, value in annotations_of(endpoints).items() if key not in _NOT_COPIED}


def _new(endpoints: Object, group: Group) -> Slice:
    family, ports = group
    owner = {"apiVersion": "v1", "kind": "Endpoints", **endpoints}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": prefix(name(endpoints)),
            "namespace": namespace(endpoints),
            "labels": {**labels(endpoints), SERVICE_NAME: name(endpoints), MANAGED_BY: MANAGER},
            "annotations": _notes(endpoints),
            "ownerReferences": [controller_reference(owner)],
        },
        "addressType": family,
        "ports": as_ports(ports),
    }
