"""A made-up host that an administrator has run by hand for years, and what is imported of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml

from hostdev_operator.core.manifests import manifests
from hostdev_operator.core.network_xml import network_text
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pci_xml import address_attributes
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.observe import observe
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import ports
from tests.core.nics import DEFINITION, MAC, MAC2, PF
from tests.fakes.samples import DB, LONER, NODE, WEB
from tests.reconcile.nic_running import THIRD, vf_host, vfs

MAC3 = "52:54:00:00:00:03"


def source(address: PciAddress) -> str:
    """<source> of a host device."""
    numbers = " ".join(f"{name}='{value}'" for name, value in address_attributes(address).items())
    return f"<source><address type='pci' {numbers}/></source>"


def plain(address: PciAddress, *, managed: str = "yes", alias: str = "") -> str:
    """<hostdev>."""
    named = f"<alias name='{alias}'/>" if alias else ""
    return f"<hostdev mode='subsystem' type='pci' managed='{managed}'>{source(address)}{named}</hostdev>"


def vf_nic(address: PciAddress, mac: str = MAC, vlan: int = 5) -> str:
    """<interface type='hostdev'>."""
    inside = f"<mac address='{mac}'/>{source(address)}<vlan><tag id='{vlan}'/></vlan>"
    return f"<interface type='hostdev' managed='yes'>{inside}</interface>"


def pool_nic(mac: str = MAC2, portgroup: str = "", alias: str = "") -> str:
    """<interface type='network'> of net-a."""
    group = f" portgroup='{portgroup}'" if portgroup else ""
    named = f"<alias name='{alias}'/>" if alias else ""
    return (
        f"<interface type='network'><mac address='{mac}'/><source network='net-a'{group}/>{named}</interface>"
        "<!-- by hand -->"
    )


def old_host() -> FakeHost:
    """Web runs with the loner; db has VF 0 as a NIC; third has a NIC of net-a, which hands out VFs 1 and 2."""
    host = vf_host()
    host.sriov.set_autoprobe(PF, on=True)
    host.sriov.set_count(PF, 3)
    host.networks.append(network_text(replace(DEFINITION, addresses=tuple(vfs(host)[1:3]))))
    host.define(WEB, "web", plain(LONER))
    host.define(DB, "db", vf_nic(vfs(host)[0]))
    host.define(THIRD, "third", pool_nic(portgroup="blue"))
    host.start(WEB)
    host.calls.clear()
    return host


def imported(host: FakeHost, namespace: str = "default") -> str:
    """The manifests of the host as it is."""
    return manifests(observe(ports(host), Context()), NODE, namespace)


def documents(text: str) -> list[dict[str, Any]]:
    """The objects."""
    return [body for body in yaml.safe_load_all(text) if body is not None]
