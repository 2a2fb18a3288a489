"""The `tiphys` command. One module a verb, imported only when it is used: start-up time is part of the product.

Exit codes: 0 done; 1 it failed, and stderr says why; 2 the command line is wrong; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from tiphys import KUBERNETES_VERSION, __version__
from tiphys.base.errors import ApiError, TiphysError

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
    "doctor": "what this machine lacks, and how to get it",
    "version": "print versions",
    "apiserver": "run an API server in the foreground",
    "controller-manager": "run the controllers in the foreground",
    "scheduler": "run the scheduler in the foreground",
    "kubelet": "run a node in the foreground",
}
HIDDEN = {"run": "run a process of a cluster in the foreground"}


def main(arguments: list[str] | None = None) -> NoReturn:
    words = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(_run(words))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (TiphysError, OSError) as error:
        message = error.message if isinstance(error, ApiError) else str(error)
        print(f"tiphys: {message}", file=sys.stderr)
        sys.exit(1)


def _run(words: list[str]) -> int:
    verb = next((word for word in words if not word.startswith("-")), "")
    if verb in VERBS or verb in HIDDEN:
        return _call(verb, words)
    parser = _overview()
    parser.parse_args(words)
    parser.print_help()
    return 0 if not words else 2


def _call(verb: str, words: list[str]) -> int:
    module = _module(verb)
    rest = list(words)
    rest.remove(verb)
    parser = argparse.ArgumentParser(prog=f"tiphys {verb}", description=module.__doc__)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(rest)) or 0)


def _module(verb: str) -> ModuleType:
    return import_module(f"tiphys.cli.{verb.replace('-', '_')}")


def _overview() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {verb.ljust(width)}  {text}" for verb, text in VERBS.items())
    parser = argparse.ArgumentParser(
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
