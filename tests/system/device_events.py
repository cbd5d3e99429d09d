"""Runs in the lab host: prints libvirt's device events of one guest, as `removed ALIAS` or `removal failed ALIAS`.

Usage: device_events.py GUEST. Prints `listening` when no event can be missed any more.
"""

import sys

import libvirt


def tell(word: str) -> object:
    return lambda _connection, _domain, alias, _opaque: print(word, alias, flush=True)


libvirt.virEventRegisterDefaultImpl()
connection = libvirt.open("qemu:///system")
guest = connection.lookupByName(sys.argv[1])
for event, word in (
    (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, "added"),
    (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, "removed"),
    (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, "removal failed"),
):
    connection.domainEventRegisterAny(guest, event, tell(word), None)
print("listening", flush=True)
while True:
    libvirt.virEventRunDefaultImpl()
