"""Makes a domain's XML from a Guest, and changes of a domain that is there what has changed of the Guest.

What a Guest asks for is kept in the domain's <metadata>. So a later definition knows, part by part, what it has set
before: what is asked for as before is left as it stands there, with what libvirt has filled in and others have changed;
what nobody has asked for is never touched. (kubectl apply does the same with its last applied configuration.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

from lxml import etree

from ..api.guest import Disk, GuestNetwork, GuestSpec
from . import domain_xml
from .pci_xml import Element

#: Of devices that a Guest asks for.
ALIAS = "ua-guest-"
_UNITS = {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}
_IDENTITY = frozenset({"name", "uuid", "metadata"})
_SAID_BY_SPEC = frozenset({"memory", "currentMemory", "vcpu"})
#: Kinds of devices of which an overlay's take the place of ours.
_REPLACED = frozenset({"serial", "console", "rng", "memballoon"})
#: What a domain has one of, and libvirt may give no alias.
_SINGLE = frozenset({"emulator", "memballoon"})
#: What stays of a device that is asked for otherwise, unless its new form says it.
_KEPT = ("address", "mac")
_BUS_NAMES = {"virtio": "vd", "scsi": "sd", "sata": "sd"}
_PARSER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    remove_comments=True,
    remove_pis=True,
    remove_blank_text=True,
)


@dataclass(frozen=True)
class Definition:
    """What a domain is made from."""

    uuid: str
    name: str
    spec: GuestSpec


def asked(definition: Definition) -> str:
    """What is asked for, as text. ValueError says what is wrong with domainXML."""
    return _text(_asked(definition))


def networks(definition: Definition) -> frozenset[str]:
    """The libvirt networks of all NICs, those of domainXML too. ValueError as asked()."""
    sources = _asked(definition).iterfind("devices/interface[@type='network']/source")
    return frozenset(name for source in sources if (name := source.get("network")))


def defined(definition: Definition, current: str | None) -> str:
    """The XML to be defined; ``current`` is the persistent one that is there. ValueError as asked()."""
    new = _asked(definition)
    text = _text(new)
    if current is None:
        tree = new
    else:
        tree = domain_xml.parse(current)
        known = domain_xml.asked_before(tree)
        last = _parse(known) if known else etree.Element("domain")
        tree.set("type", str(new.get("type")))
        _change_parts(tree, last, new)
        _change_devices(tree, last, new)
        _settle_boot(tree, new)
    _remember(tree, text)
    return _text(tree)


# -- what is asked for --------------------------------------------------------------------------------------------


def _asked(definition: Definition) -> Element:
    spec, overlay = definition.spec, _overlay(definition.spec.domain_xml)
    domain = etree.Element("domain", type=overlay.get("type") or "kvm")
    _add(domain, "name", definition.name)
    _add(domain, "uuid", definition.uuid)
    memory = str(int(spec.memory[:-2]) * _UNITS[spec.memory[-2:]])
    _add(domain, "memory", memory, unit="MiB")
    _add(domain, "currentMemory", memory, unit="MiB")
    _add(domain, "vcpu", str(spec.vcpus))
    os = etree.SubElement(domain, "os", {"firmware": "efi"} if spec.firmware == "EFI" else {})
    _add(os, "type", "hvm", arch="x86_64", machine=spec.machine)
    features = etree.SubElement(domain, "features")
    etree.SubElement(features, "acpi")
    etree.SubElement(features, "apic")
    if domain.get("type") == "kvm":
        etree.SubElement(domain, "cpu", mode="host-passthrough")
    etree.SubElement(domain, "clock", offset="utc")
    for event, what in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _add(domain, f"on_{event}", what)
    devices = etree.SubElement(domain, "devices")
    devices.extend(_devices(spec, first=overlay.find("os/boot") is None))
    _overlaid(domain, devices, overlay)
    return domain


def _devices(spec: GuestSpec, *, first: bool) -> Iterator[Element]:
    """``first``: the first disk is booted from, if nothing has an order."""
    ordered = any(d.boot_order for d in spec.disks) or any(n.boot_order for n in spec.networks)
    counts: dict[str, int] = {}
    if any(disk.bus == "scsi" for disk in spec.disks):
        yield _named(etree.Element("controller", type="scsi", index="0", model="virtio-scsi"), "scsi-0")
    for number, disk in enumerate(spec.disks):
        kind = _BUS_NAMES[disk.bus]
        target = kind + _letters(counts.setdefault(kind, 0))
        counts[kind] += 1
        default = 1 if first and number == 0 and not ordered else None
        yield _named(_disk(disk, target, disk.boot_order or default), f"disk-{target}")
    for number, nic in enumerate(spec.networks):
        yield _named(_nic(nic), f"nic-{number}")
    serial = etree.Element("serial", type="pty")
    yield _named(serial, "serial-0")
    rng = etree.Element("rng", model="virtio")
    _add(rng, "backend", "/dev/urandom", model="random")
    yield _named(rng, "rng-0")


def _disk(disk: Disk, target: str, order: int | None) -> Element:
    kind = "file" if disk.file else "block" if disk.block else "volume"
    element = etree.Element("disk", type=kind, device="disk")
    etree.SubElement(element, "driver", name="qemu", type=disk.format)
    if disk.volume:
        etree.SubElement(element, "source", pool=disk.volume.pool, volume=disk.volume.name)
    elif disk.block:
        etree.SubElement(element, "source", dev=disk.block)
    else:
        etree.SubElement(element, "source", file=disk.file or "")
    etree.SubElement(element, "target", dev=target, bus=disk.bus)
    if disk.read_only:
        etree.SubElement(element, "readonly")
    _order(element, order)
    return element


def _nic(nic: GuestNetwork) -> Element:
    element = etree.Element("interface", type="network" if nic.network else "bridge")
    if nic.mac:
        etree.SubElement(element, "mac", address=nic.mac)
    if nic.network:
        portgroup = {"portgroup": nic.portgroup} if nic.portgroup else {}
        etree.SubElement(element, "source", {"network": nic.network, **portgroup})
    else:
        etree.SubElement(element, "source", bridge=nic.bridge or "")
    etree.SubElement(element, "model", type=nic.model)
    _order(element, nic.boot_order)
    return element


def _order(element: Element, order: int | None) -> None:
    if order is not None:
        etree.SubElement(element, "boot", order=str(order))


def _letters(number: int) -> str:
    """0 is a, 25 is z, 26 is aa."""
    tens, ones = divmod(number, 26)
    return (_letters(tens - 1) if tens else "") + chr(ord("a") + ones)


def _named(element: Element, name: str) -> Element:
    etree.SubElement(element, "alias", name=ALIAS + name)
    return element


# -- what domainXML adds ------------------------------------------------------------------------------------------


def _overlay(text: str | None) -> Element:
    if not text or not text.strip():
        return etree.Element("domain")
    try:
        overlay = _parse(text)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"it is no XML: {error}") from error
    if overlay.tag != "domain":
        raise ValueError(f"it begins with <{overlay.tag}>, and not with <domain>")
    for child in overlay:
        if child.tag in _IDENTITY:
            raise ValueError(f"<{child.tag}> is not taken: it tells who the guest is")
        if child.tag in _SAID_BY_SPEC:
            raise ValueError(f"<{child.tag}> is not taken: spec has a field for it")
    if domain_xml.hostdevs(overlay) or overlay.find("devices/hostdev") is not None:
        raise ValueError("it gives the guest a device of the host: make a DeviceAssignment for it instead")
    return overlay


def _overlaid(domain: Element, devices: Element, overlay: Element) -> None:
    for tag in {child.tag for child in overlay if child.tag != "devices"}:
        for ours in domain.findall(tag):
            domain.remove(ours)
    for child in overlay:
        if child.tag != "devices":
            devices.addprevious(deepcopy(child))
    more = [deepcopy(device) for part in overlay.findall("devices") for device in part]
    for ours in [d for d in devices if d.tag in _REPLACED & {m.tag for m in more}]:
        devices.remove(ours)
    for number, device in enumerate(more):
        if device.find("alias") is None and device.tag not in _SINGLE:
            _named(device, f"xml-{number}")
        devices.append(device)


# -- what has changed ---------------------------------------------------------------------------------------------


def _change_parts(tree: Element, last: Element, new: Element) -> None:
    """All but the devices, by their tag."""
    tags = {str(child.tag) for child in (*last, *new)} - _IDENTITY - {"devices"}
    for tag in sorted(tags):
        wanted = new.findall(tag)
        if _texts(last.findall(tag)) == _texts(wanted):
            continue
        version = tree.find("os/type")
        for there in tree.findall(tag):
            tree.remove(there)
        tree.extend(deepcopy(wanted))
        if tag == "os" and version is not None:
            _keep_version(tree, str(version.get("machine")))


def _keep_version(tree: Element, before: str) -> None:
    """Libvirt has made pc-q35-10.0 of q35: another version would be another machine for the guest."""
    machine = tree.find("os/type")
    families = {"q35": "pc-q35-", "pc": "pc-i440fx-"}
    if machine is not None and before.startswith(families.get(str(machine.get("machine")), "-")):
        machine.set("machine", before)


def _change_devices(tree: Element, last: Element, new: Element) -> None:
    there, before, wanted = _by_name(tree), _by_name(last), _by_name(new)
    devices = tree.find("devices")
    if devices is None:
        devices = etree.SubElement(tree, "devices")
    for name in (*(n for n in before if n not in wanted), *wanted):
        old, asked_for, found = before.get(name), wanted.get(name), there.get(name)
        if old is not None and asked_for is not None and _text(old) == _text(asked_for):
            continue
        for shadow in _shadows(devices, *name):
            devices.remove(shadow)
        if found is not None and asked_for is None:
            devices.remove(found)
        elif found is not None and asked_for is not None:
            devices.replace(found, _in_its_place(asked_for, found))
        elif asked_for is not None:
            devices.append(deepcopy(asked_for))


def _settle_boot(tree: Element, new: Element) -> None:
    """Libvirt writes <boot dev='hd'/> where no device has an order, and takes no definition that has both."""
    os = tree.find("os")
    if os is not None and new.find("os/boot") is None and new.find("devices/*/boot") is not None:
        for boot in os.findall("boot"):
            os.remove(boot)


def _in_its_place(asked_for: Element, found: Element) -> Element:
    """As asked for, where the guest has it, and with the MAC address that it has."""
    element = deepcopy(asked_for)
    element.extend(deepcopy(c) for c in found if c.tag in _KEPT and element.find(str(c.tag)) is None)
    return element


def _shadows(devices: Element, tag: str, alias: str) -> list[Element]:
    """Libvirt shows the first serial port as a console as well, with the same alias, and makes that anew."""
    return [c for c in devices.findall("console") if tag == "serial" and _alias(c) == alias]


def _by_name(domain: Element) -> dict[tuple[str, str], Element]:
    """By their kind and alias."""
    found = {}
    for device in domain.iterfind("devices/*"):
        name = "" if device.tag in _SINGLE else _alias(device)
        if name is not None:
            found[str(device.tag), name] = device
    return found


def _alias(device: Element) -> str | None:
    alias = device.find("alias")
    return alias.get("name") if alias is not None else None


def _remember(tree: Element, text: str) -> None:
    metadata = tree.find("metadata")
    if metadata is None:
        metadata = etree.SubElement(tree, "metadata")
    for old in metadata.findall(domain_xml.ASKED):
        metadata.remove(old)
    ours = etree.SubElement(metadata, domain_xml.ASKED, nsmap={"hostdev": etree.QName(domain_xml.ASKED).namespace})
    ours.text = text


def _add(parent: Element, tag: str, text: str, **attributes: str) -> None:
    etree.SubElement(parent, tag, attributes).text = text


def _texts(elements: Iterable[Element]) -> list[str]:
    return [_text(element) for element in elements]


def _parse(text: str) -> Element:
    return etree.fromstring(text.encode(), _PARSER)


def _text(element: Element) -> str:
    return etree.tostring(element, encoding="unicode", with_tail=False)
