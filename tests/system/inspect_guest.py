"""What libvirt says of a guest, for judging."""

from __future__ import annotations

import re

from tests.system.stack import Stack


def config_xml(system: Stack, guest: str) -> str:
    """The persistent XML."""
    return system.lab.virsh("dumpxml", guest, "--inactive")


def live_xml(system: Stack, guest: str) -> str:
    """The XML of the running guest."""
    return system.lab.virsh("dumpxml", guest)


def source(address: str) -> str:
    """The <address> of a hostdev's source, as libvirt writes it."""
    domain, bus, slot, function = re.split("[:.]", address)
    return f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
