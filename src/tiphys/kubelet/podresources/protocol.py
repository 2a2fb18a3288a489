"""Messages and methods of the pod resources API, v1 and v1alpha1. Source: its reference in the documentation."""

from __future__ import annotations

from tiphys.base.grpc.messages import INT64, STRING, UINT64, Message, Repeated
from tiphys.base.grpc.types import methods

_TOPOLOGY = Message(nodes=(1, Repeated(Message(ID=(1, INT64)))))
_DEVICES = Message(resource_name=(1, STRING), device_ids=(2, Repeated(STRING)), topology=(3, _TOPOLOGY))
_MEMORY = Message(memory_type=(1, STRING), size=(2, UINT64), topology=(3, _TOPOLOGY))
_CLAIM = Message(
    cdi_devices=(1, Repeated(Message(name=(1, STRING)))),
    driver_name=(2, STRING),
    pool_name=(3, STRING),
    device_name=(4, STRING),
    share_id=(5, STRING),
)
_DYNAMIC = Message(claim_name=(2, STRING), claim_namespace=(3, STRING), claim_resources=(4, Repeated(_CLAIM)))
_CONTAINER = Message(
    name=(1, STRING),
    devices=(2, Repeated(_DEVICES)),
    cpu_ids=(3, Repeated(INT64)),
    memory=(4, Repeated(_MEMORY)),
    dynamic_resources=(5, Repeated(_DYNAMIC)),
)
_POD = Message(name=(1, STRING), namespace=(2, STRING), containers=(3, Repeated(_CONTAINER)))
_EMPTY = Message()

_V1 = methods(
    "v1.PodResourcesLister",
    List=(_EMPTY, Message(pod_resources=(1, Repeated(_POD)))),
    GetAllocatableResources=(
        _EMPTY,
        Message(devices=(1, Repeated(_DEVICES)), cpu_ids=(2, Repeated(INT64)), memory=(3, Repeated(_MEMORY))),
    ),
    Get=(Message(pod_name=(1, STRING), pod_namespace=(2, STRING)), Message(pod_resources=(1, _POD))),
)
LIST, ALLOCATABLE, GET = _V1["List"], _V1["GetAllocatableResources"], _V1["Get"]

_OLD_DEVICES = Message(resource_name=(1, STRING), device_ids=(2, Repeated(STRING)))
_OLD_CONTAINER = Message(name=(1, STRING), devices=(2, Repeated(_OLD_DEVICES)))
_OLD_POD = Message(name=(1, STRING), namespace=(2, STRING), containers=(3, Repeated(_OLD_CONTAINER)))
LIST_ALPHA = methods("v1alpha1.PodResourcesLister", List=(_EMPTY, Message(pod_resources=(1, Repeated(_OLD_POD)))))[
    "List"
]
