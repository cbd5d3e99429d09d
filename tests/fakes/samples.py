"""Ready-made pieces: one host with a shared IOMMU group, one guest, one assignment."""

from __future__ import annotations

from typing import Any

from hostdev_operator.api import API_VERSION
from hostdev_operator.api.deviceassignment import DeviceAssignmentSpec, DeviceAssignmentStatus
from hostdev_operator.core.intent import Intent, Wish
from hostdev_operator.core.model import PciDevice, Role
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.simulation.host import FakeHost

UID = "0a0a0a0a-0000-4000-8000-000000000001"
OTHER_UID = "0a0a0a0a-0000-4000-8000-000000000002"
WEB = "11111111-1111-4111-8111-111111111111"
DB = "22222222-2222-4222-8222-222222222222"
NODE = "n1"

PORT = PciAddress.parse("0000:00:01.0")
NIC = PciAddress.parse("0000:01:00.0")
MATE = PciAddress.parse("0000:01:00.1")
LONER = PciAddress.parse("0000:02:00.0")
DISK = PciAddress.parse("0000:03:00.0")
GROUP = 12


def device(
    address: PciAddress | str, driver: str | None = "e1000e", group: int | None = GROUP, **more: Any
) -> PciDevice:
    """An Ethernet endpoint, unless told otherwise."""
    where = PciAddress.parse(address) if isinstance(address, str) else address
    path = f"0000:00/{where.bus:02x}.0/{where.slot:02x}.{where.function}"
    kind: dict[str, Any] = {"vendor": 0x8086, "product": 0x10D3, "class_code": 0x020000, "express": True}
    values = {**kind, "slot_path": path, **more}
    return PciDevice(where, driver=driver, iommu_group=group, **values)


def port(address: PciAddress | str = PORT, group: int | None = GROUP, driver: str | None = "pcieport") -> PciDevice:
    """A root port."""
    return device(address, driver, group, class_code=0x060400, role=Role.ROOT_PORT)


def small_host() -> FakeHost:
    """Root port, NIC and its mate share group 12; a loner and the system disk have their own. Two guests, both off."""
    host = FakeHost(
        port(),
        device(NIC),
        device(MATE, "snd_hda_intel", class_code=0x040300),
        device(LONER, "igb", 13),
        device(DISK, "nvme", 14, class_code=0x010802),
    )
    host.use(DISK, "carries the file system that is mounted on /")
    host.define(WEB, "web")
    host.define(DB, "db")
    return host


CREATED = "2026-01-01T00:00:00Z"


def intent(address: PciAddress = NIC, *, uid: str = UID, guest: str | None = WEB, **more: Any) -> Intent:
    """What the sample assignment asks for."""
    name = {WEB: "web", DB: "db", None: None}.get(guest, "other")
    return Intent(uid, "default", "nic", address, guest, name, **more)


def wish(address: PciAddress | None = NIC, **more: Any) -> Wish:
    """The same, before its device is looked up; ``more`` as for ``assignment``."""
    return assignment(address, **more).wish()


def spec(address: PciAddress | None = NIC, *, guest: str | None = "web", **more: Any) -> dict[str, Any]:
    """A DeviceAssignment's spec on the wire; ``more`` as on the wire, too."""
    wire: dict[str, Any] = {"managed": True, "source": {"pci": {"address": str(address)}}, **more}
    return {"domain": {"name": guest}, **wire} if guest else {"nodeName": NODE, **wire}


def assignment(
    address: PciAddress | None = NIC,
    *,
    uid: str = UID,
    guest: str | None = WEB,
    deleting: bool = False,
    status: DeviceAssignmentStatus | None = None,
    created: str = CREATED,
    generation: int = 1,
    **more: Any,
) -> Assignment:
    """The sample assignment as the engine takes it, bound to the node and the guest's UUID; ``more`` is of spec."""
    name = {WEB: "web", DB: "db", None: None}.get(guest, "other")
    return Assignment(
        uid=uid,
        namespace="default",
        name="nic",
        created=created,
        generation=generation,
        deleting=deleting,
        spec=DeviceAssignmentSpec.model_validate(spec(address, guest=name, **more)),
        status=(status or DeviceAssignmentStatus()).model_copy(update={"node_name": NODE, "domain_uuid": guest}),
    )


def body(name: str = "nic", **more: Any) -> dict[str, Any]:
    """A DeviceAssignment as a user creates it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "DeviceAssignment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec(**more),
    }
