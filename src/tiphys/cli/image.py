"""Load, pull, list and remove the images of this machine: all clusters and nodes share them."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiphys.cli.output import Output, add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    load = actions.add_parser("load", help="from docker-archive or OCI tar files")
    load.add_argument("files", nargs="+", type=Path, metavar="TAR")
    pull = actions.add_parser("pull", help="from a registry")
    pull.add_argument("references", nargs="+", metavar="IMAGE")
    pull.add_argument(
        "--creds-file",
        type=Path,
        metavar="FILE",
        help="a docker config.json with the registry's credentials (default: ~/.docker/config.json)",
    )
    remove = actions.add_parser("remove", help="the tag; the image with its last tag")
    remove.add_argument("references", nargs="+", metavar="IMAGE")
    for action in (load, pull, remove, actions.add_parser("list", help="the images that are here")):
        add_common(action)


def run(options: argparse.Namespace) -> int:
    return {"load": _load, "pull": _pull, "list": _list, "remove": _remove}[options.action](options, Output(options))


def _load(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import images

    loaded = [image for file in options.files for image in images.load(file)]
    names = [tag for image in loaded for tag in image.tags or (image.id,)]
    output.result({"images": names}, "\n".join(f"loaded {name}" for name in names))
    return 0


def _pull(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import images

    pulled = [images.pull(reference, options.creds_file) for reference in options.references]
    output.result(
        {"images": [image.id for image in pulled]},
        "\n".join(f"pulled {name}" for name in options.references),
    )
    return 0


def _list(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import images

    rows = [
        {"image": tag, "id": image.id.removeprefix("sha256:")[:12], "size": f"{image.size / 1e6:.1f} MB"}
        for image in images.every()
        for tag in image.tags or image.digests or ("<none>",)
    ]
    output.table(rows, ("Image", "ID", "Size"))
    return 0


def _remove(options: argparse.Namespace, output: Output) -> int:
    from tiphys.cluster import images

    for reference in options.references:
        images.remove(reference)
    output.result({"removed": options.references}, "\n".join(f"removed {name}" for name in options.references))
    return 0
