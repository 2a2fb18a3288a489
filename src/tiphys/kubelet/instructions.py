"""What a pod's state machine (state.py) wants done. Plain data, carried out by the shell (worker.py).

Each instruction that takes time is answered by an event (events.py); the machine never has two of the same
kind under way for the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EnsureVolumes:
    """-> VolumesReady or VolumesFailed."""


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    """-> SandboxChanged or SandboxFailed."""

    attempt: int


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    """-> SandboxRemoved."""

    id: str


@dataclass(frozen=True, slots=True)
class PullImage:
    """Make sure that the container's image is there, by its pull policy -> ImageReady or StartFailed."""

    container: str


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Create and start -> ContainerStarted or StartFailed."""

    container: str
    attempt: int
    image: str
    backoff: float


@dataclass(frozen=True, slots=True)
class CancelStart:
    """Give up a pull, a start or a postStart hook that is under way. Nothing answers."""

    container: str


@dataclass(frozen=True, slots=True)
class ResizePod:
    """Give the pod's cgroup and its running containers what the pod is granted -> ContainerChanged, ResizeFinished."""


@dataclass(frozen=True, slots=True)
class RunHook:
    """The postStart hook -> HookFinished."""

    id: str
    container: str


@dataclass(frozen=True, slots=True)
class StopContainer:
    """preStop hook, stop signal, SIGKILL, all within `grace` seconds -> StopFinished (and ContainerChanged).

    Said again with a shorter grace it replaces the first."""

    id: str
    container: str
    grace: float
    hook: bool = True
    after: tuple[str, ...] = ()
    """IDs of containers that must have ended before the stop signal, as long as there is grace."""


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """-> ContainerRemoved."""

    id: str


@dataclass(frozen=True, slots=True)
class StartProbes:
    """Probe this container until it ends or StopProbes; the same again changes nothing."""

    id: str
    container: str
    started_at: float
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopProbes:
    id: str


@dataclass(frozen=True, slots=True)
class SaveStatus:
    """Bring the API's status up to this one -> StatusSaved."""

    status: Mapping[str, Any]
    version: int


@dataclass(frozen=True, slots=True)
class RecordEvent:
    type: str
    reason: str
    message: str
    container: str = ""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """-> TimerFired at `at` (seconds since the epoch). The same name again replaces it."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Remove the object: grace 0, with its uid as precondition."""


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Tear down volumes, directories and, when the object is gone, logs -> CleanedUp."""

    logs: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left of the pod: drop its worker."""


Instruction = (
    EnsureVolumes
    | CreateSandbox
    | RemoveSandbox
    | PullImage
    | StartContainer
    | CancelStart
    | ResizePod
    | RunHook
    | StopContainer
    | RemoveContainer
    | StartProbes
    | StopProbes
    | SaveStatus
    | RecordEvent
    | SetTimer
    | DeletePod
    | CleanUp
    | Finish
)
