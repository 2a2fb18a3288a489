"""The `tiphys` command. One module a verb, imported only when it is used: start-up time is part of the product.

Exit codes: 0 done; 1 it failed, and stderr says why; 2 the command line is wrong; 130, 143 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from tiphys import KUBERNETES_VERSION, __version__
from tiphys.base.errors import TiphysError
from tiphys.cli.failure import reason

VERBS = {
    "up": "start a cluster in the background, return when it is ready",
    "down": "stop a cluster, keep its data",
    "delete": "remove clusters with everything of theirs",
    "status": "what runs of a cluster",
    "list": "the clusters of this machine",
    "kubeconfig": "print a cluster's kubeconfig, or merge it into yours",
    "logs": "what a component of a cluster logged",
    "image": "load, pull, list and remove images",
    "node": "add, remove and list the nodes of a cluster",
    "ports": "publish ports of this machine that lead into a cluster",
    "doctor": "what this machine lacks, and how to get it",
    "version": "print versions",
    "apiserver": "run an API server in the foreground",
    "controller-manager": "run the controllers in the foreground",
    "scheduler": "run the scheduler in the foreground",
    "kubelet": "run a node in the foreground",
    "dns": "run a cluster's name server in the foreground",
    "proxy": "run the proxy of Services in the foreground",
}
HIDDEN = {"run": "run a process of a cluster in the foreground"}
FLAGS_WITH_VALUE = ("-o", "--output", "--name")


def main(arguments: list[str] | None = None) -> NoReturn:
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = _run(words)
        sys.stdout.flush()
        sys.exit(code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        sys.exit(1)
    except (TiphysError, OSError) as error:
        print(f"tiphys: {reason(error)}", file=sys.stderr)
        sys.exit(1)


def _run(words: list[str]) -> int:
    place = _verb_at(words)
    if place is not None:
        return _call(words[place], words[:place] + words[place + 1 :])
    parser = _overview()
    parser.parse_args(words)
    parser.print_help()
    return 0 if not words else 2


def _verb_at(words: list[str]) -> int | None:
    """Where the command's name is; flags that every command has may stand before it."""
    place = 0
    while place < len(words) and words[place].startswith("-"):
        place += 2 if words[place] in FLAGS_WITH_VALUE else 1
    known = place < len(words) and (words[place] in VERBS or words[place] in HIDDEN)
    return place if known else None


def _call(verb: str, words: list[str]) -> int:
    from tiphys.cli.arguments import Parser

    module = _module(verb)
    parser = Parser(prog=f"tiphys {verb}", description=module.__doc__)
    module.add_arguments(parser)
    options = parser.parse_args(words)
    signal.signal(signal.SIGTERM, _terminated)
    return int(module.run(options) or 0)


def _terminated(number: int, frame: object) -> NoReturn:
    """SIGTERM ends a command like Ctrl-C does: what it began is undone on the way out."""
    sys.exit(128 + number)


def _module(verb: str) -> ModuleType:
    return import_module(f"tiphys.cli.{verb.replace('-', '_')}")


def _overview() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {verb.ljust(width)}  {text}" for verb, text in VERBS.items())
    from tiphys.cli.arguments import Parser

    parser = Parser(
        prog="tiphys",
        usage="tiphys COMMAND [OPTIONS]",
        description="Kubernetes in Python: real clusters on this machine.",
        epilog=f"commands:\n{lines}\n\n`tiphys COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"tiphys {__version__} (Kubernetes {KUBERNETES_VERSION})"
    )
    parser.add_argument("command", nargs="?", choices=tuple(VERBS), metavar="COMMAND", help=argparse.SUPPRESS)
    return parser
