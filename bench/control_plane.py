"""The control plane in one process, as `tiphys up` runs it, but without nodes and their networks.

    python bench/control_plane.py --data-dir DIR --secure-port PORT --token-auth-file FILE

API server over its store, controllers and scheduler beside it on the local transport. `deployment.py` starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc

import uvloop

from tiphys.apiserver import serve
from tiphys.base.clock import SystemClock
from tiphys.base.identity import User
from tiphys.client.local import LocalClient
from tiphys.controllers import manager
from tiphys.scheduler.app import Scheduler

MANAGER = User("system:kube-controller-manager", groups=("system:authenticated",))
SCHEDULER = User("system:kube-scheduler", groups=("system:authenticated",))


async def run(options: argparse.Namespace) -> None:
    clock = SystemClock()
    async with serve.serving(options, clock) as (server, _), asyncio.TaskGroup() as tasks:

        def connect(user: User) -> LocalClient:
            return LocalClient(server.handler, user, agent=user.name.rpartition(":")[2])

        config = manager.ManagerConfig(connect=connect)
        tasks.create_task(manager.run(connect(MANAGER), clock, config=config))
        tasks.create_task(Scheduler(connect(SCHEDULER), clock).run())
        gc.collect()
        gc.freeze()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    serve.add_flags(parser)
    uvloop.run(run(parser.parse_args()))
