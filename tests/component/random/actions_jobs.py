"""What users do to Jobs and CronJobs."""

from __future__ import annotations

from component.random import manifests
from component.random.rules_jobs import finished
from component.random.world import NAMESPACES, Action, World
from tiphys.client.resources import CRON_JOBS, JOBS
from tiphys.client.types import MERGE_PATCH
from tiphys.controllers.objects import name, namespace, spec

_JOBS = ("count", "sort", "mail", "pack", "scan")
_CRON_JOBS = ("tick", "tock")


async def create_job(world: World) -> str:
    where, wanted = world.random.choice(NAMESPACES), world.random.choice(_JOBS)
    made = manifests.job(world.random, wanted, where)
    await world.client.create(JOBS, made)
    return f"create job {where}/{wanted} { ({**made['spec'], 'template': ''}) }"


async def create_cron_job(world: World) -> str:
    where, wanted = world.random.choice(NAMESPACES), world.random.choice(_CRON_JOBS)
    await world.client.create(CRON_JOBS, manifests.cron_job(world.random, wanted, where))
    return f"create cron job {where}/{wanted}"


async def suspend(world: World) -> str:
    job = world.pick("jobs")
    if job is None or finished(job):
        return ""
    changes = {"suspend": not spec(job).get("suspend")}
    await world.client.patch(JOBS, name(job), {"spec": changes}, namespace(job), type=MERGE_PATCH)
    return f"job {namespace(job)}/{name(job)}: {changes}"


async def resize(world: World) -> str:
    job = world.pick("jobs")
    if job is None or finished(job):
        return ""
    changes = {"parallelism": world.random.randint(0, 4)}
    await world.client.patch(JOBS, name(job), {"spec": changes}, namespace(job), type=MERGE_PATCH)
    return f"job {namespace(job)}/{name(job)}: {changes}"


async def delete_job(world: World) -> str:
    job = world.pick("jobs")
    if job is None:
        return ""
    how = world.random.choice(["", "Background", "Background", "Foreground", "Orphan"])
    await world.client.delete(JOBS, name(job), namespace(job), propagation=how)
    return f"delete job {namespace(job)}/{name(job)} {how}"


async def change_cron_job(world: World) -> str:
    cron_job = world.pick("cronjobs")
    if cron_job is None:
        return ""
    fresh = manifests.cron_job(world.random, name(cron_job), "")["spec"]
    kept = ("schedule", "concurrencyPolicy", "successfulJobsHistoryLimit")
    changes = {each: fresh[each] for each in kept} | {"suspend": world.random.random() < 0.2}
    await world.client.patch(CRON_JOBS, name(cron_job), {"spec": changes}, namespace(cron_job), type=MERGE_PATCH)
    return f"cron job {namespace(cron_job)}/{name(cron_job)}: {changes}"


async def delete_cron_job(world: World) -> str:
    cron_job = world.pick("cronjobs")
    if cron_job is None:
        return ""
    how = world.random.choice(["Background", "Foreground", "Orphan"])
    await world.client.delete(CRON_JOBS, name(cron_job), namespace(cron_job), propagation=how)
    return f"delete cron job {namespace(cron_job)}/{name(cron_job)} {how}"


async def let_time_pass(world: World) -> str:
    await world.clock.sleep(60)
    return "a minute passes"


ACTIONS = (
    Action("jobs", 12, create_job),
    Action("jobs", 2, create_cron_job),
    Action("jobs", 4, suspend),
    Action("jobs", 4, resize),
    Action("jobs", 5, delete_job),
    Action("jobs", 2, change_cron_job),
    Action("jobs", 1, delete_cron_job),
    Action("jobs", 2, let_time_pass),
)
