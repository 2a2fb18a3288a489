"""What happens to a pod: the inputs of its state machine (state.py). Plain data, sent by the shell (worker.py)."""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.kubelet.labels import Record, SandboxRecord
from tiphys.kubelet.podspec import Object


@dataclass(frozen=True, slots=True)
class PodChanged:
    """The pod was added to this node or changed in the API."""

    pod: Object


@dataclass(frozen=True, slots=True)
class PodRemoved:
    """The pod is gone from the API; `last` is its last known shape."""

    last: Object


@dataclass(frozen=True, slots=True)
class Rejected:
    """The node does not admit the pod."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Evicted:
    """The kubelet itself ends the pod, which then counts as failed: pressure, too much storage, node shutdown."""

    reason: str
    message: str
    grace: float
    """Seconds for its containers, unless they have less anyway."""
    disruption: bool = False
    """Whether a DisruptionTarget condition tells it."""
    told: str = ""
    """The condition's message, where it is not that of the status."""


@dataclass(frozen=True, slots=True)
class ResizeGranted:
    """The node gives the pod what it asks for; `pod` has that in its spec."""

    pod: Object
    generation: int


@dataclass(frozen=True, slots=True)
class ResizeRefused:
    """Infeasible, or not possible now for any other reason; `pod` is as it is wanted."""

    pod: Object
    reason: str
    message: str
    generation: int


@dataclass(frozen=True, slots=True)
class ResizeWithdrawn:
    """The pod asks for what it has."""


@dataclass(frozen=True, slots=True)
class ResizeFinished:
    """A ResizePod was carried out; `error` says why not."""

    error: str = ""


@dataclass(frozen=True, slots=True)
class RoomWanted:
    """The disk is full: what nobody needs of the pod's dead containers is to go."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that the runtime has of this pod, at the start of a worker."""

    sandboxes: tuple[SandboxRecord, ...]
    containers: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class VolumesReady:
    pass


@dataclass(frozen=True, slots=True)
class VolumesFailed:
    """Some volume could not be set up; `messages` has one event text a volume."""

    messages: tuple[str, ...]
    retry_at: float
    """When to try again, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class SandboxChanged:
    """The sandbox was created or has died."""

    sandbox: SandboxRecord


@dataclass(frozen=True, slots=True)
class SandboxFailed:
    message: str
    event: tuple[str, str] | None = None
    """(reason, message) of the event that tells it, where it is not the usual one."""


@dataclass(frozen=True, slots=True)
class SandboxRemoved:
    id: str


@dataclass(frozen=True, slots=True)
class ImageReady:
    """The image of `container` is present."""

    container: str
    image: str
    """Its ID."""


@dataclass(frozen=True, slots=True)
class ContainerStarted:
    """StartContainer was carried out; the container may have ended already."""

    record: Record


@dataclass(frozen=True, slots=True)
class ContainerChanged:
    """The runtime says that a container changed."""

    record: Record


@dataclass(frozen=True, slots=True)
class ContainerRemoved:
    id: str


@dataclass(frozen=True, slots=True)
class StartFailed:
    """A step on the way to a running container failed; `reason` is that of the waiting state."""

    container: str
    reason: str
    message: str
    retry_at: float = 0
    """Not before this moment; 0 leaves it to the machine."""
    image: str = ""
    """The name of the image that could not be had."""


@dataclass(frozen=True, slots=True)
class HookFinished:
    """The postStart hook of a container has ended."""

    id: str
    container: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Probed:
    """A probe's verdict on a container changed (thresholds counted already)."""

    id: str
    container: str
    kind: str
    """liveness, readiness or startup."""
    healthy: bool


@dataclass(frozen=True, slots=True)
class StopFinished:
    """A StopContainer was carried out; `error` says why the container may still run."""

    id: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class TimerFired:
    name: str


@dataclass(frozen=True, slots=True)
class SourcesChanged:
    """A ConfigMap or Secret that the pod uses came, changed or went."""


@dataclass(frozen=True, slots=True)
class StatusSaved:
    """The API has the status that was current when `version` was handed over."""

    version: int


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """Volumes and files of the pod are gone."""


Event = (
    PodChanged
    | PodRemoved
    | Rejected
    | Evicted
    | RoomWanted
    | ResizeGranted
    | ResizeRefused
    | ResizeWithdrawn
    | ResizeFinished
    | Observed
    | VolumesReady
    | VolumesFailed
    | SandboxChanged
    | SandboxFailed
    | SandboxRemoved
    | ImageReady
    | ContainerStarted
    | ContainerChanged
    | ContainerRemoved
    | StartFailed
    | HookFinished
    | Probed
    | StopFinished
    | TimerFired
    | SourcesChanged
    | StatusSaved
    | CleanedUp
)
