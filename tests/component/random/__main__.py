"""Run worlds by hand: `PYTHONPATH=src:tests python -m component.random --seed 7 --steps 2000`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from dataclasses import replace

from component.random.plans import PLANS
from component.random.quiet import live
from component.random.world import Broken, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m component.random", description=__doc__)
    parser.add_argument("--world", choices=sorted(PLANS), action="append", help="which worlds (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds from there on")
    parser.add_argument("--steps", type=int, default=0, help="steps of each (default: those of the test)")
    parser.add_argument("--between", type=int, default=0, help="steps between quiet points")
    parser.add_argument("--go-on", action="store_true", help="go on after a failure")
    given = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # errors fail the world; warnings are daily bread here
    failures = 0
    for seed in range(given.seed, given.seed + given.seeds):
        for world in given.world or PLANS:
            plan = PLANS[world]
            plan = replace(plan, seed=seed, steps=given.steps or plan.steps, between=given.between or plan.between)
            began = time.process_time()
            try:
                play(plan, live)
            except Broken as broken:
                failures += 1
                print(f"{broken}\n", flush=True)
                if not given.go_on:
                    return 1
            spent = time.process_time() - began
            print(f"{world} {seed}: {plan.steps} steps in {spent:.1f} s of CPU", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # so that sets have the same order in every run, too
        os.execve(
            sys.executable,
            [sys.executable, "-m", "component.random", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
