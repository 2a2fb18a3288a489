"""Messages and methods between kubelet and DRA drivers: v1 and v1beta1, and health v1alpha1.

Source: the kubelet's DRA plugin API reference and KEP-4381, KEP-4680.
"""

from __future__ import annotations

from tiphys.base.grpc.messages import ENUM, INT64, STRING, MapOf, Message, Repeated
from tiphys.base.grpc.types import Method

SERVICES = ("v1.DRAPlugin", "v1beta1.DRAPlugin")
"""What drivers may list as supported versions, the one that is preferred first."""
HEALTH_SERVICE = "v1alpha1.DRAResourceHealth"

_CLAIM = Message(namespace=(1, STRING), uid=(2, STRING), name=(3, STRING))
_CLAIMS = Message(claims=(1, Repeated(_CLAIM)))
_DEVICE = Message(
    request_names=(1, Repeated(STRING)),
    pool_name=(2, STRING),
    device_name=(3, STRING),
    cdi_device_ids=(4, Repeated(STRING)),
    share_id=(5, STRING),
)
_PREPARED = Message(claims=(1, MapOf(Message(devices=(1, Repeated(_DEVICE)), error=(2, STRING)))))
_UNPREPARED = Message(claims=(1, MapOf(Message(error=(1, STRING)))))

_SEEN = Message(pool_name=(1, STRING), device_name=(2, STRING))
_HEALTH = Message(
    device=(1, _SEEN),
    health=(2, ENUM),
    last_updated_time=(3, INT64),
    health_check_timeout_seconds=(4, INT64),
    message=(5, STRING),
)
WATCH_HEALTH = Method(
    "/v1alpha1.DRAResourceHealth/NodeWatchResources", Message(), Message(devices=(1, Repeated(_HEALTH))), streaming=True
)


def prepare(service: str) -> Method:
    """NodePrepareResources of one of SERVICES."""
    return Method(f"/k8s.io.kubelet.pkg.apis.dra.{service}/NodePrepareResources", _CLAIMS, _PREPARED)


def unprepare(service: str) -> Method:
    return Method(f"/k8s.io.kubelet.pkg.apis.dra.{service}/NodeUnprepareResources", _CLAIMS, _UNPREPARED)
