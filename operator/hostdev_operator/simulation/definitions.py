"""Definitions of made-up guests: what libvirt does to them, their PCI controllers and save images."""

from __future__ import annotations

from ..core import domain_xml, guest_xml, reasons
from ..core.actions import AddController, DropSavedImage, RemoveController
from ..core.errors import HostError
from ..core.guest import DefineGuest, ShutDownGuest, StartGuest, UndefineGuest
from .host import FakeGuest, FakeHost, insert, without_controller


class FakeDefinitions:
    """The part of the fake libvirt that is about them; every call fails while the host's ``down`` is set."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def _reach(self, call: str) -> None:
        self._host.hook(call)
        if self._host.down:
            raise HostError(reasons.LIBVIRT_UNAVAILABLE, "Failed to connect socket to libvirt-sock")
        self._host.trip(call, after=False)

    def add_controller(self, action: AddController) -> None:
        self._reach("add")
        guest = self._host.guests.get(action.domain_uuid)
        if guest is None or guest.config is None:
            raise HostError(reasons.GUEST_NOT_FOUND, f"no domain {action.domain_uuid}")
        index = action.controller.index
        if domain_xml.find_controller(guest.config, index, action.alias) is not None:
            return
        if domain_xml.find_controller(guest.config, index) is not None:
            raise HostError(reasons.HOST_CHANGED, f"controller index='{index}' already exists")
        with self._host.change(f"add_controller {action.controller}"):
            guest.config = insert(guest.config, domain_xml.parse(domain_xml.controller_xml(action)))

    def remove_controller(self, action: RemoveController) -> None:
        self._reach("remove")
        guest = self._host.guests.get(action.domain_uuid)
        index = action.controller.index
        if guest is None or guest.config is None:
            return
        if domain_xml.find_controller(guest.config, index, action.alias) is not None:
            with self._host.change(f"remove_controller {action.controller}"):
                guest.config = without_controller(guest.config, index)

    def drop_saved_image(self, action: DropSavedImage) -> None:
        self._reach("drop_saved_image")
        guest = self._host.guests.get(action.domain_uuid)
        if guest is not None and guest.saved is not None:
            with self._host.change(f"drop_saved_image {guest.name}"):
                guest.saved = None

    def define_guest(self, step: DefineGuest) -> None:
        self._reach("define_guest")
        wanted = step.definition
        guest = self._host.guests.get(wanted.uuid)
        if any(g.name == wanted.name and g.uuid != wanted.uuid for g in self._host.guests.values()):
            raise HostError(reasons.LIBVIRT_ERROR, f"domain '{wanted.name}' already exists with another uuid")
        with self._host.change(f"define_guest {wanted.name}"):
            xml = guest_xml.defined(wanted, guest.config if guest else None)
            if guest is None:
                self._host.guests[wanted.uuid] = FakeGuest(wanted.uuid, wanted.name, xml)
            else:
                guest.config = xml

    def start_guest(self, step: StartGuest) -> None:
        self._reach("start_guest")
        guest = self._host.guests.get(step.uuid)
        if guest is None:
            raise HostError(reasons.GUEST_NOT_FOUND, f"no domain {step.uuid}")
        if guest.live is None:
            with self._host.change(f"start_guest {step.name}"):
                self._host.start(step.uuid)

    def shut_down_guest(self, step: ShutDownGuest) -> None:
        self._reach("shut_down_guest")
        guest = self._host.guests.get(step.uuid)
        if guest is not None and guest.live is not None:
            with self._host.change(f"shut_down_guest {step.name}"):
                if guest.manner == "answers":
                    self._host.stop(step.uuid)

    def undefine_guest(self, step: UndefineGuest) -> None:
        self._reach("undefine_guest")
        guest = self._host.guests.get(step.uuid)
        if guest is not None:
            with self._host.change(f"undefine_guest {step.name}"):
                guest.config = None
                if guest.live is None:
                    del self._host.guests[step.uuid]
