"""Components in the foreground: log to stderr, run on uvloop, end at SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any

from tiphys.base import log
from tiphys.base.errors import TiphysError
from tiphys.cli.failure import reason

LEVELS = {0: logging.WARNING, 1: logging.WARNING, 2: logging.INFO, 3: logging.INFO}


def add_logging(parser: argparse.ArgumentParser) -> None:
    """Upstream's -v, and the flags of every command."""
    parser.add_argument("-v", "--v", type=int, default=2, metavar="LEVEL", help="0: warnings; 2: events; 4: details")
    parser.add_argument("-q", "--quiet", action="store_true", help="log errors only")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="format of log lines (text)")


def run_component(main: Coroutine[Any, Any, None], options: argparse.Namespace) -> int:
    """Run until told to stop. An error that ends the component is one line; its trace needs -v 4."""
    level = logging.ERROR if options.quiet else LEVELS.get(options.v, logging.DEBUG)
    log.configure(level, options.output)
    return run_loop(main, trace=options.v >= 4)


def run_loop(main: Coroutine[Any, Any, None], *, trace: bool) -> int:
    """Run on uvloop; exit code 1 and the reason on stderr if it ends by an error."""
    import uvloop

    try:
        uvloop.run(_until_stopped(main))
    except Exception as error:
        first = _first(error)
        if trace or not isinstance(first, TiphysError | OSError):
            logging.getLogger("tiphys").exception("stopped by an error")
        print(f"tiphys: {reason(first)}", file=sys.stderr)
        return 1
    return 0


async def _until_stopped(main: Coroutine[Any, Any, None]) -> None:
    from tiphys.cluster.signals import until_told_to_stop

    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(until_told_to_stop(), name="signals")
        working = tasks.create_task(main, name="component")
        await asyncio.wait((stopping, working), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        working.cancel()


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
