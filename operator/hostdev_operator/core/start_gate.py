"""Whether a guest's next start would bring its device, and the file that says so to libvirt's hook.

``guest-start/GUEST_UUID_ASSIGNMENT_UID.wait`` in the state directory has two lines: the host's boot ID and the seconds
since that boot when it was written; and why the guest must not start. The hook is manifests/host/hostdev-guest-ready.
"""

from __future__ import annotations

import re

from ..api.deviceassignment import DeviceAssignmentStatus
from .conditions import ATTACHED, CONFIGURED, GROUP_READY, PLANNED, find

#: The hook believes no file that is older than this: the agent writes each of them anew more often.
BELIEVED_SECONDS = 900
RENEWED_SECONDS = 240
_LONGEST = 600
_NAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_([0-9A-Za-z-]{1,64})\.wait")


def hindrance(status: DeviceAssignmentStatus) -> str | None:
    """Why the guest would start without its device, as far as anybody knows; None if it would have it.

    What was last seen decides, as long as nothing newer could be seen. For a guest that runs it is not asked whether it
    has the device now.
    """
    for kind in (PLANNED, GROUP_READY, CONFIGURED):
        found = find(status.conditions, kind)
        if found is None:
            return "it has not been looked at yet"
        if found.status != "True":
            return f"{found.reason}: {found.message}"
    attached = find(status.conditions, ATTACHED)
    off = status.guest is not None and not status.guest.active
    if off and attached is not None and attached.status != "True" and attached.reason != "GuestShutOff":
        return f"{attached.reason}: {attached.message}"
    return None


def file_name(domain_uuid: str, uid: str) -> str:
    """Of one assignment; ValueError for what is no UUID or UID: a name must not lead elsewhere."""
    name = f"{domain_uuid}_{uid}.wait"
    if not _NAME.fullmatch(name):
        raise ValueError(f"{domain_uuid!r} is no UUID, or {uid!r} no UID")
    return name


def uid_of(name: str) -> str | None:
    """The assignment's UID in the name of one of our files; None of any other."""
    found = _NAME.fullmatch(name)
    return found[2] if found else None


def text(boot_id: str, uptime: int, owner: str, why: str) -> str:
    """The file's text."""
    words = "".join(c if c.isprintable() else " " for c in f"{owner}: {why}")
    return f"{boot_id} {uptime}\n{words[:_LONGEST]}\n"
