"""Domains of libvirt: reading all of them, and what is done to one by its UUID. Each function gets a connection."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import libvirt

from ..core import guest_xml
from ..core.domain_xml import GuestXml
from ..core.guest_xml import Definition
from .libvirt_errors import unless_gone

#: Only a running domain's XML has an id.
_RUNNING = re.compile(r"<domain\b[^>]*\sid=")
_ACTIVE_AND_NOT_RUNNING = (
    libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
    | libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED
    | libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF
)


def read(connection: Any) -> tuple[GuestXml, ...]:
    """Every domain; one that vanishes meanwhile is left out.

    A call takes as long as a round trip to libvirtd, so no more are made than one for each XML: what runs is told by
    the list (a domain's id), what is persistent by a second list (whatever does not run, is), and what has a managed
    save image by a third one.
    """
    domains = connection.listAllDomains(0)
    images = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
    saved = {domain.UUIDString() for domain in images}
    transient = set[str]()
    if any(domain.ID() >= 0 for domain in domains):
        without_definition = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT)
        transient = {domain.UUIDString() for domain in without_definition}
    found = [_read_domain(d, transient, saved) for d in domains]
    return tuple(xml for xml in found if xml is not None)


def _read_domain(domain: Any, transient: Collection[str], saved: Collection[str]) -> GuestXml | None:
    uuid = domain.UUIDString()

    def read_it() -> GuestXml | None:
        live = xml_of(domain, libvirt.VIR_DOMAIN_AFFECT_LIVE) if domain.ID() >= 0 else None
        if live is not None and not _RUNNING.match(live):  # it was shut off since the list was made
            live = None
        config = config_of(domain) if uuid not in transient else None
        if live is None and config is None:
            return None
        image = _image(domain) if live is None and uuid in saved else None
        return GuestXml(uuid=uuid, name=domain.name(), live=live, config=config, saved=image)

    return unless_gone(read_it)


def _image(domain: Any) -> str | None:
    """The XML in the managed save image; empty if it cannot be read, None if it is gone by now."""
    try:
        return str(domain.managedSaveGetXMLDesc(0))
    except libvirt.libvirtError:
        return "" if domain.hasManagedSaveImage(0) else None


def any_starting(connection: Any) -> bool:
    """Whether libvirt is starting a guest: it has an id, and is not running yet (qemuProcessStart)."""
    domains = connection.listAllDomains(_ACTIVE_AND_NOT_RUNNING)
    states = (unless_gone(domain.state) for domain in domains)
    return any(state is not None and _is_starting(*state) for state in states)


def _is_starting(state: int, reason: int) -> bool:
    paused, starting = (state, reason), (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
    return paused == starting or bool(state == libvirt.VIR_DOMAIN_SHUTOFF)


def drop_image(connection: Any, uuid: str) -> None:
    """Remove the managed save image; nothing to do if there is none, or the domain is gone or runs by now."""
    domain = unless_gone(connection.lookupByUUIDString, uuid)
    if domain is not None and not domain.isActive() and domain.hasManagedSaveImage(0):
        domain.managedSaveRemove(0)


def define(connection: Any, definition: Definition) -> None:
    """With what its persistent XML has beside, passwords too."""
    domain = unless_gone(connection.lookupByUUIDString, definition.uuid)
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    current = unless_gone(domain.XMLDesc, flags) if domain is not None and domain.isPersistent() else None
    connection.defineXMLFlags(guest_xml.defined(definition, current), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)


def start(connection: Any, uuid: str) -> None:
    """Start it; nothing to do if it runs."""
    domain = connection.lookupByUUIDString(uuid)
    if not domain.isActive():
        domain.create()


def shut_down(connection: Any, uuid: str) -> None:
    """Ask it to shut down."""
    domain = unless_gone(connection.lookupByUUIDString, uuid)
    if domain is not None and domain.isActive():
        domain.shutdown()


def undefine(connection: Any, uuid: str) -> None:
    """Undefine it; EFI variables and TPM state stay."""
    domain = unless_gone(connection.lookupByUUIDString, uuid)
    if domain is not None:
        unless_gone(domain.undefineFlags, libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM)


def config_of(domain: Any) -> str:
    """The persistent XML."""
    return xml_of(domain, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def xml_of(domain: Any, flag: int) -> str:
    """The live or the persistent XML: a running domain's inactive XML is the persistent one."""
    live = flag == libvirt.VIR_DOMAIN_AFFECT_LIVE
    return str(domain.XMLDesc(0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE))
