"""AlwaysDeny: refuses everything. Off by default, of use only in tests."""

from __future__ import annotations

from tiphys.apiserver.admission.decision import refuse
from tiphys.apiserver.types import Attributes, Plugin


class AlwaysDeny(Plugin):
    name = "AlwaysDeny"
    connects = True

    async def admit(self, attributes: Attributes) -> None:
        raise refuse(attributes, "admission control is denying all modifications")
