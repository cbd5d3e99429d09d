"""The checks that stand before a VF is given to a guest as its NIC (spec.network), beside those of any device."""

from __future__ import annotations

from . import checks, reasons, slot_checks
from .checks import Case, Check, Refusal
from .model import Observation, PciDevice
from .nic import holder_of_mac, of_vf, pf_of, wanted_nic


def is_virtual_function(case: Case) -> Refusal | None:
    """A VF's MAC address, VLAN and profile are set from outside, by its PF; another device's are not."""
    if case.intent.nic is None or case.device.physfn is not None:
        return None
    return Refusal(
        reasons.NOT_VIRTUAL_FUNCTION,
        f"{case.device.label} is no SR-IOV VF, so the host cannot set its MAC address, VLAN or port profile: make the"
        " assignment without spec.network, and the guest sets them itself; or let it name a VF",
    )


def pf_is_up(case: Case) -> Refusal | None:
    """Asked of NICs alone: a plain device gets no settings."""
    return pf_down(case.device, case.host) if case.intent.nic else None


def pf_down(vf: PciDevice, host: Observation) -> Refusal | None:
    """Libvirt sets MAC address and VLAN at each start of the guest, and refuses while the PF is down (libvirt 11.3)."""
    pf = pf_of(vf, host)
    if pf is not None and pf.netdev is not None and pf.up:
        return None
    if pf is None or pf.netdev is None:
        what = f"PF {vf.physfn} has no netdev"
        then = "bind it to its host driver (lspci -k shows which one)"
    else:
        what = f"PF {pf.netdev} ({pf.address}) is down"
        then = f"bring it up (ip link set {pf.netdev} up)"
    return Refusal(
        reasons.PF_DOWN,
        f"{what}, so libvirt cannot set MAC address and VLAN of its VF {vf.vf_index} ({vf.address}); {then}",
    )


def mac_is_free(case: Case) -> Refusal | None:
    """No other NIC of any guest of this node has the MAC address; the controller looks at the other nodes."""
    guest = case.guest
    if case.intent.nic is None or guest is None:
        return None
    config, live = of_vf(guest.nics, case.intent), of_vf(guest.live_nics, case.intent)
    wanted = wanted_nic(case.intent, config, live)
    holder = holder_of_mac(wanted.mac, guest, (config, live), case.host) if wanted else None
    return mac_in_use(wanted.mac, holder, case.intent.owner) if wanted and holder else None


def mac_in_use(mac: str, holder: str, owner: str) -> Refusal:
    """Two NICs of one MAC address."""
    return Refusal(
        reasons.MAC_IN_USE,
        f"MAC address {mac} of assignment {owner} is that of a NIC of {holder}: give spec.network another mac, or take"
        " that NIC away",
    )


SUBJECTS: tuple[Check, ...] = (*checks.SUBJECTS, is_virtual_function)
CHECKS: tuple[Check, ...] = (*checks.CHECKS, *slot_checks.CHECKS, pf_is_up, mac_is_free)
STANDING: tuple[Check, ...] = (*checks.STANDING, *slot_checks.STANDING, pf_is_up)
