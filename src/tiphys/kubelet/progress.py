"""How far things of a pod have come: small values that state.py keeps and decide.py reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tiphys.kubelet.container_status import Waiting


class Step(StrEnum):
    """Of starting a container."""

    PULL = "pull"
    START = "start"
    HOOK = "hook"


@dataclass(slots=True)
class Starting:
    """The container that is being started, one at a time in a pod."""

    container: str
    step: Step
    id: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a container could not be started."""

    waiting: Waiting
    retry_at: float
    at: float = 0
    image: str = ""
    """The name of the image that could not be had."""


class Progress(StrEnum):
    """Of volumes and of the clean-up."""

    NEEDED = "needed"
    UNDER_WAY = "under way"
    DONE = "done"
