"""Faults that may strike, as operations: drawn, kept and left out like any other."""

from __future__ import annotations

import errno

from hostdev_operator.core import reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.reasons import Reason
from tests.chaos.operations import operation, told_of, unpause
from tests.chaos.processes import AgentProcess
from tests.chaos.world import World

_AWAY = (0.5, 8.0, 45.0)

# -- faults -----------------------------------------------------------------------------------------------------------

_CALLS = (
    "detach_driver", "reattach_driver", "plug_", "add_", "unplug_", "remove_",
    "set_num_vfs", "set_autoprobe", "set_link", "configure_vf",
    "define_network", "start_network", "stop_network", "undefine_network", "autostart_network",
)  # fmt: skip
_REASONS: dict[str, Reason] = {
    str(r): r
    for r in (
        reasons.LIBVIRT_ERROR,
        reasons.HOST_CHANGED,
        reasons.IOMMU_GROUP_NOT_VIABLE,
        reasons.VF_CONFIG_REJECTED,
        reasons.BIND_FAILED,
    )
}
#: What libvirt and the kernel say to any call, and to one alone.
_FAILURES = (
    *((call, reason) for call in _CALLS for reason in ("LibvirtError", "HostChanged")),
    *[("", "LibvirtError")] * 12,  # whatever is called next
    ("plug_", "IOMMUGroupNotViable"),
    ("plug_", "VFConfigRejected"),
    ("configure_vf", "VFConfigRejected"),
    ("reattach_driver", "BindFailed"),
)


@operation(10, fault=True, failure=_FAILURES, after=(False, True), times=(1, 1, 3))
def call_fails(world: World, failure: tuple[str, str], after: bool, times: int) -> bool:  # noqa: FBT001
    call, reason = failure
    world.host.fail(call, _REASONS[reason], after=after, times=times)
    return True


@operation(3, fault=True, call=(*_CALLS, "guests", "networks"), after=(False, True))
def libvirtd_restarts(world: World, call: str, after: bool) -> bool:  # noqa: FBT001
    """In the middle of a call; it is back some seconds later."""
    world.host.fail(call, reasons.LIBVIRT_UNAVAILABLE, "connection broken", after=after, down=True)
    return True


@operation(3, fault=True, seconds=_AWAY)
def libvirtd_stops(world: World, seconds: float) -> bool:
    if world.host.down:
        return False
    world.host.down = True
    world.hits["libvirtd stopped"] += 1
    if world.agent:
        world.agent.lost = True
    world.later(seconds, libvirtd_starts)
    return True


def libvirtd_starts(world: World) -> None:
    """It remembers all but the answers of guests."""
    world.host.down = False
    world.host.rejections.clear()


@operation(4, fault=True, call=("detach_driver", "reattach_driver"))
def unbind_hangs(world: World, call: str) -> bool:
    """The next one; it never returns, and what it was to do is not done."""
    reason = reasons.DETACH_BLOCKED if call == "detach_driver" else reasons.REATTACH_BLOCKED
    world.host.fail(f"{call} ", reason)
    return True


@operation(8, fault=True, at=tuple(range(1, 12)))
def kill_agent_at(world: World, at: int) -> bool:
    world.kill_at = at
    return True


@operation(3, fault=True, at=tuple(range(1, 9)))
def cut_power_at(world: World, at: int) -> bool:
    world.power_cut_at = at
    return True


@operation(2, fault=True)
def kill_agent(world: World) -> bool:
    if world.agent is None or world.agent.dead:
        return False
    world.hits["agent killed"] += 1
    world.agent.end()
    return True


@operation(2, fault=True)
def cut_power(world: World) -> bool:
    world.hits["power cut"] += 1
    world.power_cut()
    return True


@operation(1, fault=True)
def restart_controller(world: World) -> bool:
    world.hits["controller killed"] += 1
    world.start_controller()
    return True


@operation(3, fault=True, seconds=_AWAY)
def api_goes_away(world: World, seconds: float) -> bool:
    if world.api_away:
        return False
    world.api_away = True
    world.hits["API server away"] += 1
    world.later(seconds, World.api_returns)
    return True


@operation(5, fault=True, code=(409, 409, 403, 500), after=(False, False, True), times=(1, 2, 5))
def writes_are_refused(world: World, code: int, after: bool, times: int) -> bool:  # noqa: FBT001
    """``after``: it was written, and the answer was lost."""
    world.refusals += [(code, after)] * times
    return True


@operation(2, fault=True)
def etcd_is_saved(world: World) -> bool:
    world.take_snapshot()
    return True


@operation(2, fault=True, meddles=True, restart=(True, False))
def etcd_is_restored(world: World, restart: bool) -> bool:  # noqa: FBT001
    """To the state that was saved; agent and controller are restarted now, or when all is well again."""
    if world.snapshot is None:
        return False
    world.hits["etcd restored"] += 1
    world.restore_snapshot()
    world.stale = True
    if restart:
        restart_after_restore(world)
    return True


def restart_after_restore(world: World) -> None:
    """As Kubernetes' manual asks for: what clients remember is newer than what the server has."""
    if world.agent and not world.agent.dead:
        world.agent.end()
    world.start_controller()
    world.stale = False


@operation(2, fault=True, seconds=(-86400, -3600, 3600, 86400 * 3))
def clock_jumps(world: World, seconds: int) -> bool:
    world.clock.jumped += seconds
    world.hits["clock jumped"] += 1
    return True


@operation(4, fault=True, trouble=(errno.ENOSPC, errno.EROFS, errno.EIO), seconds=_AWAY)
def state_directory_fails(world: World, trouble: int, seconds: float) -> bool:
    if world.disk.trouble:
        return False
    world.disk.trouble = trouble
    world.later(seconds, state_directory_works)
    return True


def state_directory_works(world: World) -> None:
    """There is room again, or it is mounted again."""
    world.disk.trouble = None


@operation(1, fault=True, seconds=_AWAY)
def host_use_is_unknown(world: World, seconds: float) -> bool:
    if world.host.unknown_use:
        return False
    world.host.unknown_use = "/proc/1/mountinfo cannot be read"
    world.hits["host use unreadable"] += 1
    world.later(seconds, host_use_is_known)
    return told_of(world, told=True)


def host_use_is_known(world: World) -> None:
    """It can be read again."""
    world.host.unknown_use = None


@operation(2, fault=True)
def second_agent(world: World) -> bool:
    """It must not start while the first one lives."""
    if world.agent is None or world.agent.dead or world.disk.trouble:
        return False
    world.hits["second agent"] += 1
    world.checked["one agent for a node"] += 1
    try:
        second = AgentProcess(world)
    except HostError:
        return True
    world.violate("one agent for a node", "a second agent has got the state directory of the first one")
    second.dead = True
    return True


def heal(world: World, *, but_hung: bool = False) -> None:
    """No fault any more; those that did not strike are forgotten. ``but_hung``: what hangs goes on to hang."""
    host = world.host
    host.heal()
    if not but_hung:
        host.blocked.clear()
        host.blocked_pfs.clear()
    host.unknown_use = None
    world.disk.trouble = None
    world.kill_at = world.power_cut_at = None
    world.refusals.clear()
    if world.api_away:
        world.api_returns()
    unpause(world)
    if world.stale:
        restart_after_restore(world)
