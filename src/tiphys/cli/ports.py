"""Ports of this machine that lead into a cluster: add, remove and list them, also while it runs."""

from __future__ import annotations

import argparse
from typing import Any

from tiphys.cli.arguments import add_cluster_flag
from tiphys.cli.output import Output, add_common

SYNTAX = "[ADDRESS:]HOSTPORT:TARGET[/PROTO]"
TARGET = (
    "TARGET is [NAMESPACE/]SERVICE:PORT, or a number: 80 and 443 are the ingress, another one is that port of the "
    "nodes. ADDRESS is 127.0.0.1 unless given: 0.0.0.0 lets other machines in. PROTO is tcp or udp."
)


def add_publish(parser: argparse.ArgumentParser) -> None:
    """The flag of `tiphys up`."""
    text = f"a port of this machine that leads into the cluster; is kept; may be repeated. {TARGET}"
    parser.add_argument("--publish", type=_published, action="append", default=[], metavar=SYNTAX, help=text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="publish ports, at once if the cluster runs", epilog=TARGET)
    add.add_argument("ports", nargs="+", type=_published, metavar=SYNTAX)
    remove = actions.add_parser("remove", help="publish them no more; connections that there are go on")
    remove.add_argument("ports", nargs="+", metavar="PORT", help="as listed, or [ADDRESS:]HOSTPORT[/PROTO]")
    for action in (add, remove, actions.add_parser("list", help="the published ports and where they lead")):
        add_cluster_flag(action)
        add_common(action)


def _published(text: str) -> str:
    from tiphys.base.errors import Permanent
    from tiphys.cluster.ports.published import parse

    try:
        return str(parse(text))
    except Permanent as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace) -> int:
    verbs = {"add": _add, "remove": _remove, "list": _list}
    return verbs[options.action](options, Output(options))


def _add(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import lifecycle
    from tiphys.cluster.ports import manage

    lifecycle.require_root("ports add")
    state = manage.add(options.name, options.ports, output.step)
    output.result(state, "\n".join(_sentence(one) for one in state))
    return 0


def _remove(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import lifecycle
    from tiphys.cluster.ports import manage

    lifecycle.require_root("ports remove")
    gone = manage.remove(options.name, options.ports, output.step)
    output.result({"removed": gone}, "\n".join(f"{port} is not published any more" for port in gone))
    return 0


def _list(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import config
    from tiphys.cluster.ports import manage

    output.table(rows(manage.states(config.existing(options.name)), output), ("Port", "State"))
    return 0


def rows(states: list[dict[str, Any]], output: Output) -> list[dict[str, Any]]:
    """For a table; for JSON all that there is."""
    return states if output.json else [{"port": one["port"], "state": _state(one)} for one in states]


def _state(one: dict[str, Any]) -> str:
    if one["error"]:
        return f"failed: {one['error']}"
    if one["waiting"]:
        return f"waiting: {one['waiting']}"
    return f"{', '.join(one['backends'])}{' (copied by the control plane)' if one['way'] == 'process' else ''}"


def _sentence(one: dict[str, Any]) -> str:
    return f"{one['port']} is published, {'but ' if one['waiting'] else 'to '}{_state(one)}"
