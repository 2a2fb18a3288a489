"""Arguments that several commands share, and a parser that says in one line what is wrong with them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn

from tiphys.base.errors import Permanent
from tiphys.cluster import config
from tiphys.cluster.config import DEFAULT_NAME


class Parser(argparse.ArgumentParser):
    """One line of error: the argument, its value and what is allowed; the usage is what --help is for."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def add_cluster_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        type=cluster_name,
        metavar="NAME",
        default=DEFAULT_NAME,
        help=f"the cluster's name ({DEFAULT_NAME})",
    )


def add_cluster_flag(parser: argparse.ArgumentParser) -> None:
    """For commands whose positional arguments are something else."""
    parser.add_argument(
        "--name",
        type=cluster_name,
        metavar="NAME",
        default=DEFAULT_NAME,
        help=f"the cluster's name ({DEFAULT_NAME})",
    )


def add_kubeconfig(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kubeconfig",
        metavar="FILE",
        default="",
        help="the kubeconfig to change (default: $KUBECONFIG, then ~/.kube/config)",
    )


def cluster_name(text: str) -> str:
    return _name("cluster name", text)


def node_name(text: str) -> str:
    return _name("node name", text)


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an argument that must be a whole number in a range."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from {least} to {most}")
        return number

    return convert


def seconds(text: str) -> float:
    """An argument that is a time in seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of seconds, 0 or more")
    return number


port = whole(1, 65535)


def _name(what: str, text: str) -> str:
    try:
        config.check_name(what, text)
    except Permanent as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
