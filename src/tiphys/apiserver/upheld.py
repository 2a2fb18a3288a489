"""What the server does beside answering requests: a part that fails is begun anew, and the server lives on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
"""How long after its failure a part is begun anew."""


async def upheld(run: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Run a part until it returns or is cancelled. Raises Permanent: a configuration that makes no sense stays so."""
    while True:
        try:
            await run()
        except Permanent:
            raise
        except Exception as error:
            if isinstance(error, ExceptionGroup) and error.subgroup(Permanent) is not None:
                raise
            log.exception("a part of the server failed and is begun anew")
            await clock.sleep(AGAIN_SECONDS)
        else:
            return
