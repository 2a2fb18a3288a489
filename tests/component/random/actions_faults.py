"""What happens between controllers and the API server: the weather, processes that die, lines that are cut."""

from __future__ import annotations

from component.random.world import Action, World


async def change_weather(world: World) -> str:
    world.weather.forecast = world.random.choice(world.plan.skies)
    return f"the weather is now {world.weather.forecast}"


async def kill_manager(world: World) -> str:
    """It is started again at once, as by its keeper, or after a while."""
    victim = world.random.choice(world.managers.names)
    pause = world.random.choice([0, 0, 0.1, 3])
    world.managers.kill(victim)
    await world.clock.sleep(pause)
    world.managers.start(victim)
    return f"{victim} dies and comes back after {pause} s"


async def cut_off_manager(world: World) -> str:
    victim = world.random.choice(world.managers.names)
    world.managers.cut_off(victim)
    return f"{victim} is cut off"


async def reconnect_managers(world: World) -> str:
    if not world.managers.any_cut_off:
        return ""
    world.managers.calm()
    return "no manager is cut off"


ACTIONS = (
    Action("faults", 16, change_weather),
    Action("faults", 3, kill_manager),
    Action("faults", 1, cut_off_manager),
    Action("faults", 8, reconnect_managers),
)
