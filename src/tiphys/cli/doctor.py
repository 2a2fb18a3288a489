"""Tell what this machine lacks for running clusters, what follows from that, and how to get it. Exit code 1 if
something needed is missing."""

from __future__ import annotations

import argparse

from tiphys.cli.output import Output, add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from tiphys.cluster import doctor

    output = Output(options)
    findings = doctor.examine()
    if output.json:
        output.result([finding.as_dict() for finding in findings], "")
    for finding in () if output.json or output.quiet else findings:
        mark = "ok     " if finding.ok else ("MISSING" if finding.needed else "lacking")
        parts = () if finding.ok else (finding.effect, finding.advice)
        print(f"{mark}  {finding.name}: {finding.detail}{''.join(f' -> {part}' for part in parts if part)}")
    return 1 if any(finding.needed and not finding.ok for finding in findings) else 0
