"""Each action in words: what it finds, what it leaves, and what it interrupts.

To add one: a function from the action and the host before it to a Step, in _DESCRIBE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .actions import (
    Action,
    AddController,
    AddHostdev,
    AddInterface,
    DetachDriver,
    DropRecord,
    DropSavedImage,
    HostdevXml,
    InterfaceXml,
    NicXml,
    PlugHostdev,
    PlugInterface,
    RemoveController,
    RemoveHostdev,
    RemoveInterface,
    ReturnDriver,
    UnplugHostdev,
    UnplugInterface,
    WriteRecord,
)
from .described import Step, key_of
from .model import VFIO_DRIVER, Observation
from .nic import words
from .pci import PciAddress
from .pool_actions import (
    AutostartNetwork,
    ConfigureVf,
    DefineNetwork,
    DropPoolRecord,
    PoolAction,
    ReturnVf,
    SetAutoprobe,
    SetLink,
    SetVfCount,
    StartNetwork,
    StopNetwork,
    UndefineNetwork,
    WritePoolRecord,
)
from .sriov import VfConfig


@dataclass(frozen=True)
class Purpose:
    """What a plan is for: ``thing`` is what the guest gets, ``why`` which field asks for it, by the action's class.

    ``address`` is the device that is asked for; others that are detached are its mates. ``network`` says what the
    pool's libvirt network hands out.
    """

    thing: str = ""
    address: PciAddress | None = None
    why: Mapping[type, str] = field(default_factory=lambda: MappingProxyType({}))
    network: str = ""


def describe(action: Action | PoolAction, host: Observation, purpose: Purpose) -> Step:
    """One action in words; ``host`` is what is there before it."""
    step = _DESCRIBE[type(action)](action, host, purpose)
    kind = type(action).__name__
    step = replace(step, action=kind, reason=step.reason or purpose.why.get(type(action), ""))
    if step.keys or _is_a_note(action, host):
        return step
    return replace(step, keys=(key_of(kind, step.summary, step.after, step.hidden),))


def _is_a_note(action: Action | PoolAction, host: Observation) -> bool:
    """Whether it changes nothing but the record of what is claimed already."""
    if isinstance(action, WriteRecord):
        return action.record.uid in host.records
    return isinstance(action, WritePoolRecord) and action.record.uid in host.pool_records


# -- assignments ------------------------------------------------------------------------------------------------------


def _guest(uuid: str, host: Observation) -> tuple[str, bool]:
    """Its name, and whether it runs."""
    guest = host.guest(uuid)
    return (guest.name, guest.active) if guest else (uuid, False)


def _driver(name: str | None) -> str:
    return f"driver {name}" if name else "no driver"


def _write_record(action: WriteRecord, host: Observation, _: Purpose) -> Step:
    record = action.record
    old = host.records.get(record.uid)
    given_back = "; ".join(f"{m.address} gets {_driver(m.driver)} back" for m in record.members)
    return Step(
        "",
        f"claim {record.address} and its IOMMU group for {record.owner}",
        record.address,
        "claimed, but recorded otherwise" if old else "not claimed",
        f"claimed; at the release {given_back}",
        "what is there before is recorded before anything is changed",
        hidden="; ".join(f"{m.address} {m.identity}" for m in record.members),
    )


def _detach_driver(action: DetachDriver, _host: Observation, purpose: Purpose) -> Step:
    mate = action.address != purpose.address
    why = f"it shares the IOMMU group of {purpose.address}, which is never split" if mate else ""
    return Step(
        "",
        f"detach {action.address} from the host",
        action.address,
        _driver(action.driver or None),
        f"driver {VFIO_DRIVER}",
        why,
        "HostDevice" if action.driver else "None",
        hidden=str(action.identity),
    )


def _nic(nic: NicXml | None) -> str:
    return f", {words(nic.mac, nic.vlan, nic.profile)}" if nic else ""


def _hostdev(xml: HostdevXml) -> str:
    kind = "<interface type='hostdev'>" if xml.nic else "<hostdev>"
    unseen = ", not shown to the guest" if xml.unassigned else ""
    place = f", at {xml.guest_address} in the guest" if xml.guest_address else ""
    return f"a {kind}, managed='{'yes' if xml.managed else 'no'}'{_nic(xml.nic)}{unseen}{place}"


def _plug_hostdev(action: PlugHostdev, host: Observation, _: Purpose) -> Step:
    name, xml = _guest(action.domain_uuid, host)[0], action.hostdev
    device = host.devices.get(xml.address)
    taken = device is not None and device.on_host_driver and xml.managed
    return Step(
        "",
        f"plug {xml.address} into running guest {name}",
        xml.address,
        f"{_driver(device.driver)} of the host" if device and taken else "not in the running guest",
        f"in the running guest: {_hostdev(xml)}",
        disruption="HostDevice" if taken else "HotPlug",
        hidden=str(action.identity),
    )


def _add_hostdev(action: AddHostdev, host: Observation, _: Purpose) -> Step:
    name, active = _guest(action.domain_uuid, host)
    guest, address = host.guest(action.domain_uuid), action.hostdev.address
    lives = guest is not None and any(h.address == address for h in guest.live)
    return Step(
        "",
        f"add {address} to the persistent XML of guest {name}",
        address,
        "not in the persistent XML",
        f"in the persistent XML: {_hostdev(action.hostdev)}",
        disruption="GuestRestart" if active and not lives else "None",
        hidden=str(action.identity),
    )


def _add_controller(action: AddController, host: Observation, _: Purpose) -> Step:
    name, active = _guest(action.domain_uuid, host)
    summary = f"add PCI controller {action.controller} to the persistent XML of guest {name}"
    after = "in the persistent XML" + (", for the next boot" if active else "")
    return Step("", summary, None, "not in the persistent XML", after)


def _remove_controller(action: RemoveController, host: Observation, _: Purpose) -> Step:
    name = _guest(action.domain_uuid, host)[0]
    return _remove(f"remove PCI controller {action.controller} from the persistent XML of guest {name}", None)


def _drop_image(action: DropSavedImage, host: Observation, _: Purpose) -> Step:
    name = _guest(action.domain_uuid, host)[0]
    return Step(
        "",
        f"drop the managed save image of guest {name}",
        None,
        "saved; its next start resumes the image",
        "shut off; its next start is a boot, with the devices of its persistent XML",
        disruption="GuestMemory",
    )


def _unplug(summary: str, address: PciAddress | None) -> Step:
    return Step("", summary, address, "in the running guest", "not in the running guest", disruption="LinkDown")


def _unplug_hostdev(action: UnplugHostdev, host: Observation, _: Purpose) -> Step:
    return _unplug(f"unplug {action.address} from running guest {_guest(action.domain_uuid, host)[0]}", action.address)


def _remove(summary: str, address: PciAddress | None) -> Step:
    return Step("", summary, address, "in the persistent XML", "not in the persistent XML")


def _remove_hostdev(action: RemoveHostdev, host: Observation, _: Purpose) -> Step:
    name = _guest(action.domain_uuid, host)[0]
    return _remove(f"remove {action.address} from the persistent XML of guest {name}", action.address)


def _interface(xml: InterfaceXml) -> str:
    group = f", portgroup {xml.portgroup}" if xml.portgroup else ""
    return f"an <interface type='network'> of network {xml.network}{group}{_nic(xml.nic)}"


def _plug_interface(action: PlugInterface, host: Observation, purpose: Purpose) -> Step:
    name = _guest(action.domain_uuid, host)[0]
    after = f"in the running guest: {_interface(action.interface)}; libvirt takes any free VF"
    return Step(
        "",
        f"plug {purpose.thing} into running guest {name}",
        None,
        "not in the running guest",
        after,
        disruption="HotPlug",
    )


def _add_interface(action: AddInterface, host: Observation, purpose: Purpose) -> Step:
    name, active = _guest(action.domain_uuid, host)
    guest = host.guest(action.domain_uuid)
    lives = guest is not None and any(n.alias == action.interface.alias for n in guest.live_nics)
    return Step(
        "",
        f"add {purpose.thing} to the persistent XML of guest {name}",
        None,
        "not in the persistent XML",
        f"in the persistent XML: {_interface(action.interface)}",
        disruption="GuestRestart" if active and not lives else "None",
    )


def _unplug_interface(action: UnplugInterface, host: Observation, purpose: Purpose) -> Step:
    name = _guest(action.domain_uuid, host)[0]
    return _unplug(f"unplug {purpose.thing} from running guest {name}", action.address)


def _remove_interface(action: RemoveInterface, host: Observation, purpose: Purpose) -> Step:
    name = _guest(action.domain_uuid, host)[0]
    return _remove(f"remove {purpose.thing} from the persistent XML of guest {name}", None)


def _return_driver(action: ReturnDriver, _host: Observation, _: Purpose) -> Step:
    return Step(
        "",
        f"give {action.address} back to the host",
        action.address,
        f"driver {VFIO_DRIVER}",
        _driver(action.driver),
        hidden=str(action.identity),
    )


# -- pools ------------------------------------------------------------------------------------------------------------


def _write_pool_record(action: WritePoolRecord, host: Observation, _: Purpose) -> Step:
    record = action.record
    old = host.pool_records.get(record.uid)
    up = "up" if record.up_before else "down"
    return Step(
        "",
        f"record PF {record.pf} for pool {record.name}",
        record.pf,
        "recorded otherwise" if old else "not recorded",
        f"recorded; at the release it has {record.num_vfs_before} VFs, and its link is {up}",
        "what is there before is recorded before anything is changed",
        hidden=str(record.identity),
    )


def _set_autoprobe(action: SetAutoprobe, host: Observation, _: Purpose) -> Step:
    pf = host.pfs.get(action.pf)
    what = f"new VFs of {action.pf}"
    summary = f"let the host bind drivers to {what}" if action.on else f"leave {what} without a driver"
    before = f"sriov_drivers_autoprobe {int(bool(pf and pf.autoprobe))}"
    return Step("", summary, action.pf, before, f"sriov_drivers_autoprobe {int(action.on)}")


def _set_vf_count(action: SetVfCount, host: Observation, _: Purpose) -> Step:
    pf = host.devices.get(action.pf)
    return Step(
        "",
        f"make {action.count} VFs of {action.pf}",
        action.pf,
        f"{pf.num_vfs if pf else 0} VFs, none of them in use",
        f"{action.count} VFs",
        disruption="LinkDown",
        hidden=str(action.identity),
    )


def _set_link(action: SetLink, _host: Observation, _: Purpose) -> Step:
    now, then = ("down", "up") if action.up else ("up", "down")
    return Step(
        "",
        f"bring the netdev of {action.pf} {then}",
        action.pf,
        now,
        then,
        disruption="None" if action.up else "LinkDown",
    )


def _configure_vf(action: ConfigureVf, host: Observation, _: Purpose) -> Step:
    """Each setting has a key of its own: of VFs that are not there yet nobody knows what they will have anyway."""
    pf = host.pfs.get(action.pf)
    now = pf.vfs.get(action.index, VfConfig()) if pf else VfConfig()
    asked = {name: value for name, value in asdict(action.config).items() if value is not None}
    return Step(
        "",
        "configure",
        action.pf,
        _settings(asdict(now.only(action.config))) or "not known",
        _settings(asked),
        disruption="LinkDown" if action.config.link_state == "disable" else "None",
        indices=(action.index,),
        keys=tuple(key_of("ConfigureVf", str(action.pf), f"{action.index} {n} {v}") for n, v in asked.items()),
    )


def _return_vf(action: ReturnVf, _host: Observation, _: Purpose) -> Step:
    return Step(
        "",
        f"give {action.address} back to the host",
        action.address,
        _driver(None),
        "the driver that the host has for it, if any",
        hidden=str(action.identity),
    )


def _settings(values: Mapping[str, Any]) -> str:
    said = ((name.replace("_", " "), value) for name, value in values.items() if value is not None)
    return ", ".join(f"{name} {str(value).lower()}" for name, value in said)


def _network(name: str, host: Observation) -> str:
    network = host.networks.get(name)
    if network is None:
        return "not defined"
    return "defined and started" if network.active else "defined, not started"


def _define_network(action: DefineNetwork, host: Observation, purpose: Purpose) -> Step:
    summary = f"define libvirt network {action.name}"
    return Step("", summary, None, _network(action.name, host), f"defined: {purpose.network}")


def _of_network(verb: str, after: str) -> Callable[[Any, Observation, Purpose], Step]:
    def describe_it(action: Any, host: Observation, _: Purpose) -> Step:
        return Step("", f"{verb} libvirt network {action.name}", None, _network(action.name, host), after)

    return describe_it


def _drop(_action: Any, _host: Observation, _: Purpose) -> Step:
    return Step("", "forget the record", None, "recorded", "everything is given back")


_DESCRIBE: dict[type, Callable[[Any, Observation, Purpose], Step]] = {
    WriteRecord: _write_record,
    DetachDriver: _detach_driver,
    PlugHostdev: _plug_hostdev,
    AddController: _add_controller,
    RemoveController: _remove_controller,
    DropSavedImage: _drop_image,
    AddHostdev: _add_hostdev,
    UnplugHostdev: _unplug_hostdev,
    RemoveHostdev: _remove_hostdev,
    PlugInterface: _plug_interface,
    AddInterface: _add_interface,
    UnplugInterface: _unplug_interface,
    RemoveInterface: _remove_interface,
    ReturnDriver: _return_driver,
    DropRecord: _drop,
    ConfigureVf: _configure_vf,
    WritePoolRecord: _write_pool_record,
    SetAutoprobe: _set_autoprobe,
    SetVfCount: _set_vf_count,
    SetLink: _set_link,
    ReturnVf: _return_vf,
    DefineNetwork: _define_network,
    StartNetwork: _of_network("start", "started"),
    AutostartNetwork: _of_network("autostart", "started at boot"),
    StopNetwork: _of_network("stop", "not started; nobody is on it"),
    UndefineNetwork: _of_network("undefine", "not defined"),
    DropPoolRecord: _drop,
}
