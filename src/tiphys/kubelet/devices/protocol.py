"""The messages and methods of the device plugin API, v1beta1. Source: its reference in the Kubernetes documentation."""

from __future__ import annotations

from tiphys.base.grpc.messages import BOOL, INT32, INT64, STRING, MapOf, Message, Repeated
from tiphys.base.grpc.types import Method, methods

VERSION = "v1beta1"
HEALTHY = "Healthy"
PRE_START_TIMEOUT = 30.0

_STRINGS = Repeated(STRING)
EMPTY = Message()
OPTIONS = Message(pre_start_required=(1, BOOL), get_preferred_allocation_available=(2, BOOL))
REGISTER = Message(version=(1, STRING), endpoint=(2, STRING), resource_name=(3, STRING), options=(4, OPTIONS))

_TOPOLOGY = Message(nodes=(1, Repeated(Message(ID=(1, INT64)))))
_DEVICE = Message(ID=(1, STRING), health=(2, STRING), topology=(3, _TOPOLOGY))
DEVICES = Message(devices=(1, Repeated(_DEVICE)))

_MOUNT = Message(container_path=(1, STRING), host_path=(2, STRING), read_only=(3, BOOL))
_NODE = Message(container_path=(1, STRING), host_path=(2, STRING), permissions=(3, STRING))
CONTAINER_ALLOCATION = Message(
    envs=(1, MapOf(STRING)),
    mounts=(2, Repeated(_MOUNT)),
    devices=(3, Repeated(_NODE)),
    annotations=(4, MapOf(STRING)),
    cdi_devices=(5, Repeated(Message(name=(1, STRING)))),
)
_ALLOCATE = Message(container_requests=(1, Repeated(Message(devices_ids=(1, _STRINGS)))))
_ALLOCATED = Message(container_responses=(1, Repeated(CONTAINER_ALLOCATION)))
_PREFER = Message(
    container_requests=(
        1,
        Repeated(
            Message(available_deviceIDs=(1, _STRINGS), must_include_deviceIDs=(2, _STRINGS), allocation_size=(3, INT32))
        ),
    )
)
_PREFERRED = Message(container_responses=(1, Repeated(Message(deviceIDs=(1, _STRINGS)))))

REGISTRATION = methods("v1beta1.Registration", Register=(REGISTER, EMPTY))["Register"]
_PLUGIN = methods(
    "v1beta1.DevicePlugin",
    GetDevicePluginOptions=(EMPTY, OPTIONS),
    GetPreferredAllocation=(_PREFER, _PREFERRED),
    Allocate=(_ALLOCATE, _ALLOCATED),
    PreStartContainer=(Message(devices_ids=(1, _STRINGS)), EMPTY),
)
GET_OPTIONS = _PLUGIN["GetDevicePluginOptions"]
PREFER = _PLUGIN["GetPreferredAllocation"]
ALLOCATE = _PLUGIN["Allocate"]
PRE_START = _PLUGIN["PreStartContainer"]
LIST_AND_WATCH = Method("/v1beta1.DevicePlugin/ListAndWatch", EMPTY, DEVICES, streaming=True)
